//! The state machine of an update: what a start of the agent proves about the attempt that was under way, and when a
//! new system may call itself good.
//!
//! The boot environments are the truth; the record on the data partition only says what the attempt was about. So a
//! power cut at any point leaves one of the cases of [`Resumption`], and a lost record none that is not safe.

use super::Slot;
use super::chooser::next_start;
use super::environment::{Environment, State};
use super::release::{Barred, Release};
use serde::{Deserialize, Serialize};
use verona_contract::config::Version;

/// Versions that failed and are remembered; more than anyone publishes in vain.
const MAX_BARRED: usize = 16;

/// What the agent remembers of updates, on the data partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The update under way.
    pub attempt: Option<Attempt>,
    /// The newest version that proved itself here.
    pub highest: Option<Version>,
    /// What failed here.
    pub barred: Vec<Barred>,
    /// How the last attempt ended.
    pub last: Option<Outcome>,
}

/// An update under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What is installed.
    pub release: Release,
    /// Where.
    pub slot: Slot,
    /// How far it has come.
    pub stage: Stage,
    /// Whether the center answered before the restart: only then must it answer after it.
    pub center_answered: bool,
    /// What the system on trial noted against itself before it restarted the box.
    pub failure: Option<String>,
}

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The slot is being written; so much is on the disk for good.
    Writing {
        /// Octets of the root.
        root: u64,
        /// Octets of the kernel image.
        kernel: u64,
    },
    /// The environment says so, or is about to.
    Installed,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The version that was tried.
    pub version: Version,
    /// Why the box went back; none = it proved itself.
    pub failure: Option<String>,
}

/// What there is to do after a start of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// Nothing is under way.
    Idle,
    /// The slot is half-written: go on.
    Write,
    /// The new system waits for the restart.
    Restart,
    /// The new system runs and must prove itself.
    Prove,
    /// It has proven itself; only the record does not say so yet.
    Proven,
    /// The box is back on the old system, for this reason.
    WentBack(String),
}

/// Judges the attempt of `record` by what runs and by the environments, in the order of the slots.
#[must_use]
pub fn resume(record: &Record, running: Slot, environments: [Option<&Environment>; 2]) -> Resumption {
    let own = environments[running.index()];
    let on_trial = own.is_some_and(|environment| environment.state() == State::Testing);
    let Some(attempt) = &record.attempt else {
        // The data partition was made anew in between; the chooser still waits for a word.
        return if on_trial { Resumption::Prove } else { Resumption::Idle };
    };
    if attempt.slot == running {
        return if on_trial { Resumption::Prove } else { Resumption::Proven };
    }
    let other = environments[attempt.slot.index()];
    let next = next_start(environments).map(|start| start.slot);
    match (other.map(Environment::state), attempt.stage) {
        // The commit point was passed, whatever the record had time to say.
        (Some(State::Installed), _) if next == Some(attempt.slot) => Resumption::Restart,
        (Some(State::Failed | State::Testing), Stage::Installed) => {
            let silent = "it did not come up: it hung, restarted by itself, or was refused by the firmware";
            Resumption::WentBack(attempt.failure.clone().unwrap_or_else(|| silent.to_owned()))
        }
        _ => Resumption::Write,
    }
}

impl Record {
    /// The attempt ended well.
    pub fn proven(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            let version = attempt.release.version;
            self.highest = self.highest.max(Some(version));
            self.last = Some(Outcome { version, failure: None });
        }
    }

    /// The attempt ended on the old system: its version is not tried again.
    pub fn went_back(&mut self, reason: &str) {
        if let Some(attempt) = self.attempt.take() {
            let version = attempt.release.version;
            self.barred.retain(|barred| barred.version != version);
            self.barred.push(Barred { version, reason: reason.to_owned() });
            let excess = self.barred.len().saturating_sub(MAX_BARRED);
            self.barred.drain(..excess);
            self.last = Some(Outcome { version, failure: Some(reason.to_owned()) });
        }
    }
}

/// What a system on trial can say for itself.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Why the tunnel does not carry out the configuration in force; none = it does, or there is none.
    pub tunnel: Option<String>,
    /// Why the center does not answer; none = it does.
    pub center: Option<String>,
}

/// Whether a system on trial is good; `center_answered` is [`Attempt::center_answered`].
///
/// # Errors
///
/// What is still missing.
pub fn judge(health: &Health, center_answered: bool) -> Result<(), String> {
    if let Some(reason) = &health.tunnel {
        return Err(format!("the tunnel: {reason}"));
    }
    match &health.center {
        // A line that was down before says nothing about the new system.
        Some(reason) if center_answered => Err(format!("the center, which answered before: {reason}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
