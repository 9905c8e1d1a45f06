//! Puts a release into the slot that does not run, up to the commit point.
//!
//! The order is what makes a power cut harmless: environment void, root, kernel image, both read back from the disk
//! and checked against each other, and only then the environment that makes the chooser start it. What was written
//! is kept over restarts: a download goes on where it was cut.

use super::boot_control::{BootControl, BootError};
use super::disk::Disk;
use super::records::Records;
use super::slot::{self, Place, SlotError};
use super::source::{Source, SourceError};
use crate::store::StoreError;
use aws_lc_rs::digest::{Context, SHA256};
use edge_agent_core::update::release::{Part, Release};
use edge_agent_core::update::trial::{Attempt, Stage};
use std::sync::Arc;
use tokio::sync::Mutex;
use verona_contract::api::FIRMWARE_PIECE;

/// Octets of one request, and of one read of what is there already.
const PIECE: u64 = FIRMWARE_PIECE;

/// Octets after which progress is made durable.
const SYNC_EVERY: u64 = 8 << 20;

/// Why a release is not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// It was not fetched.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It does not lie in the slot as it should.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The chooser.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The record.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread ended.
    #[error("a thread that wrote the slot ended")]
    Thread,
}

impl InstallError {
    /// Whether what was written is of no use.
    const fn spoiled(&self) -> bool {
        matches!(
            self,
            Self::Slot(
                SlotError::Content(_)
                    | SlotError::ReadBack(_)
                    | SlotError::Mismatch
                    | SlotError::Kernel(_)
                    | SlotError::CommandLine(_)
            )
        )
    }
}

/// The parts of an installation.
#[derive(Clone)]
pub(super) struct Installation {
    pub(super) disk: Disk,
    pub(super) boot: Arc<dyn BootControl>,
    pub(super) records: Arc<Records>,
}

impl Installation {
    /// Installs the release of `attempt`, which is the record's, from where it was cut.
    ///
    /// # Errors
    ///
    /// [`InstallError`]. The slot that runs is untouched in every case, and the other one does not start.
    pub(super) async fn run(&self, attempt: &Attempt, source: &Mutex<Source>) -> Result<(), InstallError> {
        let written = self.write(attempt, source).await;
        if written.as_ref().is_err_and(InstallError::spoiled) {
            self.records.reach(Stage::Writing { root: 0, kernel: 0 })?;
        }
        written
    }

    async fn write(&self, attempt: &Attempt, source: &Mutex<Source>) -> Result<(), InstallError> {
        let (slot, Release { root, kernel, .. }) = (attempt.slot, attempt.release.clone());
        let (mut root_done, mut kernel_done) = match attempt.stage {
            Stage::Writing { root, kernel } => (root, kernel),
            // The environment alone was not written.
            Stage::Installed => (root.length, kernel.length),
        };
        let parts = self.clone();
        blocking(move || Ok(parts.boot.void(slot)?)).await?;
        let (disk, length) = (self.disk.clone(), root.length);
        let root_place = blocking(move || Ok(slot::root(&disk, slot, length)?)).await?;
        let reached = |done| Stage::Writing { root: done, kernel: kernel_done };
        self.fetch(&root, &root_place, root_done, source, &reached).await?;
        root_done = root.length;
        let (disk, length) = (self.disk.clone(), kernel.length);
        let kernel_place = blocking(move || Ok(slot::kernel(&disk, slot, length)?)).await?;
        let reached = |done| Stage::Writing { root: root_done, kernel: done };
        self.fetch(&kernel, &kernel_place, kernel_done, source, &reached).await?;
        kernel_done = kernel.length;
        self.records.reach(Stage::Writing { root: root_done, kernel: kernel_done })?;
        let parts = self.clone();
        blocking(move || {
            root_place.check(&root)?;
            kernel_place.check(&kernel)?;
            let named = kernel_place.named_root()?;
            root_place.check_root(&named)?;
            if slot::root_of(&parts.disk, slot.other()).is_some_and(|runs| runs.root_hash == named.root_hash)
            {
                return Err(SlotError::Runs.into());
            }
            // First the record: after the commit point it must be known what was installed.
            parts.records.reach(Stage::Installed)?;
            Ok(parts.boot.install(slot)?)
        })
        .await
    }

    /// Fetches `part` into `place`, of which `done` octets are there.
    async fn fetch(
        &self,
        part: &Part,
        place: &Place,
        done: u64,
        source: &Mutex<Source>,
        reached: &(dyn Fn(u64) -> Stage + Sync),
    ) -> Result<(), InstallError> {
        let mut at = done.min(part.length);
        let (held, until) = (place.clone(), at);
        let mut hash = blocking(move || hash_of(&held, until)).await?;
        let mut durable = at;
        while at < part.length {
            let end = (at + PIECE).min(part.length);
            let octets = source.lock().await.piece(&part.name, at..end).await?;
            hash.update(&octets);
            let (place, start) = (place.clone(), at);
            let sync = end - durable >= SYNC_EVERY || end == part.length;
            blocking(move || {
                place.write(start, &octets)?;
                if sync {
                    place.sync()?;
                }
                Ok(())
            })
            .await?;
            at = end;
            if sync {
                self.records.reach(reached(at))?;
                durable = at;
            }
        }
        if hash.finish().as_ref() == part.sha256 {
            return Ok(());
        }
        Err(SlotError::Content(part.name.clone()).into())
    }
}

/// What was written before a restart takes part in the hash.
fn hash_of(place: &Place, until: u64) -> Result<Context, InstallError> {
    let mut hash = Context::new(&SHA256);
    let mut at = 0;
    while at < until {
        let end = (at + PIECE).min(until);
        hash.update(&place.read(at, end - at)?);
        at = end;
    }
    Ok(hash)
}

/// Runs what waits for the disk where it holds up nothing else.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, InstallError> + Send + 'static,
) -> Result<T, InstallError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| InstallError::Thread)?
}
