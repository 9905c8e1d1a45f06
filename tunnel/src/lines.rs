//! Reads newline-terminated lines of bounded length from a stream that may carry secrets.
//!
//! Both local protocols (UAPI and the control socket) are lines. The buffer grows up to a limit, then
//! the line is refused; it is wiped when it moves and when it is dropped, since lines hold keys.

use std::io::{self, Read};

use zeroize::{Zeroize, Zeroizing};

/// Initial buffer, octets: most requests fit.
const INITIAL: usize = 4096;
/// A buffer that is larger goes when its line is done with: a revocation list comes once a day, and its 64 MB
/// would stay as long as the connection.
const KEPT: usize = 1 << 20;

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// The line is longer than the limit. The stream cannot be used any more.
    #[error("line longer than {limit} octets")]
    TooLong { limit: usize },
    /// The stream ended inside a line.
    #[error("the connection ended inside a line")]
    Truncated,
    /// The stream failed.
    #[error("reading from the connection failed")]
    Read(#[from] io::Error),
}

/// A buffered reader of lines.
pub(crate) struct LineReader<R> {
    source: R,
    buffer: Zeroizing<Vec<u8>>,
    /// Octets of the buffer not yet returned.
    start: usize,
    end: usize,
    limit: usize,
}

impl<R: Read> LineReader<R> {
    /// `limit`: longest line accepted, octets, without its newline.
    pub(crate) fn new(source: R, limit: usize) -> Self {
        let buffer = Zeroizing::new(vec![0; INITIAL.min(limit + 1)]);
        Self { source, buffer, start: 0, end: 0, limit }
    }

    /// The next line without its newline, or `None` at a clean end of the stream.
    pub(crate) fn next_line(&mut self) -> Result<Option<&[u8]>, LineError> {
        let mut searched = self.start;
        loop {
            if let Some(at) = self.buffer[searched..self.end].iter().position(|&octet| octet == b'\n') {
                let line = self.start..searched + at;
                self.start = line.end + 1;
                return Ok(Some(&self.buffer[line]));
            }
            searched = self.end;
            if self.end - self.start > self.limit {
                return Err(LineError::TooLong { limit: self.limit });
            }
            if self.end == self.buffer.len() {
                searched -= self.start;
                self.make_room();
            }
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) if self.start == self.end => return Ok(None),
                Ok(0) => return Err(LineError::Truncated),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The last line is done with: gives back the memory of a long one, and tells whether it was one.
    pub(crate) fn release(&mut self) -> bool {
        let long = self.start == self.end && self.buffer.len() > KEPT;
        if long {
            self.buffer = Zeroizing::new(vec![0; INITIAL.min(self.limit + 1)]);
            (self.start, self.end) = (0, 0);
        }
        long
    }

    /// Moves the unfinished line to the front, into a larger buffer if it fills this one.
    fn make_room(&mut self) {
        let unfinished = self.end - self.start;
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.buffer[unfinished..].zeroize();
        } else {
            // The old buffer is wiped when it is replaced.
            let mut larger = Zeroizing::new(vec![0; (self.buffer.len() * 2).min(self.limit + 1)]);
            larger[..unfinished].copy_from_slice(&self.buffer[..unfinished]);
            self.buffer = larger;
        }
        self.start = 0;
        self.end = unfinished;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `step` octets a read.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn lines_come_out_whole_whatever_the_reads() {
        let long = "x".repeat(10_000);
        let text = format!("a\n\n{long}\nlast\n");
        for step in [1, 2, 7, 4096, 100_000] {
            let mut reader = LineReader::new(Dribble(text.as_bytes(), step), 10_000);
            for expected in ["a", "", &long, "last"] {
                assert_eq!(reader.next_line().unwrap(), Some(expected.as_bytes()), "step {step}");
            }
            assert!(reader.next_line().unwrap().is_none());
        }
    }

    #[test]
    fn the_limit_holds_exactly() {
        for (length, accepted) in [(0, true), (99, true), (100, true), (101, false), (5000, false)] {
            let text = format!("{}\n", "y".repeat(length));
            for step in [1, 10_000] {
                let mut reader = LineReader::new(Dribble(text.as_bytes(), step), 100);
                let result = reader.next_line();
                assert_eq!(
                    matches!(result, Ok(Some(line)) if line.len() == length),
                    accepted,
                    "{length}/{step}"
                );
                assert_eq!(
                    matches!(result, Err(LineError::TooLong { limit: 100 })),
                    !accepted,
                    "{length}/{step}"
                );
            }
        }
    }

    #[test]
    fn a_long_line_leaves_no_large_buffer() {
        let text = format!("{}\nnext\nunfinished", "z".repeat(3 * KEPT));
        for step in [1000, 10_000_000] {
            let mut reader = LineReader::new(Dribble(text.as_bytes(), step), 4 * KEPT);
            assert_eq!(reader.next_line().unwrap().unwrap().len(), 3 * KEPT);
            reader.release();
            // Lines that were read along with it are not lost.
            assert_eq!(reader.next_line().unwrap(), Some(b"next".as_slice()), "step {step}");
        }
        let mut reader = LineReader::new(text.as_bytes(), 4 * KEPT);
        reader.next_line().unwrap();
        reader.next_line().unwrap();
        assert!(matches!(reader.next_line(), Err(LineError::Truncated)));
        let alone = format!("{}\n", "z".repeat(3 * KEPT));
        let mut reader = LineReader::new(alone.as_bytes(), 4 * KEPT);
        reader.next_line().unwrap();
        reader.release();
        assert_eq!(reader.buffer.len(), INITIAL);
    }

    #[test]
    fn an_unfinished_line_is_an_error() {
        let mut reader = LineReader::new(Dribble(b"done\nhalf", 3), 100);
        assert_eq!(reader.next_line().unwrap(), Some(b"done".as_slice()));
        assert!(matches!(reader.next_line(), Err(LineError::Truncated)));
    }
}
