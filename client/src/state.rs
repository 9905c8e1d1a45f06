//! The state directory: which files there are, and that a crash never leaves half of one.
//!
//! Every file is created with mode 0600 under another name, written, synced, renamed and the directory
//! synced. The keys are made once and stay; certificates and profile change as one file each. What the
//! files mean is [`crate::identity`]'s business.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The largest file that is read back, in octets. A profile of a thousand edges stays far below.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// The P-256 device key, PKCS#8 PEM.
pub(crate) const DEVICE_KEY: &str = "device.key";
/// The X25519 tunnel key, base64 as `wg genkey` prints it.
pub(crate) const TUNNEL_KEY: &str = "tunnel.key";
/// An imported identity's private key, PKCS#8 PEM.
pub(crate) const IDENTITY_KEY: &str = "identity.key";
/// An imported identity: certificates, and where its key is, JSON.
pub(crate) const IMPORTED: &str = "imported.json";
/// Center, pin and certificates, JSON.
pub(crate) const IDENTITY: &str = "identity.json";
/// The profile, JSON. Holds preshared keys.
pub(crate) const PROFILE: &str = "profile.json";
/// Locked while the client is up; holds its process id.
pub(crate) const LOCK: &str = "lock";
/// Where the running client answers `status` and `down`.
pub(crate) const SOCKET: &str = "client.sock";
/// What the client in the background reports.
pub(crate) const LOG: &str = "client.log";

/// What went wrong with a file: the environment's fault.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path} failed", path = path.display())]
pub(crate) struct StateError {
    pub(crate) doing: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

/// A state directory that exists.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// The directory at `path`; made with mode 0700 when it is missing, and its parents likewise.
    pub(crate) fn make(path: &Path) -> Result<Self, StateError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| StateError { doing: "creating directory", path: path.to_owned(), source })?;
        Self::find(path)
    }

    /// The directory at `path`, which must exist.
    pub(crate) fn find(path: &Path) -> Result<Self, StateError> {
        let found = path.canonicalize();
        found.map(Self).map_err(|source| StateError {
            doing: "finding directory",
            path: path.to_owned(),
            source,
        })
    }

    /// The absolute path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The absolute path of the directory.
    pub(crate) fn as_path(&self) -> &Path {
        &self.0
    }

    /// A whole file; `None` when there is none.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let path = self.path(name);
        match read(&path) {
            Ok(octets) => Ok(Some(octets)),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError { doing: "reading", path, source }),
        }
    }

    /// Replaces a file at once: a crash leaves the old content or the new one.
    pub(crate) fn write(&self, name: &str, octets: &[u8]) -> Result<(), StateError> {
        let path = self.path(name);
        write_private(&path, octets).map_err(|source| StateError { doing: "writing", path, source })
    }
}

/// Replaces the file at `path`, mode 0600, crash-safe.
pub(crate) fn write_private(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    // Left by a crash, perhaps; and whoever made it may still hold it open.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(octets)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    // With room for all of it from the start, no copy of a secret is left behind by growing.
    let length = usize::try_from(file.metadata()?.len().min(MAX_FILE)).unwrap_or_default();
    let mut octets = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(MAX_FILE + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 4 MiB"));
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_are_private_and_replaced_at_once() {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDir::make(&parent.path().join("a/b")).unwrap();
        assert_eq!(mode(state.as_path()), 0o700);
        assert!(state.read("file").unwrap().is_none());
        state.write("file", b"one").unwrap();
        // A reader of the old file keeps the old content: it is another file.
        let mut old = File::open(state.path("file")).unwrap();
        state.write("file", b"two").unwrap();
        let mut text = String::new();
        old.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one");
        assert_eq!(**state.read("file").unwrap().unwrap(), *b"two");
        assert_eq!(mode(&state.path("file")), 0o600);
    }

    #[test]
    fn what_a_crash_left_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::make(directory.path()).unwrap();
        let left = state.path("file.new");
        std::fs::write(&left, b"half").unwrap();
        std::fs::set_permissions(&left, std::fs::Permissions::from_mode(0o644)).unwrap();
        state.write("file", b"whole").unwrap();
        assert_eq!(mode(&state.path("file")), 0o600);
        assert!(!left.exists());
    }

    #[test]
    fn errors_name_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::make(directory.path()).unwrap();
        std::fs::create_dir(state.path("file")).unwrap();
        let error = state.write("file", b"x").unwrap_err();
        assert!(error.to_string().starts_with("writing /"), "{error}");
        assert!(error.to_string().ends_with("/file failed"), "{error}");
        File::create(state.path("big")).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(state.read("big").is_err());
    }
}
