//! Firmware updates: follows the configuration's wish, installs into the other slot, restarts in the window, and
//! after a restart proves the new system or goes back.
//!
//! The rules are in `edge_agent_core::update`; the files here do what they say. [`Updater`] is one update after
//! another, without a clock of its own but for the time of a proof; [`follow`] is what the agent runs.

mod boot_control;
mod disk;
mod firmware;
mod host;
mod install;
mod records;
mod repository;
mod slot;
mod source;

pub use boot_control::{BootControl, BootError, BootGuard};
pub use disk::{Disk, DiskError, Partition};
pub use firmware::{Firmware, FirmwareError, Image};
pub use host::{AgentHost, follow};
pub(crate) use host::{NO_FIRMWARE, restart};
pub use install::InstallError;
pub use records::Records;
pub use repository::{RepositoryError, Trust};
pub use slot::SlotError;
pub use source::{Source, SourceError, Web};

use crate::center::chain;
use crate::store::StoreError;
use edge_agent_core::update::release::{Refusal, Release, ReleaseError, Standing};
use edge_agent_core::update::trial::{self, Attempt, Health, Record, Resumption, Stage};
use edge_agent_core::update::{Slot, window};
use install::{Installation, blocking};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use verona_contract::api::{MAX_UPDATE_REASON, UpdateAck, UpdateState};
use verona_contract::config::{UpdateConfig, Version};

/// How often a system on trial is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What an update needs of the agent around it.
pub trait Host: Send + Sync {
    /// The update section of the configuration in force; none = nothing to do.
    fn wish(&self) -> Option<UpdateConfig>;
    /// Unix seconds, or why the clock is not believed.
    ///
    /// # Errors
    ///
    /// One line.
    fn now_s(&self) -> Result<i64, String>;
    /// A new connection to where firmware comes from.
    ///
    /// # Errors
    ///
    /// The wish's URL is not usable.
    fn source(&self, wish: &UpdateConfig) -> Result<Source, SourceError>;
    /// How the box is.
    fn health(&self) -> impl Future<Output = Health> + Send;
    /// Tells the center, sooner or later.
    fn report(&self, ack: UpdateAck) -> impl Future<Output = ()> + Send;
    /// Restarts the box; returns when it is under way.
    ///
    /// # Errors
    ///
    /// One line.
    fn restart(&self) -> Result<(), String>;
}

/// Why an update is not under way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The box's own rules.
    #[error("version {0}: {1}")]
    Refused(Version, Refusal),
    /// The clock: by it, old metadata is told from new.
    #[error("the clock is not believed: {0}")]
    Clock(String),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// It does not have the version.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The URL.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The slot.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The restart.
    #[error("cannot restart: {0}")]
    Restart(String),
}

/// What one pass came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The wish is fulfilled, or there is none.
    Idle,
    /// The new system is installed and waits for the window.
    Waiting,
    /// The box restarts.
    Restarting,
}

/// What `edgectl update` shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpdateInfo {
    /// Which hardware the image is for.
    pub edition: String,
    /// The version that runs.
    pub running: Version,
    /// The slot that it runs from.
    pub slot: Slot,
    /// The version that the configuration asks for.
    pub wanted: Option<Version>,
    /// Why it does not run, and nothing is under way.
    pub failure: Option<String>,
    /// What is under way, how the last attempt ended, what failed.
    pub record: Record,
}

/// One update after another.
pub struct Updater<H> {
    host: H,
    firmware: Firmware,
    trust: Trust,
    parts: Installation,
    prove_limit: Duration,
    /// What was told of last, so that an error that stays is told once.
    told: Mutex<Option<(Version, String)>>,
    failure: Mutex<Option<String>>,
}

impl<H: Host> Updater<H> {
    /// `folder` is where records are kept; a system on trial has `prove_limit` to prove itself.
    ///
    /// # Errors
    ///
    /// [`UpdateError`]: the disk, or the image's trust root.
    pub fn new(
        host: H,
        firmware: Firmware,
        folder: &Path,
        prove_limit: Duration,
    ) -> Result<Self, UpdateError> {
        crate::store::make_directory(folder)?;
        let parts = Installation {
            disk: firmware.disk.clone(),
            boot: Arc::new(BootGuard::new(firmware.disk.clone())),
            records: Arc::new(Records::load(folder.join("record.json"))?),
        };
        let trust = Trust::new(folder.to_owned(), firmware.root.clone())?;
        let (told, failure) = (Mutex::default(), Mutex::default());
        Ok(Self { host, firmware, trust, parts, prove_limit, told, failure })
    }

    /// As `edgectl update` shows it.
    #[must_use]
    pub fn info(&self) -> UpdateInfo {
        let image = &self.firmware.image;
        UpdateInfo {
            edition: image.edition.clone(),
            running: image.version,
            slot: self.firmware.running,
            wanted: self.host.wish().map(|wish| wish.version),
            failure: self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            record: self.parts.records.record(),
        }
    }

    /// After a start of the agent: ends what a restart was about. Returns when the running system has proven
    /// itself, or has asked for a restart because it did not.
    ///
    /// # Errors
    ///
    /// [`UpdateError`]; to be called again.
    pub async fn begin(&self) -> Result<Pass, UpdateError> {
        let record = self.parts.records.record();
        match self.resumption(&record).await? {
            Resumption::Prove => self.prove(&record).await,
            Resumption::Proven => self.proven().await,
            Resumption::WentBack(reason) => {
                // Told first: a report that is lost is worse than one that comes twice.
                if let Some(version) = record.attempt.map(|attempt| attempt.release.version) {
                    tracing::error!(%version, reason, "the update failed; the version before runs again");
                    self.report(version, UpdateState::WentBack, Some(reason.clone())).await;
                }
                self.parts.records.change(|record| record.went_back(&reason))?;
                Ok(Pass::Idle)
            }
            Resumption::Idle | Resumption::Write | Resumption::Restart => Ok(Pass::Idle),
        }
    }

    /// One step towards the wish: installs, or restarts, or finds nothing to do.
    ///
    /// # Errors
    ///
    /// [`UpdateError`]; to be called again after a while.
    pub async fn pass(&self) -> Result<Pass, UpdateError> {
        let Some(wish) = self.host.wish() else { return Ok(Pass::Idle) };
        let outcome = self.towards(&wish).await;
        let failure = outcome.as_ref().err().map(|error| chain(error));
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&failure);
        if let Some(reason) = failure {
            let news = (wish.version, reason.clone());
            let before = self.told.lock().unwrap_or_else(PoisonError::into_inner).replace(news.clone());
            if before.as_ref() != Some(&news) {
                tracing::warn!(version = %wish.version, reason, "firmware not installed");
                self.report(wish.version, UpdateState::Refused, Some(reason)).await;
            }
        }
        outcome
    }

    async fn towards(&self, wish: &UpdateConfig) -> Result<Pass, UpdateError> {
        let record = self.parts.records.record();
        let resumption = self.resumption(&record).await?;
        if resumption == Resumption::Restart
            && record.attempt.as_ref().is_some_and(|attempt| attempt.release.version == wish.version)
        {
            return self.restart_in(wish);
        }
        let image = &self.firmware.image;
        let standing = Standing {
            running: image.version,
            floor: image.floor,
            highest: record.highest,
            barred: &record.barred,
        };
        match standing.admits(wish.version) {
            Ok(()) => {}
            Err(Refusal::Runs) => {
                self.drop_attempt(&resumption).await?;
                return Ok(Pass::Idle);
            }
            Err(refusal) => return Err(UpdateError::Refused(wish.version, refusal)),
        }
        self.host.now_s().map_err(UpdateError::Clock)?;
        let source = Arc::new(tokio::sync::Mutex::new(self.host.source(wish)?));
        let targets = self.trust.load(source.clone()).await?;
        let release = Release::find(&targets, &image.edition, wish.version)?;
        let attempt = self.attempt(&record, release).await?;
        self.parts.run(&attempt, &source).await?;
        tracing::info!(version = %wish.version, slot = %attempt.slot, "firmware installed");
        self.report(wish.version, UpdateState::Installed, None).await;
        self.restart_in(wish)
    }

    /// The attempt of the record if it is about `release`, or else a new one.
    async fn attempt(&self, record: &Record, release: Release) -> Result<Attempt, UpdateError> {
        let center_answered = self.host.health().await.center.is_none();
        let slot = self.firmware.running.other();
        let begun = record.attempt.as_ref().filter(|begun| begun.release == release && begun.slot == slot);
        let attempt = match begun {
            Some(begun) => Attempt { center_answered, failure: None, ..begun.clone() },
            None => {
                let stage = Stage::Writing { root: 0, kernel: 0 };
                Attempt { release, slot, stage, center_answered, failure: None }
            }
        };
        self.parts.records.change(|record| record.attempt = Some(attempt.clone()))?;
        Ok(attempt)
    }

    /// The wish went back to what runs: what waits for a restart must not start.
    async fn drop_attempt(&self, resumption: &Resumption) -> Result<(), UpdateError> {
        if *resumption == Resumption::Restart {
            let (boot, slot) = (self.parts.boot.clone(), self.firmware.running.other());
            blocking(move || Ok(boot.void(slot)?)).await?;
        }
        Ok(self.parts.records.change(|record| record.attempt = None)?)
    }

    fn restart_in(&self, wish: &UpdateConfig) -> Result<Pass, UpdateError> {
        let now_s = match (&wish.window, self.host.now_s()) {
            (None, _) => 0,
            (Some(_), now) => now.map_err(UpdateError::Clock)?,
        };
        if !window::is_open(wish.window.as_ref(), now_s) {
            return Ok(Pass::Waiting);
        }
        tracing::info!(version = %wish.version, "restarting into the new firmware");
        self.host.restart().map_err(UpdateError::Restart)?;
        Ok(Pass::Restarting)
    }

    async fn prove(&self, record: &Record) -> Result<Pass, UpdateError> {
        let own = self.firmware.image.version;
        if record.attempt.as_ref().is_some_and(|attempt| attempt.release.version != own) {
            // What is wanted would never run, and the box would install it for ever.
            return self.go_back(format!("it says of itself that it is version {own}"));
        }
        let center_answered = record.attempt.as_ref().is_some_and(|attempt| attempt.center_answered);
        let deadline = Instant::now() + self.prove_limit;
        loop {
            let reason = match trial::judge(&self.host.health().await, center_answered) {
                Ok(()) => return self.proven().await,
                Err(reason) => reason,
            };
            if Instant::now() >= deadline {
                return self.go_back(format!("after {:?} still: {reason}", self.prove_limit));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Restarts without a word to the chooser, which starts the system before.
    fn go_back(&self, reason: String) -> Result<Pass, UpdateError> {
        tracing::error!(reason, "the new firmware does not prove itself: going back");
        self.parts.records.change(|record| {
            if let Some(attempt) = &mut record.attempt {
                attempt.failure = Some(reason);
            }
        })?;
        self.host.restart().map_err(UpdateError::Restart)?;
        Ok(Pass::Restarting)
    }

    /// The word to the chooser is what makes it final; who hears of it, and when, changes nothing about that.
    async fn proven(&self) -> Result<Pass, UpdateError> {
        let (boot, slot) = (self.parts.boot.clone(), self.firmware.running);
        blocking(move || Ok(boot.confirm(slot)?)).await?;
        let version = self.firmware.image.version;
        tracing::info!(%version, %slot, "this firmware has proven itself");
        self.report(version, UpdateState::Confirmed, None).await;
        self.parts.records.change(|record| {
            record.proven();
            record.highest = record.highest.max(Some(version));
        })?;
        Ok(Pass::Idle)
    }

    async fn resumption(&self, record: &Record) -> Result<Resumption, UpdateError> {
        let (boot, record, running) = (self.parts.boot.clone(), record.clone(), self.firmware.running);
        Ok(blocking(move || {
            let [a, b] = boot.environments();
            Ok(trial::resume(&record, running, [a.as_ref(), b.as_ref()]))
        })
        .await?)
    }

    async fn report(&self, version: Version, state: UpdateState, reason: Option<String>) {
        let (running, at_ns) = (self.firmware.image.version, crate::clock::wall_ns());
        // A longer one would be refused, and then nobody heard of the failure.
        let reason = reason.map(|mut reason| {
            reason.truncate(reason.floor_char_boundary(MAX_UPDATE_REASON));
            reason
        });
        self.host.report(UpdateAck { version, state, reason, running, at_ns }).await;
    }
}
