//! The format of a spool segment, and what is left of one after a crash.
//!
//! ```text
//! header   magic (8) | stream (1) | zero (3) | first seq u64 | edge (16) | previous hash (32) | CRC32 u32
//! frame    length u32 | CRC32 u32 of the length | CRC32 u32 of the payload | payload: the record in JSON
//! ```
//!
//! Numbers are little-endian. A length has its own CRC, since an altered one would look like a torn write. The header holds the end of the chain before the segment, so the newest segment
//! alone tells where the chain goes on, also when it is empty and all others are gone. Three ends of a file are
//! told apart: clean; torn, when the last write was cut off, which was then never acknowledged; damaged, when
//! octets changed afterwards.

use super::chain::Head;
use uuid::Uuid;
use verona_contract::log::{Hash, Record, Stream};

/// Begins each file; the last octet is the version of the format.
const MAGIC: [u8; 8] = *b"VSPOOL\0\x01";

/// Octets of the header.
pub const HEADER: usize = 72;

/// Octets of a frame before its payload.
pub const FRAME_HEAD: usize = 12;

/// Longest payload: every octet of body and attributes escaped as `\u0000` stays below it.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// No frame is shorter: the UUIDs and the hash of a record alone take this much. Bounds how many records an
/// unreadable stretch can have held.
pub const MIN_FRAME: usize = 256;

/// A segment of this many octets is closed and the next one begun. Smaller ones are deleted sooner, larger
/// ones cost fewer renames.
pub const ROTATE_AT: u64 = 1024 * 1024;

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose records.
    pub edge: Uuid,
    /// Which stream.
    pub stream: Stream,
    /// The end of the chain before the segment.
    pub head: Head,
}

/// Why a file is not a segment at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a spool segment: its header does not read")]
pub struct HeaderError;

impl Header {
    /// As it begins the file.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut octets = [0; HEADER];
        octets[..8].copy_from_slice(&MAGIC);
        octets[8] = self.stream as u8;
        octets[12..20].copy_from_slice(&self.head.next_seq.to_le_bytes());
        octets[20..36].copy_from_slice(self.edge.as_bytes());
        octets[36..68].copy_from_slice(&self.head.previous.0);
        let crc = crc32fast::hash(&octets[..68]);
        octets[68..].copy_from_slice(&crc.to_le_bytes());
        octets
    }

    /// Reads the head of a file.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] when it is short, of another format or altered.
    pub fn decode(file: &[u8]) -> Result<Self, HeaderError> {
        let octets: &[u8; HEADER] = file.first_chunk().ok_or(HeaderError)?;
        let (body, crc) = octets.split_at(68);
        if body[..8] != MAGIC || crc != crc32fast::hash(body).to_le_bytes() {
            return Err(HeaderError);
        }
        let stream = Stream::ALL.into_iter().find(|stream| *stream as u8 == body[8]).ok_or(HeaderError)?;
        let mut edge = [0; 16];
        edge.copy_from_slice(&body[20..36]);
        let mut previous = [0; 32];
        previous.copy_from_slice(&body[36..68]);
        // Records count from 1.
        let next_seq = Some(u64_at(body, 12)).filter(|&seq| seq > 0).ok_or(HeaderError)?;
        let head = Head { next_seq, previous: Hash(previous) };
        Ok(Self { edge: Uuid::from_bytes(edge), stream, head })
    }
}

/// A record that is too long for a frame; [`crate::journal::Draft::check`] prevents it.
#[derive(Debug, thiserror::Error)]
#[error("log record does not encode into at most {MAX_PAYLOAD} octets")]
pub struct EncodeError;

/// Appends the frame of `record` to `out`.
///
/// # Errors
///
/// [`EncodeError`]; `out` is then as before.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD]);
    let written = serde_json::to_writer(&mut *out, record);
    let length = out.len() - start - FRAME_HEAD;
    if written.is_err() || length > MAX_PAYLOAD {
        out.truncate(start);
        return Err(EncodeError);
    }
    // At most MAX_PAYLOAD, checked above.
    let length = (length as u32).to_le_bytes();
    let crc = crc32fast::hash(&out[start + FRAME_HEAD..]);
    out[start..start + 4].copy_from_slice(&length);
    out[start + 4..start + 8].copy_from_slice(&crc32fast::hash(&length).to_le_bytes());
    out[start + 8..start + FRAME_HEAD].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a whole frame.
    Clean,
    /// Within a frame, or in zeros that the file system left: a write that was cut off before it was
    /// acknowledged. To be cut back to [`Recovered::length`].
    Torn,
    /// In octets that were altered after they were written. Records with numbers below `resume_at` may have
    /// existed, so none of those numbers is used again.
    Damaged {
        /// The first number that certainly never was.
        resume_at: u64,
    },
}

/// What a segment holds.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Its head.
    pub header: Header,
    /// The records, from the first on, up to the first frame that is not whole.
    pub records: Vec<Record>,
    /// Octets of header and whole frames.
    pub length: usize,
    /// The end of the chain after the last record.
    pub head: Head,
    /// What comes after `length`.
    pub end: End,
}

/// Reads a segment as it lies on the disk.
///
/// # Errors
///
/// [`HeaderError`] when nothing of it can be used.
pub fn recover(file: &[u8]) -> Result<Recovered, HeaderError> {
    let header = Header::decode(file)?;
    let mut found =
        Recovered { header, records: Vec::new(), length: HEADER, head: header.head, end: End::Clean };
    loop {
        let rest = &file[found.length..];
        if rest.is_empty() {
            return Ok(found);
        }
        match frame(rest) {
            Frame::Whole(record, length) if found.head.continues(header.stream, header.edge, &record) => {
                found.head.advance(&record);
                found.records.push(record);
                found.length += length;
            }
            Frame::CutOff => {
                found.end = End::Torn;
                return Ok(found);
            }
            Frame::Whole(..) | Frame::Altered => {
                let lost = (rest.len() / MIN_FRAME) as u64 + 1;
                found.end = End::Damaged { resume_at: found.head.next_seq.saturating_add(lost) };
                return Ok(found);
            }
        }
    }
}

enum Frame {
    Whole(Record, usize),
    CutOff,
    Altered,
}

fn frame(rest: &[u8]) -> Frame {
    if rest.iter().all(|&octet| octet == 0) {
        return Frame::CutOff;
    }
    let Some((head, rest)) = rest.split_first_chunk::<FRAME_HEAD>() else { return Frame::CutOff };
    let length = [head[0], head[1], head[2], head[3]];
    if crc32fast::hash(&length).to_le_bytes() != head[4..8] {
        return Frame::Altered;
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_PAYLOAD {
        return Frame::Altered;
    }
    let Some(payload) = rest.get(..length) else { return Frame::CutOff };
    if crc32fast::hash(payload).to_le_bytes() != head[8..] {
        return Frame::Altered;
    }
    match serde_json::from_slice(payload) {
        Ok(record) => Frame::Whole(record, FRAME_HEAD + length),
        Err(_) => Frame::Altered,
    }
}

fn u64_at(octets: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&octets[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests;
