//! What still fits into the spool, and which segments may go.
//!
//! The spool never fills the disk: at its quota new records are refused, the lower classes first, and a record
//! that was acknowledged stays until the center has it.

use verona_contract::log::Stream;

/// The least quota, in octets: a segment for each stream and one to spare for each.
pub const MIN_QUOTA: u64 = 8 * super::segment::ROTATE_AT;

/// Percent of the quota that a stream may fill together with all others. What is left above is for the
/// classes that matter more: a flood of flow records leaves room for the audit trail.
const fn share(stream: Stream) -> u64 {
    match stream {
        Stream::Flow => 50,
        Stream::System => 70,
        Stream::Auth => 90,
        Stream::Audit => 100,
    }
}

/// Whether `length` more octets of `stream` fit, with `used` octets of all streams on the disk.
#[must_use]
pub const fn admits(stream: Stream, used: u64, length: u64, quota: u64) -> bool {
    used.saturating_add(length) <= quota / 100 * share(stream)
}

/// The numbers that one segment of a stream holds. Empty when `last < first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of its first record.
    pub first: u64,
    /// Number of its last record.
    pub last: u64,
}

/// The segment with the first record after `sent`, in a row of segments in the order of their numbers.
#[must_use]
pub fn next_unsent(spans: &[Span], sent: u64) -> Option<usize> {
    spans.iter().position(|span| span.last >= span.first && span.last > sent)
}

/// How many segments, from the oldest, are wholly sent and may be deleted. The newest stays: its head holds
/// the end of the chain.
#[must_use]
pub fn deletable(spans: &[Span], sent: u64) -> usize {
    let closed = spans.len().saturating_sub(1);
    spans[..closed].iter().take_while(|span| span.last < span.first || span.last <= sent).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_classes_are_refused_first() {
        let fits = |stream| admits(stream, 695, 10, 1_000);
        assert_eq!(Stream::ALL.map(fits), [false, false, true, true]);
        assert!(admits(Stream::Audit, 990, 10, 1_000));
        assert!(!admits(Stream::Audit, 991, 10, 1_000));
        assert!(!admits(Stream::Audit, u64::MAX, 10, 1_000));
    }

    #[test]
    fn selection() {
        let spans = [Span { first: 1, last: 10 }, Span { first: 11, last: 20 }, Span { first: 21, last: 20 }];
        for (sent, next, gone) in [
            (0, Some(0), 0),
            (9, Some(0), 0),
            (10, Some(1), 1),
            (15, Some(1), 1),
            (20, None, 2),
            // A cursor beyond the end is of a spool that was lost: nothing to send.
            (99, None, 2),
        ] {
            assert_eq!(next_unsent(&spans, sent), next, "sent {sent}");
            assert_eq!(deletable(&spans, sent), gone, "sent {sent}");
        }
        assert_eq!(deletable(&[Span { first: 1, last: 5 }], 5), 0, "the newest stays");
        assert_eq!(deletable(&[], 5), 0);
    }
}
