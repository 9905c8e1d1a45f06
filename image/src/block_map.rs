//! The block map of a disk image (bmap 2.0, as `bmaptool` reads it): which blocks hold something, with a checksum
//! for each range and one for the map itself. What it leaves out is zeros and need not be written.
//!
//! Made from the content, not from the holes that the file system happened to make, so that it is the same for
//! the same image. Read are maps with SHA-256 and blocks of 4 KiB, which are those that we and `bmaptool` make.

use crate::digest::{Sha256, hex};
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Octets of a block.
pub(crate) const BLOCK: u64 = 4096;
/// Octets read at once.
const PIECE: u64 = 1 << 20;
/// In place of the map's own checksum while that is computed.
const NO_CHECKSUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Blocks `first` to `last`, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Of the blocks' content, in hexadecimal digits.
    pub(crate) sha256: String,
}

impl Range {
    const fn blocks(&self) -> u64 {
        (self.last + 1).saturating_sub(self.first)
    }
}

/// A whole map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockMap {
    /// Octets of the image.
    pub(crate) size: u64,
    pub(crate) ranges: Vec<Range>,
}

/// Not a block map that we can go by.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("block map: {0}")]
pub(crate) struct MapError(&'static str);

impl BlockMap {
    /// Reads a disk image, whose size must be a multiple of a block's.
    pub(crate) fn of_image(image: &Path) -> io::Result<Self> {
        let file = File::open(image)?;
        let size = file.metadata()?.len();
        let mut ranges = Vec::new();
        for (first, last) in filled(&file, size)? {
            let mut sum = Sha256::default();
            let mut piece = vec![0; PIECE as usize];
            let (mut at, end) = (first * BLOCK, size.min((last + 1) * BLOCK));
            while at < end {
                let length = (end - at).min(PIECE) as usize;
                file.read_exact_at(&mut piece[..length], at)?;
                sum.update(&piece[..length]);
                at += length as u64;
            }
            ranges.push(Range { first, last, sha256: hex(&sum.finish()) });
        }
        Ok(Self { size, ranges })
    }

    /// How many octets hold something.
    pub(crate) fn mapped(&self) -> u64 {
        self.ranges.iter().map(|range| range.blocks() * BLOCK).sum()
    }

    /// The map as a file.
    pub(crate) fn to_xml(&self) -> String {
        let xml = self.xml_with(NO_CHECKSUM);
        self.xml_with(&hex(&Sha256::of(xml.as_bytes())))
    }

    fn xml_with(&self, checksum: &str) -> String {
        let (size, blocks) = (self.size, self.size.div_ceil(BLOCK));
        let mapped: u64 = self.ranges.iter().map(Range::blocks).sum();
        let mut xml = format!(
            "<?xml version=\"1.0\" ?>\n<bmap version=\"2.0\">\n    <ImageSize> {size} </ImageSize>\n    \
             <BlockSize> {BLOCK} </BlockSize>\n    <BlocksCount> {blocks} </BlocksCount>\n    \
             <MappedBlocksCount> {mapped} </MappedBlocksCount>\n    <ChecksumType> sha256 </ChecksumType>\n    \
             <BmapFileChecksum> {checksum} </BmapFileChecksum>\n    <BlockMap>\n"
        );
        for Range { first, last, sha256 } in &self.ranges {
            let blocks = if first == last { first.to_string() } else { format!("{first}-{last}") };
            // Into memory: this cannot fail.
            let _ = writeln!(xml, "        <Range chksum=\"{sha256}\"> {blocks} </Range>");
        }
        xml.push_str("    </BlockMap>\n</bmap>\n");
        xml
    }

    /// Reads a map and checks it against its own checksum.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub(crate) fn parse(xml: &str) -> Result<Self, MapError> {
        let stated = element(xml, "BmapFileChecksum").ok_or(MapError("it has no checksum"))?;
        if stated.len() != NO_CHECKSUM.len() {
            return Err(MapError("its checksum is not SHA-256"));
        }
        if hex(&Sha256::of(xml.replacen(stated, NO_CHECKSUM, 1).as_bytes())) != stated {
            return Err(MapError("it was altered: its checksum is another"));
        }
        if element(xml, "BlockSize").and_then(|text| text.parse().ok()) != Some(BLOCK) {
            return Err(MapError("its blocks are not of 4096 octets"));
        }
        let size = element(xml, "ImageSize").and_then(|text| text.parse().ok());
        let size: u64 = size.ok_or(MapError("it has no size of the image"))?;
        let mut map = Self { size, ranges: Vec::new() };
        for line in xml.lines().filter(|line| line.trim_start().starts_with("<Range")) {
            let range = range(line).ok_or(MapError("a range is malformed"))?;
            let after = map.ranges.last().map_or(0, |before| before.last + 1);
            if range.first < after || range.last < range.first || range.last >= size.div_ceil(BLOCK) {
                return Err(MapError("its ranges overlap, are out of order or behind the end of the image"));
            }
            map.ranges.push(range);
        }
        Ok(map)
    }
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0.trim())
}

/// `<Range chksum="…"> 3-7 </Range>`
fn range(line: &str) -> Option<Range> {
    let (_, rest) = line.split_once("chksum=\"")?;
    let (sha256, rest) = rest.split_once("\">")?;
    let (first, last) = match rest.split_once("</")?.0.trim().split_once('-') {
        Some((first, last)) => (first, last),
        None => [rest.split_once("</")?.0.trim(); 2].into(),
    };
    Some(Range { first: first.parse().ok()?, last: last.parse().ok()?, sha256: sha256.to_owned() })
}

/// Runs of blocks that are not all zeros, first and last.
fn filled(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut piece = vec![0; PIECE as usize];
    let mut at = 0;
    while let Some(data) = next_data(file, at, size)? {
        at = data / BLOCK * BLOCK;
        let length = (size - at).min(PIECE) as usize;
        file.read_exact_at(&mut piece[..length], at)?;
        for (block, number) in piece[..length].chunks(BLOCK as usize).zip(at / BLOCK..) {
            if block.iter().all(|octet| *octet == 0) {
                continue;
            }
            match runs.last_mut().filter(|(_, last)| *last + 1 == number) {
                Some((_, last)) => *last = number,
                None => runs.push((number, number)),
            }
        }
        at += length as u64;
    }
    Ok(runs)
}

/// Where data begins at or after `at`; holes are only skipped where the file system tells of them.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<u64>> {
    if at >= size {
        return Ok(None);
    }
    match lseek(file, at.cast_signed(), Whence::SeekData) {
        Ok(data) => Ok(Some(data.cast_unsigned())),
        Err(Errno::ENXIO) => Ok(None),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(Some(at)),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(size: u64, filled: &[(u64, &[u8])]) -> tempfile::NamedTempFile {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        for (at, content) in filled {
            image.as_file().write_all_at(content, *at).unwrap();
        }
        image
    }

    #[test]
    fn what_holds_something_is_mapped() {
        // The end of block 0 and the beginning of block 1; then one octet behind more than a piece of zeros that
        // are really written.
        let zeros = vec![0; PIECE as usize];
        let image = image(3 * PIECE, &[(4095, b"ab"), (8192, &zeros), (2 * PIECE + 1, b"c")]);
        let map = BlockMap::of_image(image.path()).unwrap();
        let blocks: Vec<_> = map.ranges.iter().map(|range| (range.first, range.last)).collect();
        assert_eq!(blocks, [(0, 1), (512, 512)]);
        let mut content = vec![0; 4096];
        content[1] = b'c';
        assert_eq!(map.ranges[1].sha256, hex(&Sha256::of(&content)));
        let xml = map.to_xml();
        assert!(xml.contains("<MappedBlocksCount> 3 </MappedBlocksCount>"), "{xml}");
        assert_eq!(map.mapped(), 3 * BLOCK);
        assert_eq!(BlockMap::parse(&xml).unwrap(), map);
        // The map's own checksum is that of the map without it.
        let (_, rest) = xml.split_once("<BmapFileChecksum> ").unwrap();
        let blank = xml.replace(&rest[..64], NO_CHECKSUM);
        assert_eq!(rest[..64], hex(&Sha256::of(blank.as_bytes())));
    }

    #[test]
    fn the_nearest_bad_ones() {
        let map = BlockMap::of_image(image(PIECE, &[(0, b"a"), (8192, b"b")]).path()).unwrap();
        let xml = map.to_xml();
        let error = |xml: &str| BlockMap::parse(xml).unwrap_err().to_string();
        assert_eq!(
            error(&xml.replace("> 2 <", "> 3 <")),
            "block map: it was altered: its checksum is another"
        );
        assert_eq!(error(""), "block map: it has no checksum");
        for (first, last) in [(0, 0), (2, 1), (2, 256)] {
            let mut bad = map.clone();
            (bad.ranges[1].first, bad.ranges[1].last) = (first, last);
            assert_eq!(
                error(&bad.to_xml()),
                "block map: its ranges overlap, are out of order or behind the end of the image"
            );
        }
    }
}
