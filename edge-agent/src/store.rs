//! Files that survive a power cut: either the old content or the new one, never half of it.
//!
//! A file is written under a temporary name in the same directory, synced, renamed over the old one, and then
//! the directory is synced. Its mode is 0600 from the moment it exists. What a file means, and what to do when
//! it does not read, is for its owner.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A step on the disk that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl StoreError {
    /// Names the step and the path.
    #[must_use]
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// What the system said.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Makes `path` and its parents, mode 0700.
///
/// # Errors
///
/// [`StoreError`] with the path.
pub fn make_directory(path: &Path) -> Result<(), StoreError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| StoreError::new("make the directory", path, error))
}

/// Replaces the content of `path`.
///
/// # Errors
///
/// [`StoreError`]; the old content then stands.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let temporary = temporary(path);
    // One that a crash left would keep its mode and owner.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::new("remove", &temporary, error));
        }
        _ => {}
    }
    let written = create(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.map_err(|error| StoreError::new("write", &temporary, error))?;
    std::fs::rename(&temporary, path).map_err(|error| StoreError::new("rename onto", path, error))?;
    sync_directory(path)
}

/// Reads `path`; none when there is no such file. More than `limit` octets are an error.
///
/// # Errors
///
/// [`StoreError`] with the path.
pub fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::new("open", path, error)),
    };
    let mut content = Vec::new();
    let read = file.take(limit as u64 + 1).read_to_end(&mut content);
    read.map_err(|error| StoreError::new("read", path, error))?;
    if content.len() > limit {
        let error = io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} octets"));
        return Err(StoreError::new("read", path, error));
    }
    Ok(Some(content))
}

/// Reads a file whose content can be had again. One of more than `limit` octets is traced and reads as empty, so
/// that its owner treats it as any other that does not read: it does not keep the agent from running.
///
/// # Errors
///
/// [`StoreError`] with the path.
pub fn read_replaceable(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
    match read(path, limit) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            tracing::error!(path = %path.display(), limit, "file is too long and is not read");
            Ok(Some(Vec::new()))
        }
        content => content,
    }
}

/// Removes `path`, if it is there.
///
/// # Errors
///
/// [`StoreError`] with the path.
pub fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_directory(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::new("remove", path, error)),
    }
}

/// Renames `from` onto `to` in the same directory, for good.
///
/// # Errors
///
/// [`StoreError`] with the path.
pub fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::rename(from, to).map_err(|error| StoreError::new("rename", from, error))?;
    sync_directory(to)
}

/// A new file of mode 0600, open for writing; an existing one is an error.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes what was created, renamed or removed in the directory of `path` last.
///
/// # Errors
///
/// [`StoreError`] with the directory.
pub fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let synced = File::open(directory).and_then(|file| file.sync_all());
    synced.map_err(|error| StoreError::new("sync the directory", directory, error))
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        replace(&path, b"one").unwrap();
        // What a crash leaves: a half-written temporary file, perhaps with another mode.
        std::fs::write(temporary(&path), b"tw").unwrap();
        assert_eq!(read(&path, 10).unwrap().unwrap(), b"one");
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path, 10).unwrap().unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(!temporary(&path).exists());
    }

    #[test]
    fn failures_name_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("absent").join("f");
        let error = replace(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("absent/f.new"), "{error}");
        assert_eq!(read(&path, 10).unwrap(), None);
        std::fs::write(directory.path().join("long"), b"0123456789").unwrap();
        assert!(read(&directory.path().join("long"), 9).is_err());
        assert_eq!(read_replaceable(&directory.path().join("long"), 9).unwrap(), Some(vec![]));
        assert!(remove(&directory.path().join("never")).is_ok());
    }
}
