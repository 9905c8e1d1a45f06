//! The firmware repository: TUF (The Update Framework, 1.0) by the crate `tough`.
//!
//! Roots rotate, thresholds, old, frozen and mixed metadata: all refused there. What is decided here is where trust
//! begins (the image's root, or the newest one that it led to), that the clock was believed before, and that what
//! was learnt outlives a power cut.

use super::source::{Source, SourceError};
use crate::store::{self, StoreError};
use edge_agent_core::update::release::{Custom, Part};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;
use tough::schema::{Root, Signed};
use tough::{
    Bytes, Limits, Repository, RepositoryLoader, Transport, TransportError, TransportErrorKind,
    TransportStream, async_trait,
};
use url::Url;

/// Most octets of any metadata file.
const MAX_METADATA: u64 = 1 << 20;

/// Most roots that are followed at once.
const MAX_ROOTS: u64 = 256;

/// Names that never leave this process.
const METADATA: &str = "http://repository.invalid/metadata/";
const TARGETS: &str = "http://repository.invalid/targets/";

/// Why the repository gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// It cannot be fetched, is not signed as it should be, is old, or has ended.
    #[error("firmware repository: {0}")]
    Metadata(#[source] Box<tough::error::Error>),
    /// The trust root of the image.
    #[error("the image's firmware root: {0}")]
    Root(String),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is remembered of a repository, in a folder.
#[derive(Clone, Debug)]
pub struct Trust {
    folder: PathBuf,
    root: Vec<u8>,
}

impl Trust {
    /// `root` is the image's trust root.
    ///
    /// # Errors
    ///
    /// [`RepositoryError`].
    pub fn new(folder: PathBuf, root: Vec<u8>) -> Result<Self, RepositoryError> {
        version(&root).map_err(RepositoryError::Root)?;
        store::make_directory(&folder.join("tuf"))?;
        Ok(Self { folder, root })
    }

    /// Reads and verifies the metadata. The clock must be believed: by it, old metadata is told from new.
    ///
    /// # Errors
    ///
    /// [`RepositoryError`].
    pub async fn load(&self, source: Arc<Mutex<Source>>) -> Result<Vec<(Custom, Part)>, RepositoryError> {
        let datastore = self.folder.join("tuf");
        // A clock that once ran ahead would otherwise end updates for ever. The box's own floor guards the clock.
        store::remove(&datastore.join("latest_known_time.json"))?;
        let root = self.newest_root()?;
        let limits = Limits {
            max_root_size: MAX_METADATA,
            max_targets_size: MAX_METADATA,
            max_timestamp_size: MAX_METADATA,
            max_snapshot_size: MAX_METADATA,
            max_root_updates: MAX_ROOTS,
        };
        let failed = |error: tough::error::Error| RepositoryError::Metadata(Box::new(error));
        let url = |text: &str| Url::parse(text).map_err(|error| RepositoryError::Root(error.to_string()));
        let loader = RepositoryLoader::new(&root, url(METADATA)?, url(TARGETS)?)
            .transport(Fetch(source))
            .limits(limits)
            .datastore(&datastore);
        let repository = loader.load().await.map_err(failed)?;
        self.remember(repository.root(), &datastore)?;
        Ok(parts(&repository))
    }

    /// The newest root that is trusted: one that was led to before, or the image's.
    fn newest_root(&self) -> Result<Vec<u8>, RepositoryError> {
        let stored = store::read_replaceable(&self.path(), MAX_METADATA as usize)?;
        let newest = [stored, Some(self.root.clone())].into_iter().flatten();
        let newest = newest.filter_map(|root| Some((version(&root).ok()?, root)));
        Ok(newest.max_by_key(|(version, _)| *version).map_or_else(|| self.root.clone(), |(_, root)| root))
    }

    fn remember(&self, root: &Signed<Root>, datastore: &Path) -> Result<(), RepositoryError> {
        // Plain data always encodes.
        let json = serde_json::to_vec(root).unwrap_or_default();
        if store::read_replaceable(&self.path(), MAX_METADATA as usize)?.as_deref() != Some(json.as_slice()) {
            store::replace(&self.path(), &json)?;
        }
        // `tough` does not sync; without this a power cut could undo what guards against old metadata.
        for name in ["root.json", "timestamp.json", "snapshot.json", "targets.json"] {
            let path = datastore.join(name);
            match File::open(&path).and_then(|file| file.sync_all()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::new("sync", &path, error).into());
                }
                _ => {}
            }
        }
        Ok(store::sync_directory(&datastore.join("root.json"))?)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("root.json")
    }
}

/// The version of a root that is signed as itself says.
fn version(root: &[u8]) -> Result<u64, String> {
    let root: Signed<Root> = serde_json::from_slice(root).map_err(|error| error.to_string())?;
    root.signed.verify_role(&root).map_err(|error| error.to_string())?;
    Ok(root.signed.version.get())
}

/// The targets that carry our fields. Others are somebody else's.
fn parts(repository: &Repository) -> Vec<(Custom, Part)> {
    let prefixed = repository.root().signed.consistent_snapshot;
    let part = |(name, target): (&tough::TargetName, &tough::schema::Target)| {
        let custom = custom(&target.custom)?;
        let sha256: [u8; 32] = target.hashes.sha256.clone().into_vec().try_into().ok()?;
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
        let name = Some(name.raw()).filter(|name| name.len() <= 128 && name.bytes().all(allowed))?;
        let hex: String = sha256.iter().map(|octet| format!("{octet:02x}")).collect();
        let name = if prefixed { format!("{hex}.{name}") } else { name.to_owned() };
        Some((custom, Part { name, length: target.length, sha256 }))
    };
    repository.all_targets().filter_map(part).collect()
}

fn custom(fields: &HashMap<String, serde_json::Value>) -> Option<Custom> {
    serde_json::from_value(fields.get("verona")?.clone()).ok()
}

/// How `tough` gets its files.
#[derive(Clone)]
struct Fetch(Arc<Mutex<Source>>);

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetch")
    }
}

#[async_trait]
impl Transport for Fetch {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let name = url.path().rsplit('/').next().unwrap_or_default().to_owned();
        // A little more than the limit, so that `tough` is who says that it was exceeded.
        let fetched = self.0.lock().await.metadata(&name, MAX_METADATA as usize + 1).await;
        let octets: Bytes = fetched.map_err(|error| {
            let kind = match error {
                SourceError::Missing(_) => TransportErrorKind::FileNotFound,
                _ => TransportErrorKind::Other,
            };
            TransportError::new_with_cause(kind, url, error)
        })?;
        Ok(Box::pin(futures_util::stream::iter([Ok(octets)])))
    }
}
