//! `verona-image repository`: the firmware repository that boxes update from, TUF metadata and files in a folder that
//! any static web server can serve.
//!
//! Ed25519 keys lie as PKCS#8 in a folder of their own, which need not be where the repository is. A file that is
//! in the repository is never changed: metadata gets new versions, `timestamp.json` is replaced last.

mod keys;
mod metadata;

use clap::{Args, Subcommand};
use keys::Keys;
use metadata::{Folder, Lives, NewRelease};
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// Makes and signs the firmware repository.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make keys and an empty repository. `metadata/1.root.json` is what goes into images.
    Create {
        #[command(flatten)]
        place: Place,
        /// How many root keys, 1 to 9. They are for rotations only, and may lie in different safes.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        root_keys: u8,
        /// How many of them a new root takes.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=9))]
        root_threshold: u8,
    },
    /// Add a release: the root and the kernel image of one build.
    Add {
        #[command(flatten)]
        place: Place,
        /// `cloud` or `generic`.
        #[arg(long)]
        edition: String,
        /// Such as 1.2.3; a version is added once for each edition.
        #[arg(long, value_parser = version)]
        version: String,
        /// The root with its hash tree, `.root`.
        #[arg(long)]
        root: PathBuf,
        /// The kernel image, `.efi`.
        #[arg(long)]
        kernel: PathBuf,
    },
    /// Sign everything but the root anew: before the metadata ends.
    Renew {
        #[command(flatten)]
        place: Place,
    },
    /// Replace a key that is lost or was seen, and sign everything anew.
    Rotate {
        #[command(flatten)]
        place: Place,
        /// `targets`, `snapshot`, `timestamp`, or `root-1` and so on. The old key is not needed.
        key: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Folder of the private keys.
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// Folder of the repository: `metadata/` and `targets/`.
    #[arg(long, value_name = "DIR")]
    repository: PathBuf,
    #[command(flatten)]
    lives: Lives,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepositoryError {
    #[error("cannot {doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: {rule}", .path.display())]
    Content { path: PathBuf, rule: String },
    #[error("version {version} for edition {edition} is in the repository; a version is published once")]
    Published { version: String, edition: String },
    #[error("{given} of the root keys are here, {wanted} must sign")]
    RootKeys { given: usize, wanted: NonZeroU64 },
    #[error("there is no key called {0}: targets, snapshot, timestamp, root-1 and so on")]
    NoSuchKey(String),
    #[error("a root threshold of {threshold} needs as many keys, not {keys}")]
    Threshold { threshold: u8, keys: u8 },
    #[error("metadata: {0}")]
    Metadata(String),
}

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RepositoryError {
    move |source| RepositoryError::Io { doing, path: path.to_owned(), source }
}

/// Runs one of the subcommands. Returns a line that says what was done.
///
/// # Errors
///
/// [`RepositoryError`].
pub(crate) fn run(command: Command) -> Result<String, RepositoryError> {
    match command {
        Command::Create { place, root_keys, root_threshold } => {
            if root_threshold > root_keys {
                return Err(RepositoryError::Threshold { threshold: root_threshold, keys: root_keys });
            }
            let keys = Keys::create(&place.keys, root_keys)?;
            let folder = Folder::create(&place.repository, place.lives)?;
            let root = folder.first_root(&keys, NonZeroU64::from(nonzero(root_threshold)))?;
            Ok(format!("repository {}, root {}", place.repository.display(), root.display()))
        }
        Command::Add { place, edition, version, root, kernel } => {
            let (keys, folder) = place.open()?;
            let release = NewRelease { edition: &edition, version: &version, root: &root, kernel: &kernel };
            folder.add(&keys, &release)?;
            Ok(format!("{edition} {version} is in the repository"))
        }
        Command::Renew { place } => {
            let (keys, folder) = place.open()?;
            folder.renew(&keys)?;
            Ok("the metadata is signed anew".to_owned())
        }
        Command::Rotate { place, key } => {
            let (mut keys, folder) = place.open()?;
            let version = folder.rotate(&mut keys, &key)?;
            Ok(format!("key {key} is replaced by root {version}"))
        }
    }
}

impl Place {
    fn open(self) -> Result<(Keys, Folder), RepositoryError> {
        Ok((Keys::read(&self.keys)?, Folder::open(&self.repository, self.lives)))
    }
}

const fn nonzero(number: u8) -> std::num::NonZeroU8 {
    match std::num::NonZeroU8::new(number) {
        Some(number) => number,
        None => std::num::NonZeroU8::MIN,
    }
}

fn version(text: &str) -> Result<String, &'static str> {
    let parts: Vec<&str> = text.split('.').collect();
    let number =
        |part: &&str| part.bytes().all(|octet| octet.is_ascii_digit()) && part.parse::<u16>().is_ok();
    if parts.len() == 3 && parts.iter().all(number) {
        Ok(text.to_owned())
    } else {
        Err("must be major.minor.patch")
    }
}
