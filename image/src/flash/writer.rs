//! Moves the blocks of an image: from a compressed stream onto a medium, and back for comparison.

use crate::block_map::{BLOCK, BlockMap, Range};
use crate::digest::{Sha256, hex};
use crate::gpt::{GptError, Partition};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The first octets of a disk, which are written last: the partition table and all before the first partition.
pub(super) const HEAD: u64 = 1 << 20;
/// Octets moved at once.
const PIECE: u64 = 1 << 20;
/// Octets at the end of a disk that a backup table takes at most.
const TAIL: u64 = 1 << 20;

/// What was written is not what is there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("opening the disk past the cache")]
    Open(#[source] io::Error),
    #[error("writing {length} octets at {at}")]
    Write { at: u64, length: usize, source: io::Error },
    #[error("reading {length} octets at {at}")]
    Read { at: u64, length: usize, source: io::Error },
    #[error("flushing the disk's cache")]
    Flush(#[source] io::Error),
    #[error("unpacking the image")]
    Source(#[source] io::Error),
    #[error("the image does not match its block map from octet {at} on")]
    Map { at: u64 },
    #[error("the disk does not keep what is written to it: octet {at} and following read back otherwise")]
    ReadBack { at: u64 },
    #[error("the image's partition table")]
    Table(#[source] GptError),
}

/// Where an image is written to.
pub(super) trait Medium {
    fn write_at(&self, octets: &[u8], at: u64) -> Result<(), WriteError>;
    /// Reads what the medium really holds.
    fn read_at(&self, octets: &mut [u8], at: u64) -> Result<(), WriteError>;
    /// Returns when all that was written will survive a loss of power.
    fn flush(&self) -> Result<(), WriteError>;
}

/// A block device.
pub(super) struct Device {
    file: File,
    /// Past the cache, which would give back what was written whatever the medium keeps.
    direct: File,
}

impl Device {
    pub(super) fn open(path: &Path, file: File) -> Result<Self, WriteError> {
        let mut options = File::options();
        let direct = options.read(true).custom_flags(OFlag::O_DIRECT.bits()).open(path);
        Ok(Self { file, direct: direct.map_err(WriteError::Open)? })
    }
}

impl Medium for Device {
    fn write_at(&self, octets: &[u8], at: u64) -> Result<(), WriteError> {
        let length = octets.len();
        self.file.write_all_at(octets, at).map_err(|source| WriteError::Write { at, length, source })
    }

    fn read_at(&self, octets: &mut [u8], at: u64) -> Result<(), WriteError> {
        let length = octets.len();
        let failed = |source| WriteError::Read { at, length, source };
        // The kernel wants the buffer on a block's boundary.
        let mut buffer = vec![0; length + BLOCK as usize];
        let aligned = buffer.as_ptr().align_offset(BLOCK as usize);
        let place = buffer.get_mut(aligned..aligned + length);
        let place = place.ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        self.direct.read_exact_at(place, at).map_err(failed)?;
        octets.copy_from_slice(place);
        Ok(())
    }

    fn flush(&self) -> Result<(), WriteError> {
        self.file.sync_all().map_err(WriteError::Flush)
    }
}

/// Zeros where partition tables are: a disk of `size` octets boots nothing from now on.
pub(super) fn erase_tables(medium: &dyn Medium, size: u64) -> Result<(), WriteError> {
    let zeros = vec![0; HEAD as usize];
    medium.write_at(&zeros, 0)?;
    medium.write_at(&zeros[..TAIL as usize], size.saturating_sub(TAIL))?;
    medium.flush()
}

/// Writes a little that is no part of the image's map; its place and length are whole sectors.
pub(super) fn write_and_compare(medium: &dyn Medium, octets: &[u8], at: u64) -> Result<(), WriteError> {
    medium.write_at(octets, at)?;
    medium.flush()?;
    let mut found = vec![0; octets.len()];
    medium.read_at(&mut found, at)?;
    if found == octets { Ok(()) } else { Err(WriteError::ReadBack { at }) }
}

/// Writes what the map tells of `source`, but for the head, which is returned.
pub(super) fn write(
    source: &mut dyn Read,
    map: &BlockMap,
    medium: &dyn Medium,
    advance: &mut dyn FnMut(u64),
) -> Result<Vec<u8>, WriteError> {
    let mut head = vec![0; HEAD as usize];
    let mut piece = vec![0; PIECE as usize];
    let mut at = 0;
    for range in &map.ranges {
        let start = range.first * BLOCK;
        let skipped = io::copy(&mut source.take(start - at), &mut io::sink()).map_err(WriteError::Source)?;
        if skipped != start - at {
            return Err(WriteError::Map { at: start });
        }
        at = start;
        let mut sum = Sha256::default();
        while at < end(range, map) {
            let length = length(at, end(range, map));
            let piece = &mut piece[..length];
            source.read_exact(piece).map_err(WriteError::Source)?;
            sum.update(piece);
            if at < HEAD {
                head[at as usize..at as usize + length].copy_from_slice(piece);
            } else {
                medium.write_at(piece, at)?;
            }
            at += length as u64;
            advance(length as u64);
        }
        if hex(&sum.finish()) != range.sha256 {
            return Err(WriteError::Map { at: start });
        }
    }
    Ok(head)
}

/// Partitions that are read as far as they go: what the map leaves out of them must be zeros indeed.
const WHOLE: [&str; 4] = ["esp", "BOOT0", "BOOT1", "factory"];

/// Zeros what the map leaves out, where it matters: within the file systems that the image brings, and at the
/// beginning of every other partition, where a file system of an earlier use would be found.
pub(super) fn clear(map: &BlockMap, partitions: &[Partition], medium: &dyn Medium) -> Result<(), WriteError> {
    let zeros = vec![0; PIECE as usize];
    for Partition { name, start, size } in partitions {
        let stop = if WHOLE.contains(&name.as_str()) { start + size } else { start + PIECE.min(*size) };
        let mut at = *start;
        // The ranges are in order: what lies before each of them is a gap.
        let ranges = map.ranges.iter().map(|range| (range.first * BLOCK, end(range, map)));
        for (from, to) in ranges.chain([(stop, stop)]) {
            while at < from.min(stop) {
                let length = length(at, from.min(stop));
                medium.write_at(&zeros[..length], at)?;
                at += length as u64;
            }
            at = at.max(to);
        }
    }
    Ok(())
}

/// Compares what the medium holds with the map, the head still being in memory.
pub(super) fn verify(
    map: &BlockMap,
    head: &[u8],
    medium: &dyn Medium,
    advance: &mut dyn FnMut(u64),
) -> Result<(), WriteError> {
    let mut piece = vec![0; PIECE as usize];
    for range in &map.ranges {
        let mut sum = Sha256::default();
        let mut at = range.first * BLOCK;
        while at < end(range, map) {
            let length = length(at, end(range, map));
            if at < HEAD {
                sum.update(&head[at as usize..at as usize + length]);
            } else {
                medium.read_at(&mut piece[..length], at)?;
                sum.update(&piece[..length]);
            }
            at += length as u64;
            advance(length as u64);
        }
        if hex(&sum.finish()) != range.sha256 {
            return Err(WriteError::ReadBack { at: range.first * BLOCK });
        }
    }
    Ok(())
}

fn end(range: &Range, map: &BlockMap) -> u64 {
    map.size.min((range.last + 1) * BLOCK)
}

/// At most a piece, and never across the end of the head.
fn length(at: u64, end: u64) -> usize {
    let stop = if at < HEAD { end.min(HEAD) } else { end };
    (stop - at).min(PIECE) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::tests::Memory;

    const SIZE: u64 = 8 * PIECE;

    /// Something in the head, across its end, and far behind.
    fn image() -> (Vec<u8>, BlockMap) {
        let mut octets = vec![0; SIZE as usize];
        octets[512..1024].fill(1);
        octets[HEAD as usize - 100..][..5000].fill(2);
        octets[5 * PIECE as usize..][..9000].fill(3);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &octets).unwrap();
        (octets, BlockMap::of_image(file.path()).unwrap())
    }

    #[test]
    fn what_is_written_is_the_image_but_for_its_head() {
        let (octets, map) = image();
        let memory = Memory::new(octets.len());
        let mut told = 0;
        let head = write(&mut octets.as_slice(), &map, &memory, &mut |more| told += more).unwrap();
        assert_eq!(head, octets[..HEAD as usize]);
        assert_eq!(told, map.mapped());
        verify(&map, &head, &memory, &mut |_| {}).unwrap();
        assert!(
            memory.octets.borrow()[..HEAD as usize].iter().all(|octet| *octet == 0xee),
            "the head comes last"
        );

        let partition = |name: &str, start, size| Partition { name: name.into(), start, size };
        let partitions = [partition("esp", PIECE, 5 * PIECE), partition("data", 6 * PIECE, 2 * PIECE)];
        clear(&map, &partitions, &memory).unwrap();
        let found = memory.octets.borrow();
        assert_eq!(found[PIECE as usize..6 * PIECE as usize], octets[PIECE as usize..6 * PIECE as usize]);
        assert!(found[6 * PIECE as usize..7 * PIECE as usize].iter().all(|octet| *octet == 0));
        assert_eq!(found[7 * PIECE as usize], 0xee, "the rest of a partition without a file system is left");
    }

    #[test]
    fn a_bit_that_reads_back_otherwise_is_found_wherever_it_is() {
        let (octets, map) = image();
        let memory = Memory::new(octets.len());
        let head = write(&mut octets.as_slice(), &map, &memory, &mut |_| {}).unwrap();
        for flip in [HEAD, HEAD + 4095, 5 * PIECE, 5 * PIECE + 8999] {
            memory.flip.set(Some(flip));
            let error = verify(&map, &head, &memory, &mut |_| {}).unwrap_err();
            assert!(matches!(error, WriteError::ReadBack { .. }), "{flip}: {error}");
        }
    }

    #[test]
    fn a_stream_that_is_not_the_maps_is_refused() {
        let (mut octets, map) = image();
        octets[5 * PIECE as usize] ^= 1;
        let memory = Memory::new(octets.len());
        let error = |source: &mut dyn Read| write(source, &map, &memory, &mut |_| {}).unwrap_err();
        assert!(matches!(error(&mut octets.as_slice()), WriteError::Map { at } if at == 5 * PIECE));
        assert!(matches!(error(&mut &octets[..3 * PIECE as usize]), WriteError::Map { .. }));
        assert!(matches!(error(&mut &octets[..5 * PIECE as usize + 1]), WriteError::Source(_)));
    }
}
