//! A real process with its output in a file, ended when it is dropped.

use crate::namespace::command_line;
use crate::{Error, Result, Run, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// How long a process may take to end after SIGTERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many lines of a log an error quotes.
const TAIL: usize = 15;

/// A child process. It is stopped on drop unless its run is kept.
#[derive(Debug)]
pub struct Process {
    run: Run,
    name: String,
    child: Child,
    log: PathBuf,
    /// Where in the log this process began: before it are others of the same name.
    begin: usize,
}

impl Process {
    pub(crate) fn start(run: &Run, name: &str, mut command: Command) -> Result<Self> {
        let log = run.dir().join(format!("{name}.log"));
        let doing = || format!("open the log {}", log.display());
        // Appended to, so that a restarted process continues the log of the one before it.
        let file = File::options().create(true).append(true).open(&log).map_err(Error::io(doing()))?;
        let begin = fs::read(&log).map_or(0, |earlier| earlier.len());
        let line = command_line(&command);
        let child = command
            .stdout(file.try_clone().map_err(Error::io(doing()))?)
            .stderr(file)
            .spawn()
            .map_err(Error::io(format!("start `{line}`")))?;
        Ok(Self { run: run.clone(), name: name.to_owned(), child, log, begin })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// The name of its log in the run.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its output goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What it has written so far to either output.
    #[must_use]
    pub fn log(&self) -> String {
        let octets = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(octets.get(self.begin..).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until its log contains `text`.
    ///
    /// # Errors
    ///
    /// The process ended without it, or `limit` passed.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) -> Result<()> {
        self.wait_for(&format!("`{text}` in the log of {}", self.name), limit, |log| log.contains(text))
    }

    /// Waits until `condition` holds for its log.
    ///
    /// # Errors
    ///
    /// The process ended before that, or `limit` passed.
    pub fn wait_for(&mut self, what: &str, limit: Duration, condition: impl Fn(&str) -> bool) -> Result<()> {
        wait::for_value(what, limit, || {
            if condition(&self.log()) {
                return Ok(Some(()));
            }
            self.must_run().map(|()| None)
        })
    }

    /// Fails with the end of the log if the process has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Ended`].
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::Ended {
                name: self.name.clone(),
                status,
                log: self.log.clone(),
                tail: tail(&self.log()),
            }),
            Err(e) => Err(Error::io(format!("ask after {}", self.name))(e)),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// It still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::for_value(&what, limit, || {
            self.child.try_wait().map_err(Error::io(format!("wait for {}", self.name)))
        })
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).map_err(Error::os(format!("send {signal} to {}", self.name)))
    }

    /// Kills it without warning, as a crash or a power cut would, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// It was gone already.
    pub fn crash(&mut self) -> Result<()> {
        self.must_run()?;
        self.signal(Signal::SIGKILL)?;
        self.wait(PATIENCE).map(drop)
    }

    /// Ends it by SIGTERM, or by SIGKILL if it will not.
    pub fn stop(&mut self) {
        if self.is_running() && self.signal(Signal::SIGTERM).is_ok() && self.wait(PATIENCE).is_err() {
            let _ = self.signal(Signal::SIGKILL);
            let _ = self.wait(PATIENCE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.run.is_kept() {
            self.stop();
        }
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
