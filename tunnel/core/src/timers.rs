//! Deadlines of live sessions, in a heap.
//!
//! An entry is never searched for: a session remembers its own deadline, and an entry that no longer agrees
//! with it is skipped when it comes up. A session is scheduled again only when its entry came up or an
//! earlier deadline is wanted, so the heap holds about one entry a live session.

use crate::peers::PeerId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, PeerId)>>,
}

impl Timers {
    pub(crate) fn schedule(&mut self, at: Instant, id: PeerId) {
        self.heap.push(Reverse((at, id)));
    }

    /// The earliest entry, which may be stale: waking up for it costs nothing.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one entry that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, PeerId)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
