//! The time of the box: what time servers say, whom to believe, and what to do to the clock.
//!
//! NTP (RFC 5905) in its client form, one question at a time, without the daemon's long memory: a round asks every
//! server a few times and keeps the quickest answer ([`packet`]); servers that agree outvote one that lies
//! ([`majority`]); the outcome is checked against the floor and the center, and becomes a step or a slew
//! ([`discipline`]). Sockets, names and the clock itself are the shell's.

pub mod discipline;
pub mod majority;
pub mod packet;

use std::time::Duration;

/// Questions to a server in one round; the answer that was on its way for the shortest time counts.
pub const QUESTIONS: u32 = 3;

/// Between two questions of a round. Servers count what asks faster as abuse.
pub const SPACING: Duration = Duration::from_secs(2);

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_millis(1500);

/// Between the first rounds after the clock was set, and at most. With [`QUESTIONS`] a server is asked 18 times in
/// the first hour and 11 times in each one after: public servers bear 20.
pub const INTERVAL: (Duration, Duration) = (Duration::from_secs(128), Duration::from_secs(1024));

/// Between rounds that gave no time: a box that was just switched on has no line yet.
pub const RETRY: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(256));

/// How long a server that wants to be left alone (RFC 5905 §7.4: DENY, RSTR) is.
pub const BANISHED: Duration = Duration::from_secs(24 * 3600);

/// One server's word in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// How far its clock is ahead of ours, nanoseconds.
    pub offset_ns: i64,
    /// How far it may be off, by its own word and by the way to it (root distance), nanoseconds.
    pub distance_ns: u64,
    /// The way there and back, nanoseconds.
    pub delay_ns: u64,
    /// Its distance from a reference clock, 1 to 15.
    pub stratum: u8,
}

/// The best of a round: what was quickest on its way had least time to be late on one leg only.
#[must_use]
pub fn best(samples: &[Sample]) -> Option<Sample> {
    samples.iter().min_by_key(|sample| sample.delay_ns).copied()
}

/// How long to wait after the `rounds`th round in a row (from 0) that ended the same way: with a time, or without.
#[must_use]
pub fn next_pause(told: bool, rounds: u32) -> Duration {
    let (first, longest) = if told { INTERVAL } else { RETRY };
    first.saturating_mul(1 << rounds.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickest_answer_counts() {
        let sample =
            |offset_ns, delay_ns| Sample { offset_ns, delay_ns, distance_ns: delay_ns / 2, stratum: 2 };
        assert_eq!(best(&[sample(9, 30), sample(1, 10), sample(5, 20)]), Some(sample(1, 10)));
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn public_servers_are_asked_at_most_twenty_times_an_hour() {
        let (mut at, mut rounds, mut asked) = (Duration::ZERO, 0, 0);
        while at < Duration::from_secs(3600) {
            asked += QUESTIONS;
            at += next_pause(true, rounds);
            rounds += 1;
        }
        assert!(asked <= 20, "{asked}");
        assert_eq!(next_pause(true, 1000), INTERVAL.1);
        assert_eq!((next_pause(false, 0), next_pause(false, 40)), RETRY);
    }
}
