//! Counters and events: what the engine tells about itself.
//!
//! Counters are exact. Events are best effort: the queue is bounded, refusals of one kind are told at most
//! [`REFUSALS_PER_SECOND`] times a second, and both kinds of loss are counted.

use crate::PublicKey;
use crate::tally::Tally;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use verona_contract::control::{Counters, Event, Refusal};

/// Events that wait for the shell, at most; about 300 octets each.
const MAX_QUEUE: usize = 1024;
/// Refusals of one reason that are told one by one.
const REFUSALS_PER_SECOND: u32 = 5;

/// The engine's part of the totals of [`Counters`]; the lanes' is [`Tally`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Handshakes confirmed, by either side.
    pub(crate) handshakes: u64,
    /// Initiations sent, retries included.
    pub(crate) initiations_sent: u64,
    /// Initiations answered.
    pub(crate) responses_sent: u64,
    /// Introductions that made or renewed a record.
    pub(crate) introductions: u64,
    /// Introductions of a certificate that was known already.
    pub(crate) introductions_repeated: u64,
    pub(crate) introductions_sent: u64,
    pub(crate) cookies_sent: u64,
    pub(crate) cookies_taken: u64,
    /// Octets of messages that the engine sent; data is counted by the lanes.
    pub(crate) tx_bytes: u64,
    /// Packets for peers that may have no session.
    pub(crate) packets_unroutable: u64,
    pub(crate) sessions_cut: u64,
    pub(crate) sessions_expired: u64,
    pub(crate) roamed: u64,
    /// Records that gave way to others of their owner.
    pub(crate) records_evicted: u64,
    pub(crate) events_dropped: u64,
}

impl Totals {
    fn named(&self, lanes: &Tally) -> BTreeMap<String, u64> {
        let all = [
            ("handshakes", self.handshakes),
            ("initiations_sent", self.initiations_sent),
            ("responses_sent", self.responses_sent),
            ("introductions", self.introductions),
            ("introductions_repeated", self.introductions_repeated),
            ("introductions_sent", self.introductions_sent),
            ("cookies_sent", self.cookies_sent),
            ("cookies_taken", self.cookies_taken),
            ("rx_bytes", lanes.rx_bytes),
            ("tx_bytes", self.tx_bytes + lanes.tx_bytes),
            ("rx_packets", lanes.rx_packets),
            ("tx_packets", lanes.tx_packets),
            ("packets_unroutable", self.packets_unroutable + lanes.packets_unroutable),
            ("packets_wrong_source", lanes.packets_wrong_source),
            ("data_refused", lanes.data_refused),
            ("upcalls_dropped", lanes.upcalls_dropped),
            ("ecn_marked", lanes.ecn_marked),
            ("ecn_dropped", lanes.ecn_dropped),
            ("ecn_unexpected", lanes.ecn_unexpected),
            ("packets_cut", lanes.packets_cut),
            ("packets_too_big", lanes.packets_too_big),
            ("sessions_cut", self.sessions_cut),
            ("sessions_expired", self.sessions_expired),
            ("roamed", self.roamed),
            ("records_evicted", self.records_evicted),
            ("events_dropped", self.events_dropped),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// One second of one reason's refusals.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Telling {
    since: Option<Instant>,
    count: u32,
    suppressed: u64,
}

impl Telling {
    /// Whether to tell one more; then how many were not told since the last one.
    pub(crate) fn tell(&mut self, now: Instant) -> Option<u64> {
        let since = self.since.get_or_insert(now);
        if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*since, self.count) = (now, 0);
        }
        if self.count < REFUSALS_PER_SECOND {
            self.count += 1;
            return Some(std::mem::take(&mut self.suppressed));
        }
        self.suppressed += 1;
        None
    }
}

#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) totals: Totals,
    refused: BTreeMap<Refusal, u64>,
    told: BTreeMap<Refusal, Telling>,
    queue: VecDeque<Event>,
}

impl Journal {
    pub(crate) fn push(&mut self, event: Event) {
        if self.queue.len() < MAX_QUEUE {
            self.queue.push_back(event);
        } else {
            self.totals.events_dropped += 1;
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    /// Counts a refusal, and tells it unless too many like it were told within the second.
    pub(crate) fn refuse(&mut self, reason: Refusal, key: Option<PublicKey>, from: SocketAddr, now: Instant) {
        *self.refused.entry(reason).or_default() += 1;
        if let Some(suppressed) = self.told.entry(reason).or_default().tell(now) {
            self.push(Event::Refused { reason, key, endpoint: from, suppressed });
        }
    }

    /// The counters of the engine and its lanes together.
    pub(crate) fn counters(&self, lanes: &Tally) -> Counters {
        let mut refused = self.refused.clone();
        for (reason, count) in lanes.refused().into_iter().filter(|(_, count)| *count > 0) {
            *refused.entry(reason).or_default() += count;
        }
        let refused = refused.iter().map(|(reason, count)| (reason.name().to_owned(), *count)).collect();
        Counters { refused, totals: self.totals.named(lanes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_counted_and_told_in_part() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let from = "192.0.2.1:1".parse().unwrap();
        let mut journal = Journal::default();
        for _ in 0..100 {
            journal.refuse(Refusal::Mac1, None, from, now);
        }
        journal.refuse(Refusal::UnknownKey, None, from, now);
        assert_eq!(journal.queue.len(), REFUSALS_PER_SECOND as usize + 1);
        journal.queue.clear();
        journal.refuse(Refusal::Mac1, None, from, now + Duration::from_secs(1));
        let suppressed = 100 - u64::from(REFUSALS_PER_SECOND);
        assert_eq!(
            journal.pop(),
            Some(Event::Refused { reason: Refusal::Mac1, key: None, endpoint: from, suppressed })
        );
        assert_eq!(journal.counters(&Tally::default()).refused["mac1"], 101);
        for _ in 0..2 * MAX_QUEUE {
            journal.push(Event::Expired { key: PublicKey::new([9; 32]).unwrap() });
        }
        assert_eq!(journal.queue.len(), MAX_QUEUE);
        assert_eq!(journal.counters(&Tally::default()).totals["events_dropped"], MAX_QUEUE as u64);
    }
}
