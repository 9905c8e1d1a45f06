//! The keys of a vendor's images, in a folder that can be kept apart from where images are built.
//!
//! `PK`, `KEK`, `db` (RSA 2048 with a certificate) are Secure Boot's: `db` signs what the firmware starts. `image`
//! (Ed25519) signs an image's list of checksums, which is what `flash` believes. A rotation replaces `db` and `image`
//! and keeps the public halves of those before it, so that boxes and flash stations take both while the old ones are
//! in use; the old private halves are deleted. Keys made here are for tests: a vendor's are in a token.

use crate::build::tool::{Tool, ToolError};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use verona_contract::dsse::{VerifyingKey, VerifyingKeyError};
use zeroize::Zeroizing;

/// Secure Boot's keys, by their names in UEFI.
const SECURE_BOOT: [&str; 3] = ["PK", "KEK", "db"];
/// Ten years: a certificate of Secure Boot is not checked for its time anyhow.
const DAYS: &str = "3650";

/// A folder of keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys(PathBuf);

/// Keys cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    #[error("{doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("{} holds keys already: rotate them by --rotate", .0.display())]
    Present(PathBuf),
    #[error("{}: {rule}", .path.display())]
    Malformed { path: PathBuf, rule: &'static str },
    #[error("{}", .path.display())]
    Public { path: PathBuf, source: VerifyingKeyError },
    #[error("the system gives no random numbers")]
    Random,
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeysError {
    move |source| KeysError::Io { doing, path: path.to_owned(), source }
}

impl Keys {
    /// Keys that were made before.
    pub(crate) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// Makes all keys in a folder that has none.
    pub(crate) fn create(folder: &Path) -> Result<Self, KeysError> {
        fs::create_dir_all(folder).map_err(failed("making", folder))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed("closing", folder))?;
        let keys = Self(folder.to_owned());
        if keys.image_key().exists() || keys.file("PK", "key").exists() {
            return Err(KeysError::Present(folder.to_owned()));
        }
        for name in SECURE_BOOT {
            keys.make_certified(name)?;
        }
        keys.make_image_key(&[])?;
        Ok(keys)
    }

    /// Replaces the keys that sign images.
    pub(crate) fn rotate(folder: &Path) -> Result<Self, KeysError> {
        let keys = Self(folder.to_owned());
        let before = keys.trusted()?;
        let (certificate, previous) = (keys.file("db", "crt"), keys.file("db.previous", "crt"));
        fs::copy(&certificate, &previous).map_err(failed("keeping", &certificate))?;
        keys.make_certified("db")?;
        keys.make_image_key(&before)?;
        Ok(keys)
    }

    /// `PK.crt` and the like.
    pub(crate) fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.0.join(format!("{name}.{kind}"))
    }

    /// The public keys of `image`, the present one first: what a flash station is given.
    pub(crate) fn public(&self) -> PathBuf {
        self.file("image", "pub")
    }

    /// Who may have signed an image.
    pub(crate) fn trusted(&self) -> Result<Vec<VerifyingKey>, KeysError> {
        trusted(&self.public())
    }

    /// The key that signs lists of checksums.
    pub(crate) fn signer(&self) -> Result<Ed25519KeyPair, KeysError> {
        let path = self.image_key();
        let key = Zeroizing::new(fs::read(&path).map_err(failed("reading", &path))?);
        Ed25519KeyPair::from_pkcs8(&key)
            .map_err(|_| KeysError::Malformed { path, rule: "must be an Ed25519 key in PKCS#8" })
    }

    fn image_key(&self) -> PathBuf {
        self.file("image", "key")
    }

    fn make_certified(&self, name: &str) -> Result<(), KeysError> {
        let (key, certificate) = (self.file(name, "key"), self.file(name, "crt"));
        Tool::of_host("openssl")
            .arguments(["req", "-new", "-x509", "-newkey", "rsa:2048", "-sha256", "-noenc", "-days", DAYS])
            .argument("-subj")
            .argument(format!("/CN=Verona Edge test {name}/"))
            .argument("-keyout")
            .argument(&key)
            .argument("-out")
            .argument(&certificate)
            .run()?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).map_err(failed("closing", &key))
    }

    fn make_image_key(&self, before: &[VerifyingKey]) -> Result<(), KeysError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeysError::Random)?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| KeysError::Random)?;
        let path = self.image_key();
        // A key before it must not stay in blocks that nobody overwrites.
        let _ = fs::remove_file(&path);
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(document.as_ref())).map_err(failed("writing", &path))?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeysError::Random)?;
        let mut lines = String::new();
        for key in [VerifyingKey::new(public)].iter().chain(before.first()) {
            lines.push_str(&String::from(*key));
            lines.push('\n');
        }
        let path = self.public();
        fs::write(&path, lines).map_err(failed("writing", &path))
    }
}

/// Reads public keys, one a line in base64.
pub(crate) fn trusted(path: &Path) -> Result<Vec<VerifyingKey>, KeysError> {
    let text = fs::read_to_string(path).map_err(failed("reading", path))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys = lines.map(str::parse).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|source| KeysError::Public { path: path.to_owned(), source })?;
    if keys.is_empty() {
        return Err(KeysError::Malformed { path: path.to_owned(), rule: "must hold a public key" });
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_the_public_halves_of_one_generation_only() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("keys");
        let keys = Keys::create(&folder).unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for name in ["PK", "KEK", "db", "image"] {
            assert_eq!(mode(keys.file(name, "key")), 0o600, "{name}");
        }
        assert_eq!(mode(folder.clone()), 0o700);
        assert!(matches!(Keys::create(&folder), Err(KeysError::Present(_))));

        let first = keys.trusted().unwrap();
        let certificate = fs::read(keys.file("db", "crt")).unwrap();
        Keys::rotate(&folder).unwrap();
        let second = keys.trusted().unwrap();
        assert_eq!((first.len(), second.len(), second[1]), (1, 2, first[0]));
        let signer = keys.signer().unwrap();
        assert_eq!(signer.public_key().as_ref(), second[0].as_bytes(), "the new one signs");
        assert_eq!(fs::read(keys.file("db.previous", "crt")).unwrap(), certificate);
        assert_ne!(fs::read(keys.file("db", "crt")).unwrap(), certificate);
        Keys::rotate(&folder).unwrap();
        assert!(!keys.trusted().unwrap().contains(&first[0]), "two generations back is over");
    }
}
