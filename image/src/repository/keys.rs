//! The private keys: one file each, PKCS#8, mode 0600, named after what they sign.

use super::{RepositoryError, io_error};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use tough::schema::RoleType;

/// The keys that are here, by name.
pub(super) struct Keys {
    folder: PathBuf,
    keys: BTreeMap<String, Ed25519KeyPair>,
}

/// The names of those that are not for roots, and what they sign.
const ONLINE: [(&str, RoleType); 3] =
    [("targets", RoleType::Targets), ("snapshot", RoleType::Snapshot), ("timestamp", RoleType::Timestamp)];

/// What the key called `name` signs.
pub(super) fn role(name: &str) -> Option<RoleType> {
    let online = ONLINE.iter().find(|(of, _)| *of == name).map(|(_, role)| *role);
    online.or_else(|| name.starts_with("root-").then_some(RoleType::Root))
}

impl Keys {
    /// Makes `root_keys` root keys and one for each other role, in a folder without keys.
    pub(super) fn create(folder: &Path, root_keys: u8) -> Result<Self, RepositoryError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(io_error("make the folder", folder))?;
        let mut keys = Self { folder: folder.to_owned(), keys: BTreeMap::new() };
        let roots = (1..=root_keys).map(|number| format!("root-{number}"));
        for name in roots.chain(ONLINE.map(|(name, _)| name.to_owned())) {
            keys.generate(&name)?;
        }
        Ok(keys)
    }

    /// Reads the keys that lie in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, RepositoryError> {
        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
            let path = entry.map_err(io_error("list", folder))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".pk8")) else {
                continue;
            };
            let octets = fs::read(&path).map_err(io_error("read", &path))?;
            let key = Ed25519KeyPair::from_pkcs8(&octets)
                .map_err(|error| RepositoryError::Content { path: path.clone(), rule: error.to_string() })?;
            keys.insert(name.to_owned(), key);
        }
        Ok(Self { folder: folder.to_owned(), keys })
    }

    /// Makes the key called `name`, in place of the one before.
    pub(super) fn generate(&mut self, name: &str) -> Result<(), RepositoryError> {
        let path = self.folder.join(format!("{name}.pk8"));
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| RepositoryError::Metadata("no randomness for a key".into()))?;
        let key = Ed25519KeyPair::from_pkcs8(document.as_ref())
            .map_err(|error| RepositoryError::Metadata(error.to_string()))?;
        let new = self.folder.join(format!("{name}.new"));
        let _ = fs::remove_file(&new);
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
        written
            .and_then(|mut file| {
                file.write_all(document.as_ref())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&new, &path))
            .map_err(io_error("write", &path))?;
        self.keys.insert(name.to_owned(), key);
        Ok(())
    }

    /// The keys that sign for `of`, with their names.
    pub(super) fn of(&self, of: RoleType) -> impl Iterator<Item = (&str, &Ed25519KeyPair)> {
        self.keys
            .iter()
            .filter(move |(name, _)| role(name) == Some(of))
            .map(|(name, key)| (name.as_str(), key))
    }
}
