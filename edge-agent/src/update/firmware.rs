//! What the running image says of itself: which firmware it is, and whom it trusts for the next one.
//!
//! Both files are part of the verified root, so nobody but who signs images can change them.

use super::disk::{Disk, DiskError};
use crate::settings::Settings;
use crate::store::{self, StoreError};
use edge_agent_core::update::Slot;
use serde::Deserialize;
use std::path::PathBuf;
use verona_contract::config::Version;

/// Each file is a few kilobytes.
const MAX_FILE: usize = 1 << 20;

/// `release.json` of an image.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Which hardware it is for.
    pub edition: String,
    /// Its version.
    pub version: Version,
    /// The least version that may follow it.
    pub floor: Version,
}

/// The running firmware.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// What it is.
    pub image: Image,
    /// Whom it trusts for the next one: TUF's root metadata.
    pub root: Vec<u8>,
    /// Where both slots are.
    pub disk: Disk,
    /// The one that runs.
    pub running: Slot,
}

/// The image does not say what it is, or runs from nowhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FirmwareError {
    /// A file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its content.
    #[error("{path}: {rule}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should be.
        rule: String,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl Firmware {
    /// Reads it; none when this system is no firmware image, as in a package or a test.
    ///
    /// # Errors
    ///
    /// [`FirmwareError`].
    pub fn load(settings: &Settings) -> Result<Option<Self>, FirmwareError> {
        let path = settings.firmware.join("release.json");
        let Some(json) = store::read(&path, MAX_FILE)? else { return Ok(None) };
        let image = serde_json::from_slice(&json)
            .map_err(|error| FirmwareError::Content { path, rule: error.to_string() })?;
        let path = settings.firmware.join("root.json");
        let Some(root) = store::read(&path, MAX_FILE)? else {
            return Err(FirmwareError::Content { path, rule: "there must be one".into() });
        };
        let (disk, running) = match (&settings.firmware_disk, settings.running_slot) {
            (Some(path), Some(slot)) => (Disk::Image(path.clone()), slot.into()),
            _ => Disk::of_running_root()?,
        };
        Ok(Some(Self { image, root, disk, running }))
    }
}
