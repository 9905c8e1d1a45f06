//! What a lane counts. Each lane counts for itself and publishes after each batch, so that counting costs no
//! more than an addition and nobody waits for a reader.

use crate::ecn::Merged;
use std::sync::atomic::{AtomicU64, Ordering};
use verona_contract::control::Refusal;

/// Counts of one lane since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
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
    /// Upcalls that found no room.
    pub(crate) upcalls_dropped: u64,
    pub(crate) malformed: u64,
    pub(crate) mac1: u64,
    pub(crate) unknown_session: u64,
    /// Packets that got the mark of their datagram, were dropped for it, or had one that no honest path makes.
    pub(crate) ecn_marked: u64,
    pub(crate) ecn_dropped: u64,
    pub(crate) ecn_unexpected: u64,
    /// Packets that were cut for the path, or refused for their size.
    pub(crate) packets_cut: u64,
    pub(crate) packets_too_big: u64,
}

const COUNTS: usize = 16;

impl Tally {
    const fn to_array(self) -> [u64; COUNTS] {
        let Self { rx_bytes, tx_bytes, rx_packets, tx_packets, packets_unroutable, .. } = self;
        let Self { packets_wrong_source, data_refused, upcalls_dropped, malformed, mac1, .. } = self;
        let Self { ecn_marked, ecn_dropped, ecn_unexpected, packets_cut, packets_too_big, .. } = self;
        [
            rx_bytes,
            tx_bytes,
            rx_packets,
            tx_packets,
            packets_unroutable,
            packets_wrong_source,
            data_refused,
            upcalls_dropped,
            malformed,
            mac1,
            self.unknown_session,
            ecn_marked,
            ecn_dropped,
            ecn_unexpected,
            packets_cut,
            packets_too_big,
        ]
    }

    const fn from_array(counts: [u64; COUNTS]) -> Self {
        let [rx_bytes, tx_bytes, rx_packets, tx_packets, packets_unroutable, rest @ ..] = counts;
        let [packets_wrong_source, data_refused, upcalls_dropped, malformed, mac1, rest @ ..] = rest;
        let [unknown_session, ecn_marked, ecn_dropped, ecn_unexpected, packets_cut, packets_too_big] = rest;
        Self {
            rx_bytes,
            tx_bytes,
            rx_packets,
            tx_packets,
            packets_unroutable,
            packets_wrong_source,
            data_refused,
            upcalls_dropped,
            malformed,
            mac1,
            unknown_session,
            ecn_marked,
            ecn_dropped,
            ecn_unexpected,
            packets_cut,
            packets_too_big,
        }
    }

    /// Counts what became of a packet with the mark of its datagram.
    pub(crate) const fn note(&mut self, merged: Merged) -> Merged {
        match merged {
            Merged::Kept => {}
            Merged::Marked => self.ecn_marked += 1,
            Merged::Unexpected => self.ecn_unexpected += 1,
            Merged::Dropped => self.ecn_dropped += 1,
        }
        merged
    }

    /// The sum of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        let (mut sum, other) = (self.to_array(), other.to_array());
        for (sum, other) in sum.iter_mut().zip(other) {
            *sum += other;
        }
        Self::from_array(sum)
    }

    /// The refusals that are decided on a lane.
    pub(crate) const fn refused(&self) -> [(Refusal, u64); 3] {
        [
            (Refusal::Malformed, self.malformed),
            (Refusal::Mac1, self.mac1),
            (Refusal::UnknownSession, self.unknown_session),
        ]
    }
}

/// A lane's tally as others see it. Only the lane writes.
#[derive(Debug, Default)]
pub(crate) struct Ledger([AtomicU64; COUNTS]);

impl Ledger {
    pub(crate) fn publish(&self, tally: &Tally) {
        for (cell, count) in self.0.iter().zip(tally.to_array()) {
            cell.store(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> Tally {
        let mut counts = [0; COUNTS];
        for (count, cell) in counts.iter_mut().zip(&self.0) {
            *count = cell.load(Ordering::Relaxed);
        }
        Tally::from_array(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_survives_the_ledger() {
        let counts = std::array::from_fn(|at| at as u64 + 1);
        let tally = Tally::from_array(counts);
        assert_eq!(tally.to_array(), counts);
        let ledger = Ledger::default();
        ledger.publish(&tally);
        assert_eq!(ledger.read(), tally);
        assert_eq!(ledger.read().plus(tally).to_array(), counts.map(|count| 2 * count));
        assert_eq!(tally.refused().map(|(_, count)| count), [9, 10, 11]);
    }
}
