//! Counters and events: what the engine tells about itself.
//!
//! Counters are exact. Events are best effort: the queue is bounded, refusals of one kind are told at most
//! [`REFUSALS_PER_SECOND`] times a second, and both kinds of loss are counted.

use crate::PublicKey;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use verona_contract::control::{Counters, Event, Refusal};

/// Events that wait for the shell, at most; about 300 octets each.
const MAX_QUEUE: usize = 1024;
/// Refusals of one reason that are told one by one.
const REFUSALS_PER_SECOND: u32 = 5;

/// The totals of [`Counters`], one field a name.
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
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) rx_packets: u64,
    pub(crate) tx_packets: u64,
    /// Inner packets without a peer, without an endpoint, or dropped from a full queue.
    pub(crate) packets_unroutable: u64,
    /// Inner packets from a source that is not the sender's.
    pub(crate) packets_wrong_source: u64,
    /// Transport messages that did not authenticate, or were replayed.
    pub(crate) data_refused: u64,
    pub(crate) sessions_cut: u64,
    pub(crate) sessions_expired: u64,
    pub(crate) roamed: u64,
    /// Records that gave way to others of their owner.
    pub(crate) records_evicted: u64,
    pub(crate) events_dropped: u64,
}

impl Totals {
    fn named(&self) -> BTreeMap<String, u64> {
        let all = [
            ("handshakes", self.handshakes),
            ("initiations_sent", self.initiations_sent),
            ("responses_sent", self.responses_sent),
            ("introductions", self.introductions),
            ("introductions_repeated", self.introductions_repeated),
            ("introductions_sent", self.introductions_sent),
            ("cookies_sent", self.cookies_sent),
            ("cookies_taken", self.cookies_taken),
            ("rx_bytes", self.rx_bytes),
            ("tx_bytes", self.tx_bytes),
            ("rx_packets", self.rx_packets),
            ("tx_packets", self.tx_packets),
            ("packets_unroutable", self.packets_unroutable),
            ("packets_wrong_source", self.packets_wrong_source),
            ("data_refused", self.data_refused),
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
#[derive(Clone, Copy)]
struct Told {
    since: Instant,
    count: u32,
    suppressed: u64,
}

#[derive(Default)]
pub(crate) struct Journal {
    pub(crate) totals: Totals,
    refused: BTreeMap<Refusal, u64>,
    told: BTreeMap<Refusal, Told>,
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
        let told = self.told.entry(reason).or_insert(Told { since: now, count: 0, suppressed: 0 });
        if now.saturating_duration_since(told.since) >= Duration::from_secs(1) {
            (told.since, told.count) = (now, 0);
        }
        if told.count < REFUSALS_PER_SECOND {
            told.count += 1;
            let suppressed = std::mem::take(&mut told.suppressed);
            self.push(Event::Refused { reason, key, endpoint: from, suppressed });
        } else {
            told.suppressed += 1;
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        let refused = self.refused.iter().map(|(reason, count)| (reason.name().to_owned(), *count)).collect();
        Counters { refused, totals: self.totals.named() }
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
        assert_eq!(journal.counters().refused["mac1"], 101);
        for _ in 0..2 * MAX_QUEUE {
            journal.push(Event::Expired { key: PublicKey::new([9; 32]).unwrap() });
        }
        assert_eq!(journal.queue.len(), MAX_QUEUE);
        assert_eq!(journal.counters().totals["events_dropped"], MAX_QUEUE as u64);
    }
}
