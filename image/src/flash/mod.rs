//! Writes an image onto a disk: checked before anything is written, read back before the disk can boot.
//!
//! The order is what makes it safe to pull the stick at any time: the old partition tables go first, everything else
//! is written and read back past the cache, and only then the first MiB with the new table. A disk that was not
//! finished has no table and boots nothing. Which disk may be written to is [`target`]'s to say.

pub(crate) mod target;
mod writer;

use crate::block_map::{BlockMap, MapError};
use crate::build::release::{Kind, Release};
use crate::build::{BuildError, io_error};
use crate::digest::{Sha256, hex};
use crate::gpt;
use crate::progress::Bar;
use crate::provision::{self, ProvisionError};
use crate::sign::{Checksums, SignError};
use flate2::bufread::GzDecoder;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use target::{Claimed, Disk, TargetError};
use verona_contract::dsse::VerifyingKey;
use writer::{Device, Medium, WriteError, clear, erase_tables, verify, write, write_and_compare};

/// What to write, and where.
pub(crate) struct Order<'a> {
    pub(crate) release: &'a Release,
    /// Who may have signed the image.
    pub(crate) trusted: &'a [VerifyingKey],
    /// The disk's factory record, if it is to have one.
    pub(crate) record: Option<&'a Path>,
}

/// The disk was not written, or is not usable now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlashError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Signature(#[from] SignError),
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Artefact(#[from] BuildError),
    #[error("{}: its checksum is not the one that was signed", .0.display())]
    Checksum(PathBuf),
    #[error("{} holds {size} octets, the image needs {needed}", .path.display())]
    TooSmall { path: PathBuf, size: u64, needed: u64 },
    #[error("the disk is not finished and does not boot")]
    Write(#[from] WriteError),
    #[error("the disk is not finished and does not boot")]
    Provision(#[from] ProvisionError),
}

impl FlashError {
    /// For flash stations: 2 the disk was refused, 3 the image was, 4 the disk was written to and is not finished.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Target(_) | Self::TooSmall { .. } => 2,
            Self::Signature(_) | Self::Map(_) | Self::Artefact(_) | Self::Checksum(_) => 3,
            Self::Write(_) | Self::Provision(_) => 4,
        }
    }
}

/// An image whose files are those that were signed.
#[derive(Debug)]
pub(crate) struct Verified {
    map: BlockMap,
    compressed: PathBuf,
}

/// Checks the image against its signature. Nothing is written before.
pub(crate) fn verify_image(order: &Order<'_>) -> Result<Verified, FlashError> {
    let checksums = Checksums::verified(&order.release.signature(), order.trusted)?;
    let (map, compressed) = (order.release.path(Kind::BlockMap), order.release.path(Kind::CompressedDisk));
    for file in [&map, &compressed] {
        let sum = Sha256::of_file(file).map_err(io_error("reading", file))?;
        if hex(&sum) != checksums.of(file)? {
            return Err(FlashError::Checksum(file.clone()));
        }
    }
    let xml = fs::read_to_string(&map).map_err(io_error("reading", &map))?;
    Ok(Verified { map: BlockMap::parse(&xml)?, compressed })
}

/// Writes a verified image onto a disk that was claimed. Returns the serial number of the record, if there is one.
pub(crate) fn flash(
    order: &Order<'_>,
    image: &Verified,
    Claimed { disk, file }: Claimed,
) -> Result<Option<String>, FlashError> {
    let Disk { path, size, .. } = disk;
    if size < image.map.size {
        return Err(FlashError::TooSmall { path, size, needed: image.map.size });
    }
    let record = order.record.map(provision::read).transpose()?;
    let compressed = File::open(&image.compressed).map_err(io_error("opening", &image.compressed))?;
    let mut source = GzDecoder::new(BufReader::with_capacity(1 << 20, compressed));
    let content = record.as_ref().map(|(_, json)| provision::content(json)).transpose()?;
    let medium = Device::open(&path, file)?;
    transfer(&image.map, &mut source, content.as_ref().map(|content| content.as_slice()), &medium, size)?;
    Ok(record.map(|(record, _)| record.serial))
}

/// All writes to a disk of `size` octets, in the one order in which it boots nothing until everything is there.
fn transfer(
    map: &BlockMap,
    source: &mut dyn Read,
    record: Option<&[u8]>,
    medium: &dyn Medium,
    size: u64,
) -> Result<(), WriteError> {
    erase_tables(medium, size)?;
    let mut bar = Bar::new("writing", map.mapped());
    let mut head = write(source, map, medium, &mut |octets| bar.advance(octets))?;
    let partitions = gpt::partitions_of(&head).map_err(WriteError::Table)?;
    clear(map, &partitions, medium)?;
    medium.flush()?;
    bar.finish();
    let mut bar = Bar::new("reading", map.mapped());
    verify(map, &head, medium, &mut |octets| bar.advance(octets))?;
    bar.finish();
    if let Some(record) = record {
        let factory = gpt::named(&partitions, "factory").map_err(WriteError::Table)?;
        write_and_compare(medium, record, factory.start)?;
    }
    // The image's table ends where the image does; `data` gets the rest of the disk.
    let backup = gpt::grow(&mut head, size).map_err(WriteError::Table)?;
    write_and_compare(medium, &backup.content, backup.start)?;
    write_and_compare(medium, &head, 0)
}

#[cfg(test)]
mod tests;
