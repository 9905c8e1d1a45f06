//! What can go wrong in the lab, by whose fault it is.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the lab itself; what the parts under test did wrong is for the caller to say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {doing}")]
    Io {
        /// What was being done, to which path or name.
        doing: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A command that should have succeeded did not.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to its standard error, trimmed.
        stderr: String,
    },
    /// A condition did not become true in time.
    #[error("waited {waited:?} in vain for {what}")]
    Deadline {
        /// The condition.
        what: String,
        /// The time given.
        waited: Duration,
    },
    /// A process ended while something was still expected of it.
    #[error("{name} ended early ({status}); the end of its log {log}:\n{tail}", log = log.display())]
    Ended {
        /// The process's name in the run.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// The machine lacks something.
    #[error("{0}")]
    Environment(String),
}

impl Error {
    /// For `map_err`: names what was being done when the system refused.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let doing = doing.into();
        move |source| Error::Io { doing, source }
    }

    /// As [`Error::io`], for calls through `nix`.
    pub fn os(doing: impl Into<String>) -> impl FnOnce(nix::Error) -> Error {
        let doing = doing.into();
        move |errno| Error::Io { doing, source: errno.into() }
    }
}
