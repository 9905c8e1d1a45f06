//! What a daemon gives up when it has opened what it needs: its user, its capabilities, the files and the system
//! calls that it has no business with.
//!
//! [`Confinement::enter`] is called once, before the first thread: capabilities, Landlock and seccomp belong to a
//! thread, and threads and children inherit them. What the daemons keep, and why, is theirs to decide; see
//! `SECURITY.md` beside this crate. A kernel without Landlock is told in the [`Report`], not an error: the other
//! layers stand without it.

#![deny(unsafe_code)]

mod account;
mod capabilities;
mod files;
#[allow(unsafe_code)] // the syscall layer, and nothing else
mod sys;
mod system_calls;

pub use account::{Account, AccountError};
pub use capabilities::{Capability, CapabilitySet};
pub use files::{FileLayer, Files, Reading};
pub use system_calls::SystemCalls;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

/// How long threads of the start may take to end: those that test the kernel have a namespace to take down.
const ENDING: Duration = Duration::from_secs(10);

/// What is kept.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// Whom to become; none = stay who started it.
    pub account: Option<Account>,
    /// The capabilities that stay, as far as they are there; children get them too if they may be started at all.
    pub capabilities: CapabilitySet,
    /// The files that stay in reach.
    pub files: Files,
    /// The system calls that stay.
    pub system_calls: SystemCalls,
}

/// A layer that could not be put in force. What was given up before stays given up: the process is to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfinementError {
    /// The kernel refused a step.
    #[error("cannot {action}")]
    Step {
        /// What was being done.
        action: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The rules about files.
    #[error("cannot confine the files")]
    Files(#[source] landlock::RulesetError),
    /// The filter of system calls: it does not compile, or the kernel has no seccomp.
    #[error("cannot filter the system calls")]
    SystemCalls(#[source] seccompiler::Error),
    /// Threads would stay outside.
    #[error("the process has threads already")]
    Threads,
}

impl ConfinementError {
    fn step(action: &'static str) -> impl Fn(nix::Error) -> Self {
        move |errno| Self::Step { action, source: errno.into() }
    }
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    account: Option<String>,
    capabilities: CapabilitySet,
    /// How far Landlock is in force.
    pub files: FileLayer,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(account) = &self.account {
            write!(f, "user {account}, ")?;
        }
        write!(f, "capabilities {}, {}, system calls filtered", self.capabilities, self.files)
    }
}

impl Confinement {
    /// Gives everything else up, for good.
    ///
    /// # Errors
    ///
    /// [`ConfinementError`]; the process is half confined then and has to end.
    pub fn enter(self) -> Result<Report, ConfinementError> {
        alone()?;
        capabilities::bound(self.capabilities)?;
        if let Some(account) = &self.account {
            become_user(account)?;
        }
        let capabilities = capabilities::keep(self.capabilities)?;
        nix::sys::prctl::set_no_new_privs().map_err(ConfinementError::step("refuse new privileges"))?;
        let files = self.files.confine()?;
        self.system_calls.filter()?;
        Ok(Report { account: self.account.map(|account| account.name), capabilities, files })
    }
}

/// Waits for threads that are about to end.
fn alone() -> Result<(), ConfinementError> {
    let deadline = Instant::now() + ENDING;
    let count = || {
        sys::single_threaded().map_err(|source| ConfinementError::Step { action: "count threads", source })
    };
    while !count()? {
        if Instant::now() > deadline {
            return Err(ConfinementError::Threads);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The capabilities stay with the process; they are cut down next.
fn become_user(account: &Account) -> Result<(), ConfinementError> {
    sys::keep_capabilities().map_err(ConfinementError::step("keep capabilities over the change of user"))?;
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(ConfinementError::step("set the groups"))?;
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    setresgid(gid, gid, gid).map_err(ConfinementError::step("change the group"))?;
    setresuid(uid, uid, uid).map_err(ConfinementError::step("change the user"))
}
