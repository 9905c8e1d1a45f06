//! Files that hold secrets: mode 0600 from their first moment, in directories of mode 0700.
//!
//! A file appears whole or not at all: it is written beside its place, synced and renamed. What is in the
//! files is the business of who calls.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What could not be done, and to which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub(crate) struct FileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    pub(crate) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { action, path, source }
    }
}

/// Writes a new file.
///
/// # Errors
///
/// When the path exists already or the file system refuses.
pub(crate) fn create(path: &Path, octets: &[u8]) -> Result<(), FileError> {
    if path.exists() {
        return Err(FileError::at("create", path)(io::ErrorKind::AlreadyExists.into()));
    }
    replace(path, octets)
}

/// Writes a file, in place of the one that may be there.
///
/// # Errors
///
/// When the file system refuses; the old file is then untouched.
pub(crate) fn replace(path: &Path, octets: &[u8]) -> Result<(), FileError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = parent.join(name);
    // What a crash left half-written is of no use, and may have another mode.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::at("remove", &beside)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(FileError::at("create", &beside))?;
    file.write_all(octets).and_then(|()| file.sync_all()).map_err(FileError::at("write", &beside))?;
    std::fs::rename(&beside, path).map_err(FileError::at("rename to", path))?;
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(FileError::at("sync", parent))
}

/// Makes a directory of mode 0700; one that exists is left as it is.
///
/// # Errors
///
/// When the file system refuses.
pub(crate) fn directory(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::at("create directory", path))
}

/// Reads a whole file.
///
/// # Errors
///
/// When the file system refuses.
pub(crate) fn read(path: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, FileError> {
    std::fs::read(path).map(zeroize::Zeroizing::new).map_err(FileError::at("read", path))
}

/// Reads a whole text file.
///
/// # Errors
///
/// When the file system refuses, or the file is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<zeroize::Zeroizing<String>, FileError> {
    std::fs::read_to_string(path).map(zeroize::Zeroizing::new).map_err(FileError::at("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn modes_and_replacement() {
        let directory_path = tempfile::tempdir().unwrap();
        let inner = directory_path.path().join("inner");
        directory(&inner).unwrap();
        assert_eq!(std::fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
        let path = inner.join("key");
        create(&path, b"one").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = create(&path, b"two").unwrap_err();
        assert!(error.to_string().starts_with("cannot create /"), "{error}");
        replace(&path, b"three").unwrap();
        assert_eq!(*read(&path).unwrap(), b"three");
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1, "nothing left beside it");
    }
}
