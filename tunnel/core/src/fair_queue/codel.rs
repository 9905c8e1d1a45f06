//! CoDel for one flow (RFC 8289): a queue that stood for an interval loses an item, then others ever more often
//! until it has dissolved. A burst that drains in time loses none.

use std::time::{Duration, Instant};

/// A wait that is no harm.
pub(super) const TARGET: Duration = Duration::from_millis(5);
/// How long a queue may stand: a round trip of most paths.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Codel {
    /// When the wait will have been above the target for an interval.
    standing: Option<Instant>,
    /// When the next one is dropped, while dropping.
    next_drop: Option<Instant>,
    /// Drops since it began.
    count: u32,
}

impl Codel {
    /// Whether to drop the item that waited for `wait`. `last`: nothing is queued behind it.
    pub(super) fn judge(&mut self, now: Instant, wait: Duration, last: bool) -> bool {
        if wait < TARGET || last {
            self.standing = None;
            self.next_drop = None;
            return false;
        }
        let standing = *self.standing.get_or_insert(now + INTERVAL);
        match self.next_drop {
            Some(next) if now >= next => {
                self.count += 1;
                self.next_drop = Some(next + self.pause());
                true
            }
            Some(_) => false,
            None if now >= standing => {
                // Soon after an earlier time of dropping, the rate starts near where it was (§5.5).
                let recent = now.saturating_duration_since(standing) < INTERVAL * 16 && self.count > 2;
                self.count = if recent { self.count - 2 } else { 1 };
                self.next_drop = Some(now + self.pause());
                true
            }
            None => false,
        }
    }

    fn pause(&self) -> Duration {
        INTERVAL.div_f64(f64::from(self.count.max(1)).sqrt())
    }
}
