//! What still fits into the spool, what goes when nothing fits any more, and which segments are done with.
//!
//! The spool never fills the disk. At its quota whole segments go, the oldest of the least important class first:
//! flow, system, auth, audit. A class never pushes a more important one out, and a flood of one class pushes its own
//! past out rather than everything else's. What goes is told by a `log.gap`; that is the spool's part.

use verona_contract::log::Stream;

/// The least quota, in octets: a segment for each stream and one to spare for each.
pub const MIN_QUOTA: u64 = 8 * super::segment::ROTATE_AT;

/// Percent of the quota that one stream may fill.
const fn share(stream: Stream) -> u64 {
    match stream {
        Stream::Flow | Stream::System => 50,
        Stream::Auth => 75,
        Stream::Audit => 100,
    }
}

/// What one stream has on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Octets of all its segments.
    pub octets: u64,
    /// Whether there is a segment besides the open one, which can go.
    pub closed: bool,
}

/// Whether there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It fits.
    Fits,
    /// It may fit once the oldest segment of this stream has gone.
    Drop(Stream),
    /// Only what matters more could go: it does not fit.
    Full,
}

/// Whether `length` more octets of `stream` fit beside what each stream holds, in the order of [`Stream::ALL`].
#[must_use]
pub fn room(stream: Stream, length: u64, holdings: &[Holding; 4], quota: u64) -> Room {
    let own = holdings[stream as usize];
    if own.octets.saturating_add(length) > quota / 100 * share(stream) {
        return if own.closed { Room::Drop(stream) } else { Room::Full };
    }
    let used = holdings.iter().fold(length, |used, one| used.saturating_add(one.octets));
    if used <= quota {
        return Room::Fits;
    }
    let may_go = |one: &Stream| *one <= stream && holdings[*one as usize].closed;
    Stream::ALL.into_iter().find(may_go).map_or(Room::Full, Room::Drop)
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
    fn the_least_important_goes_first_and_never_for_something_less() {
        use Stream::{Audit, Auth, Flow, System};
        let some = |octets| Holding { octets, closed: true };
        let open = |octets| Holding { octets, closed: false };
        for (name, stream, holdings, expected) in [
            ("room", Flow, [some(300), some(300), some(100), some(100)], Room::Fits),
            ("flow first", Audit, [some(100), some(300), some(300), some(300)], Room::Drop(Flow)),
            ("then system", Audit, [open(100), some(300), some(300), some(300)], Room::Drop(System)),
            ("then auth", Audit, [open(1), open(1), some(498), some(500)], Room::Drop(Auth)),
            ("then audit", Audit, [open(1), open(1), open(1), some(900)], Room::Fits),
            ("then audit", Audit, [open(1), open(1), open(1), some(997)], Room::Drop(Audit)),
            ("flow does not push auth out", Flow, [open(1), some(400), some(400), some(199)], Room::Full),
            ("system pushes flow out", System, [some(1), some(400), some(400), some(199)], Room::Drop(Flow)),
            ("its share of flow", Flow, [some(491), open(1), open(1), open(1)], Room::Drop(Flow)),
            ("its share of auth", Auth, [some(100), open(1), some(741), open(1)], Room::Drop(Auth)),
            ("its share, all in one", Flow, [open(491), open(1), open(1), open(1)], Room::Full),
            ("beyond all numbers", Audit, [open(u64::MAX), open(1), open(1), open(1)], Room::Full),
        ] {
            assert_eq!(room(stream, 10, &holdings, 1_000), expected, "{name}");
        }
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
