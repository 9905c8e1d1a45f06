//! Writes a box's factory record into the `factory` partition of its disk, or of an image that is about to be
//! flashed, and reads it back.
//!
//! The record is JSON text at the beginning of the partition, zeros behind it: a box reads it without a file
//! system that could be damaged, and a token is erased by writing over it. The record's rules are the contract's.

use crate::gpt::{self, GptError};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use verona_contract::provisioning::{FactoryRecord, RecordError};
use zeroize::Zeroizing;

/// Octets of the partition that a record may take. The box's start-up script reads as many.
pub(crate) const ROOM: usize = 256 * 1024;

/// The record was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    #[error("{doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("factory record: {0} octets are more than the {ROOM} that a box reads")]
    TooLarge(usize),
    #[error("{}", .path.display())]
    Disk { path: PathBuf, source: GptError },
    #[error("{}: the record does not read back as it was written", .0.display())]
    ReadBack(PathBuf),
}

/// Reads and checks the record in a file: parsed, and as it is written.
///
/// # Errors
///
/// It cannot be read, or breaks a rule.
pub(crate) fn read(record: &Path) -> Result<(FactoryRecord, Zeroizing<Vec<u8>>), ProvisionError> {
    let json = Zeroizing::new(std::fs::read(record).map_err(failed("reading", record))?);
    Ok((FactoryRecord::parse(&json)?, json))
}

/// What the beginning of the partition holds of a record.
///
/// # Errors
///
/// The record is larger than what a box reads.
pub(crate) fn content(json: &[u8]) -> Result<Zeroizing<Vec<u8>>, ProvisionError> {
    if json.len() >= ROOM {
        return Err(ProvisionError::TooLarge(json.len()));
    }
    let mut content = Zeroizing::new(vec![0; ROOM]);
    content.iter_mut().zip(json).for_each(|(to, from)| *to = *from);
    Ok(content)
}

/// Writes the record in the file `record` to `disk`, and returns it.
///
/// # Errors
///
/// The record breaks a rule, the disk has no such partition, or it does not keep what was written.
pub(crate) fn provision(disk: &Path, record: &Path) -> Result<FactoryRecord, ProvisionError> {
    let (parsed, json) = read(record)?;
    let content = content(&json)?;
    let file = File::options().read(true).write(true).open(disk).map_err(failed("opening", disk))?;
    let factory = gpt::find(&file, "factory")
        .map_err(|source| ProvisionError::Disk { path: disk.to_owned(), source })?;
    file.write_all_at(&content, factory.start).map_err(failed("writing to", disk))?;
    file.sync_all().map_err(failed("writing to", disk))?;
    let mut found = Zeroizing::new(vec![0; ROOM]);
    file.read_exact_at(&mut found, factory.start).map_err(failed("reading back", disk))?;
    if *found != *content {
        return Err(ProvisionError::ReadBack(disk.to_owned()));
    }
    Ok(parsed)
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ProvisionError {
    let path = path.to_owned();
    move |source| ProvisionError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpt::tests::disk_with;
    use std::io::Write as _;

    fn record(center: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(
            file,
            r#"{{"serial":"VE-1","center":"{center}","center_ca":"x","config_keys":["{}"],"config_threshold":1}}"#,
            "A".repeat(43) + "="
        )
        .unwrap();
        file
    }

    #[test]
    fn a_record_goes_to_its_partition_and_nowhere_else() {
        let disk = disk_with(&["esp", "factory", "data"]);
        disk.as_file().write_all_at(b"left from before", (2 << 20) + 5000).unwrap();
        disk.as_file().write_all_at(b"data", 3 << 20).unwrap();
        let record = record("https://center.example");
        let parsed = provision(disk.path(), record.path()).unwrap();
        assert_eq!(parsed.serial, "VE-1");
        let json = std::fs::read(record.path()).unwrap();
        let mut found = vec![0; ROOM];
        disk.as_file().read_exact_at(&mut found, 2 << 20).unwrap();
        assert_eq!(found[..json.len()], json);
        assert!(found[json.len()..].iter().all(|octet| *octet == 0), "nothing is left of an earlier record");
        disk.as_file().read_exact_at(&mut found[..4], 3 << 20).unwrap();
        assert_eq!(&found[..4], b"data");
    }

    #[test]
    fn what_is_refused() {
        let disk = disk_with(&["esp", "factory"]);
        let error = |disk: &Path, record: &Path| provision(disk, record).unwrap_err().to_string();
        let bad = record("http://center.example");
        assert_eq!(error(disk.path(), bad.path()), "factory record: center must be https://host[:port]");
        let other = disk_with(&["esp"]);
        let good = record("https://center.example");
        let refused = provision(other.path(), good.path()).unwrap_err();
        let cause = std::error::Error::source(&refused).unwrap().to_string();
        assert_eq!(cause, "no image of ours: it has no partition factory");
    }
}
