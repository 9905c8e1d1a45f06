//! The boot chooser's memory: which slot starts next, and whether it has proven itself.
//!
//! [`BootControl`] is all that an update needs of a chooser; [`BootGuard`] keeps it as EFI Boot Guard reads it. The
//! environment's file is overwritten where it lies: the file system around it stays as it was made.

use super::disk::{Disk, DiskError};
use super::slot::{KERNEL, Place, SlotError, volume, write_tables};
use edge_agent_core::update::Slot;
use edge_agent_core::update::chooser::next_start;
use edge_agent_core::update::environment::{Environment, EnvironmentError, LENGTH, State};
use std::sync::Arc;

/// The environment's file.
const FILE: &str = "BGENV.DAT";

/// Seconds until the watchdog bites when the running slot's environment does not read: a slow disk's whole start,
/// and a half.
const WATCHDOG_S: u16 = 120;

/// The chooser was not told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// The boot partition.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// Its content.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// What was written would not be followed.
    #[error("the boot chooser would not start slot {0}")]
    NotChosen(Slot),
    /// There is nothing to call good.
    #[error("slot {0} is not on trial")]
    NotOnTrial(Slot),
}

impl From<DiskError> for BootError {
    fn from(error: DiskError) -> Self {
        Self::Slot(error.into())
    }
}

/// What an update needs of a boot chooser. Each call returns when the disk has it.
pub trait BootControl: Send + Sync {
    /// Both environments in the order of the slots; none = does not read, which the chooser ignores, too.
    fn environments(&self) -> [Option<Environment>; 2];

    /// `slot` will be written: it never starts.
    ///
    /// # Errors
    ///
    /// [`BootError`].
    fn void(&self, slot: Slot) -> Result<(), BootError>;

    /// `slot` starts next, on trial. The commit point of an update.
    ///
    /// # Errors
    ///
    /// [`BootError`].
    fn install(&self, slot: Slot) -> Result<(), BootError>;

    /// `slot`, which runs, is good.
    ///
    /// # Errors
    ///
    /// [`BootError`].
    fn confirm(&self, slot: Slot) -> Result<(), BootError>;
}

/// EFI Boot Guard's environments on a disk.
#[derive(Clone, Debug)]
pub struct BootGuard {
    disk: Disk,
}

impl BootGuard {
    /// Those of `disk`.
    #[must_use]
    pub const fn new(disk: Disk) -> Self {
        Self { disk }
    }

    fn environment(&self, slot: Slot) -> Result<Environment, BootError> {
        let partition = self.disk.partition(slot.boot())?;
        let file = volume(&partition, slot)?.file(FILE);
        let file = file.map_err(|error| SlotError::Fat(slot.boot(), error))?;
        let file = file.filter(|file| file.length == LENGTH as u64).ok_or(EnvironmentError::Length(0))?;
        let octets = Place::new(Arc::new(partition), file).read(0, LENGTH as u64)?;
        Ok(Environment::parse(&octets)?)
    }

    fn write(&self, slot: Slot, environment: &Environment) -> Result<(), BootError> {
        let partition = self.disk.partition(slot.boot())?;
        let mut volume = volume(&partition, slot)?;
        let fat = |error| SlotError::Fat(slot.boot(), error);
        // A file that was lost or damaged is made anew; otherwise no table changes.
        let held = volume.file(FILE).ok().flatten().filter(|file| file.length == LENGTH as u64);
        let file = match held {
            Some(file) => file,
            None => {
                let file = volume.allot(FILE, LENGTH as u32).map_err(fat)?;
                write_tables(&partition, &volume)?;
                file
            }
        };
        let place = Place::new(Arc::new(partition), file);
        place.write(0, environment.as_bytes())?;
        place.sync()?;
        let mut back = Vec::with_capacity(LENGTH);
        place.read_back(|octets| back.extend_from_slice(octets))?;
        if back == environment.as_bytes() { Ok(()) } else { Err(SlotError::ReadBack(FILE.into()).into()) }
    }
}

impl BootControl for BootGuard {
    fn environments(&self) -> [Option<Environment>; 2] {
        Slot::BOTH.map(|slot| {
            let read = self.environment(slot);
            read.inspect_err(|error| tracing::warn!(%slot, %error, "boot environment")).ok()
        })
    }

    fn void(&self, slot: Slot) -> Result<(), BootError> {
        let environment = self.environment(slot).map_or_else(|_| Environment::void(), Environment::voided);
        self.write(slot, &environment)
    }

    fn install(&self, slot: Slot) -> Result<(), BootError> {
        let environments = self.environments();
        let revision = environments.iter().flatten().map(Environment::revision).max().unwrap_or(0);
        // 0 stays 0: where nobody feeds a watchdog, one that is armed would restart the box for ever.
        let running = environments[slot.other().index()].as_ref();
        let watchdog_s = running.map_or(WATCHDOG_S, Environment::watchdog_s);
        let before = environments[slot.index()].clone().unwrap_or_else(Environment::void);
        let kernel = format!("L:{}:{KERNEL}", slot.boot());
        self.write(slot, &before.installed(&kernel, revision.saturating_add(1), watchdog_s)?)?;
        let [a, b] = self.environments();
        match next_start([a.as_ref(), b.as_ref()]) {
            Some(start) if start.slot == slot => Ok(()),
            _ => Err(BootError::NotChosen(slot)),
        }
    }

    fn confirm(&self, slot: Slot) -> Result<(), BootError> {
        let environment = self.environment(slot)?;
        match environment.state() {
            State::Good => Ok(()),
            State::Testing => self.write(slot, &environment.in_state(State::Good)),
            _ => Err(BootError::NotOnTrial(slot)),
        }
    }
}
