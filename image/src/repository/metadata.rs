//! The metadata of a repository, and in which order it is written (TUF 1.0 §4, §6 "consistent snapshots").

use super::keys::{self, Keys};
use super::{RepositoryError, io_error};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::signature::Ed25519KeyPair;
use clap::Args;
use jiff::{SignedDuration, Timestamp as Time};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use tough::TargetName;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::{
    Hashes, Metafile, Role, RoleKeys, RoleType, Root, Signature, Signed, Snapshot, Target, Targets, Timestamp,
};
use tough::sign::Sign as _;

const SPEC: &str = "1.0.0";
const PIECE: usize = 1 << 20;

/// How long metadata holds. A short life of the timestamp bounds how long somebody in between can hide a newer
/// release; whoever signs it must be there before it ends.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Lives {
    /// Of the root: a number with s, m, h or d.
    #[arg(long, default_value = "3650d", value_parser = life)]
    root_life: SignedDuration,
    /// Of the list of files.
    #[arg(long, default_value = "365d", value_parser = life)]
    targets_life: SignedDuration,
    /// Of what says which list is the newest.
    #[arg(long, default_value = "30d", value_parser = life)]
    timestamp_life: SignedDuration,
}

fn life(text: &str) -> Result<SignedDuration, &'static str> {
    let rule = "must be a number with s, m, h or d, such as 30d";
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(rule)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(rule),
    };
    let number: u32 = number.parse().map_err(|_| rule)?;
    Ok(SignedDuration::from_secs(i64::from(number) * seconds))
}

/// What is to be added.
pub(super) struct NewRelease<'a> {
    pub(super) edition: &'a str,
    pub(super) version: &'a str,
    pub(super) root: &'a Path,
    pub(super) kernel: &'a Path,
}

/// The repository's folder.
pub(super) struct Folder {
    path: PathBuf,
    lives: Lives,
}

impl Folder {
    pub(super) fn create(path: &Path, lives: Lives) -> Result<Self, RepositoryError> {
        for part in ["metadata", "targets"] {
            let part = path.join(part);
            fs::create_dir_all(&part).map_err(io_error("make the folder", &part))?;
        }
        let folder = Self::open(path, lives);
        if folder.newest::<Signed<Root>>("root.json")?.is_some() {
            return Err(RepositoryError::Content {
                path: path.to_owned(),
                rule: "holds a repository".into(),
            });
        }
        Ok(folder)
    }

    pub(super) fn open(path: &Path, lives: Lives) -> Self {
        Self { path: path.to_owned(), lives }
    }

    /// Version 1 of everything. Returns the path of the root.
    pub(super) fn first_root(&self, keys: &Keys, threshold: NonZeroU64) -> Result<PathBuf, RepositoryError> {
        let one = NonZeroU64::MIN;
        let mut root = Root {
            spec_version: SPEC.to_owned(),
            consistent_snapshot: true,
            version: one,
            expires: self.ends(self.lives.root_life),
            keys: HashMap::new(),
            roles: HashMap::new(),
            _extra: HashMap::new(),
        };
        for (role, threshold) in [
            (RoleType::Root, threshold),
            (RoleType::Targets, one),
            (RoleType::Snapshot, one),
            (RoleType::Timestamp, one),
        ] {
            name_keys(&mut root, role, threshold, keys)?;
        }
        let path = self.write_root(&root, keys, None)?;
        let targets = Targets::new(SPEC.to_owned(), one, self.ends(self.lives.targets_life));
        self.publish(&root, targets, keys)?;
        Ok(path)
    }

    /// Puts the files of a release in, and then signs that they are there.
    pub(super) fn add(&self, keys: &Keys, release: &NewRelease<'_>) -> Result<(), RepositoryError> {
        let (root, mut targets) = self.current()?;
        for (part, from) in [("root", release.root), ("kernel", release.kernel)] {
            let suffix = if part == "root" { "root" } else { "efi" };
            let name = format!("verona-{}-{}.{suffix}", release.edition, release.version);
            let target_name =
                TargetName::new(&name).map_err(|error| RepositoryError::Metadata(error.to_string()))?;
            if targets.targets.contains_key(&target_name) {
                let (version, edition) = (release.version.to_owned(), release.edition.to_owned());
                return Err(RepositoryError::Published { version, edition });
            }
            let (length, sha256) = self.copy(from, &name)?;
            let custom = json!({ "edition": release.edition, "version": release.version, "part": part });
            let hashes = Hashes { sha256: sha256.into(), _extra: HashMap::new() };
            let custom = HashMap::from([("verona".to_owned(), custom)]);
            let target = Target { length, hashes, custom, _extra: HashMap::new() };
            targets.targets.insert(target_name, target);
        }
        self.publish(&root, targets, keys)
    }

    /// Signs everything but the root anew.
    pub(super) fn renew(&self, keys: &Keys) -> Result<(), RepositoryError> {
        let (root, targets) = self.current()?;
        self.publish(&root, targets, keys)
    }

    /// Replaces the key called `name`. Returns the new root's version.
    pub(super) fn rotate(&self, keys: &mut Keys, name: &str) -> Result<NonZeroU64, RepositoryError> {
        let (before, targets) = self.current()?;
        let unknown = || RepositoryError::NoSuchKey(name.to_owned());
        let role = keys::role(name).ok_or_else(unknown)?;
        let threshold = before.roles.get(&role).ok_or_else(unknown)?.threshold;
        // The root before must be able to say that it agrees, before anything is changed.
        let others = keys.of(RoleType::Root).filter(|(of, _)| *of != name).count();
        let wanted = before.roles.get(&RoleType::Root).map_or(NonZeroU64::MIN, |root| root.threshold);
        if (others as u64) < wanted.get() {
            return Err(RepositoryError::RootKeys { given: others, wanted });
        }
        keys.generate(name)?;
        let mut root = before.clone();
        root.version = next(before.version);
        root.expires = self.ends(self.lives.root_life);
        name_keys(&mut root, role, threshold, keys)?;
        self.write_root(&root, keys, Some(&before))?;
        self.publish(&root, targets, keys)?;
        Ok(root.version)
    }

    /// The newest root and list of files.
    fn current(&self) -> Result<(Root, Targets), RepositoryError> {
        let missing =
            || RepositoryError::Content { path: self.path.clone(), rule: "holds no repository".into() };
        let root: Signed<Root> = self.newest("root.json")?.ok_or_else(missing)?;
        let targets: Signed<Targets> = self.newest("targets.json")?.ok_or_else(missing)?;
        Ok((root.signed, targets.signed))
    }

    /// Signs and writes a list of files, what names it, and last what names that.
    fn publish(&self, root: &Root, mut targets: Targets, keys: &Keys) -> Result<(), RepositoryError> {
        let snapshot: Option<Signed<Snapshot>> = self.newest("snapshot.json")?;
        let timestamp: Option<Signed<Timestamp>> = self.read("timestamp.json")?;
        let after = |version: Option<NonZeroU64>| version.map_or(NonZeroU64::MIN, next);
        if snapshot.is_some() {
            targets.version = next(targets.version);
        }
        targets.expires = self.ends(self.lives.targets_life);
        let listed = self.sign(root, &targets, keys)?;
        self.write(&format!("{}.targets.json", targets.version), &listed)?;

        let ends = self.ends(self.lives.timestamp_life);
        let version = after(snapshot.map(|snapshot| snapshot.signed.version));
        let mut snapshot = Snapshot::new(SPEC.to_owned(), version, ends);
        snapshot.meta.insert("targets.json".to_owned(), describe(&listed, targets.version));
        let named = self.sign(root, &snapshot, keys)?;
        self.write(&format!("{}.snapshot.json", snapshot.version), &named)?;

        let version = after(timestamp.map(|timestamp| timestamp.signed.version));
        let mut timestamp = Timestamp::new(SPEC.to_owned(), version, ends);
        timestamp.meta.insert("snapshot.json".to_owned(), describe(&named, snapshot.version));
        let octets = self.sign(root, &timestamp, keys)?;
        self.write("timestamp.json", &octets)
    }

    fn sign<T: Role>(&self, root: &Root, role: &T, keys: &Keys) -> Result<Vec<u8>, RepositoryError> {
        let signatures = signatures(role, root, keys.of(T::TYPE).map(|(_, key)| key))?;
        if signatures.is_empty() {
            return Err(RepositoryError::NoSuchKey(T::TYPE.to_string()));
        }
        encode(role, &signatures)
    }

    /// Signs `root` by the keys that it names, and by those that the one before named.
    fn write_root(
        &self,
        root: &Root,
        keys: &Keys,
        before: Option<&Root>,
    ) -> Result<PathBuf, RepositoryError> {
        let mut signed: Vec<Signature> = Vec::new();
        for holder in [Some(root), before].into_iter().flatten() {
            let by = signatures(root, holder, keys.of(RoleType::Root).map(|(_, key)| key))?;
            let wanted = holder.roles.get(&RoleType::Root).map_or(NonZeroU64::MIN, |role| role.threshold);
            if (by.len() as u64) < wanted.get() {
                return Err(RepositoryError::RootKeys { given: by.len(), wanted });
            }
            for signature in by {
                if !signed.contains(&signature) {
                    signed.push(signature);
                }
            }
        }
        let name = format!("{}.root.json", root.version);
        self.write(&name, &encode(root, &signed)?)?;
        Ok(self.path.join("metadata").join(name))
    }

    /// Copies a file under its name and hash. Returns its length and hash.
    fn copy(&self, from: &Path, name: &str) -> Result<(u64, Vec<u8>), RepositoryError> {
        let new = self.path.join("targets").join(format!("{name}.new"));
        let mut source = File::open(from).map_err(io_error("open", from))?;
        let mut target = File::create(&new).map_err(io_error("create", &new))?;
        let (mut hash, mut length, mut piece) = (Context::new(&SHA256), 0, vec![0; PIECE]);
        loop {
            let read = source.read(&mut piece).map_err(io_error("read", from))?;
            if read == 0 {
                break;
            }
            hash.update(&piece[..read]);
            length += read as u64;
            target.write_all(&piece[..read]).map_err(io_error("write", &new))?;
        }
        target.sync_all().map_err(io_error("sync", &new))?;
        let hash = hash.finish().as_ref().to_vec();
        let hex: String = hash.iter().map(|octet| format!("{octet:02x}")).collect();
        let path = self.path.join("targets").join(format!("{hex}.{name}"));
        fs::rename(&new, &path).map_err(io_error("write", &path))?;
        Ok((length, hash))
    }

    fn write(&self, name: &str, octets: &[u8]) -> Result<(), RepositoryError> {
        let path = self.path.join("metadata").join(name);
        let new = self.path.join("metadata").join(format!("{name}.new"));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(octets)?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&new, &path)).map_err(io_error("write", &path))
    }

    /// Reads the file of `metadata/` with the highest version.
    fn newest<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, RepositoryError> {
        let folder = self.path.join("metadata");
        let entries = fs::read_dir(&folder).map_err(io_error("list", &folder))?;
        let version = |entry: io::Result<fs::DirEntry>| -> Option<u64> {
            let file = entry.ok()?.file_name();
            file.to_str()?.strip_suffix(name)?.strip_suffix('.')?.parse().ok()
        };
        match entries.filter_map(version).max() {
            Some(version) => self.read(&format!("{version}.{name}")),
            None => Ok(None),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, RepositoryError> {
        let path = self.path.join("metadata").join(name);
        let octets = match fs::read(&path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let read = serde_json::from_slice(&octets);
        read.map(Some).map_err(|error| RepositoryError::Content { path, rule: error.to_string() })
    }

    fn ends(&self, life: SignedDuration) -> Time {
        // Whole seconds, as TUF writes them.
        let now = Time::from_second(Time::now().as_second()).unwrap_or(Time::UNIX_EPOCH);
        now.saturating_add(life).unwrap_or(Time::MAX)
    }
}

/// Makes `root` name the keys that are here for `role`, in place of those that it named.
fn name_keys(
    root: &mut Root,
    role: RoleType,
    threshold: NonZeroU64,
    keys: &Keys,
) -> Result<(), RepositoryError> {
    let failed = |error: tough::schema::Error| RepositoryError::Metadata(error.to_string());
    let mut keyids: Vec<Decoded<Hex>> = Vec::new();
    for (_, key) in keys.of(role) {
        let key = key.tuf_key();
        let id = key.key_id().map_err(failed)?;
        root.keys.insert(id.clone(), key);
        keyids.push(id);
    }
    root.roles.insert(role, RoleKeys { keyids, threshold, _extra: HashMap::new() });
    let named: Vec<&Decoded<Hex>> = root.roles.values().flat_map(|role| &role.keyids).collect();
    let named: Vec<Decoded<Hex>> = named.into_iter().cloned().collect();
    root.keys.retain(|id, _| named.contains(id));
    Ok(())
}

/// The signatures over `role` by those of `keys` that `holder` names for it.
fn signatures<'a, T: Role>(
    role: &T,
    holder: &Root,
    keys: impl Iterator<Item = &'a Ed25519KeyPair>,
) -> Result<Vec<Signature>, RepositoryError> {
    let failed = |error: tough::schema::Error| RepositoryError::Metadata(error.to_string());
    let octets = role.canonical_form().map_err(failed)?;
    let mut signatures = Vec::new();
    for key in keys {
        let keyid = key.tuf_key().key_id().map_err(failed)?;
        if holder.roles.get(&T::TYPE).is_some_and(|role| role.keyids.contains(&keyid)) {
            let sig = Ed25519KeyPair::sign(key, &octets).as_ref().to_vec().into();
            signatures.push(Signature { keyid, sig });
        }
    }
    Ok(signatures)
}

fn encode<T: Serialize>(role: &T, signatures: &[Signature]) -> Result<Vec<u8>, RepositoryError> {
    let json = json!({ "signed": role, "signatures": signatures });
    serde_json::to_vec(&json).map_err(|error| RepositoryError::Metadata(error.to_string()))
}

fn describe(octets: &[u8], version: NonZeroU64) -> Metafile {
    let sha256 = aws_lc_rs::digest::digest(&SHA256, octets).as_ref().to_vec();
    Metafile {
        length: Some(octets.len() as u64),
        hashes: Some(Hashes { sha256: sha256.into(), _extra: HashMap::new() }),
        version,
        _extra: HashMap::new(),
    }
}

const fn next(version: NonZeroU64) -> NonZeroU64 {
    version.saturating_add(1)
}
