//! When to try again after a failure: exponential back-off with full jitter.
//!
//! Each delay is drawn evenly from zero to a window that doubles with every failure in a row, so edges that
//! lost their center at the same moment do not come back at the same moment. A center that sheds load says
//! how long to stay away (`Retry-After`, RFC 9110 §10.2.3), and the jitter is added to that.

use std::time::Duration;

/// The first window. Short, so that a restarted center is found again within a second.
pub const BASE: Duration = Duration::from_secs(1);

/// The default widest window: 10,000 edges come back at about 67 a second. Shorter loads a center that is
/// just starting; longer leaves an edge without new lists for that much more.
pub const CAP: Duration = Duration::from_secs(300);

/// Longest `Retry-After` that is honoured; a center cannot silence its edges for a day by mistake.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The failures in a row of one activity.
#[derive(Clone, Debug)]
pub struct Backoff {
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// No failure yet. `cap` is the widest window.
    #[must_use]
    pub const fn new(cap: Duration) -> Self {
        Self { cap, failures: 0 }
    }

    /// How long to wait after one more failure. `entropy` is uniform; `retry_after` is what the center asked.
    pub fn delay(&mut self, entropy: u64, retry_after: Option<Duration>) -> Duration {
        // Beyond 2^20 s any cap has been reached.
        let window = BASE.saturating_mul(1 << self.failures.min(20)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        asked + fraction(window.max(asked), entropy)
    }

    /// Forgets the failures.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// `window` × `entropy` / 2^64.
fn fraction(window: Duration, entropy: u64) -> Duration {
    let nanos = (window.as_nanos() * u128::from(entropy)) >> 64;
    // Windows are at most an hour: 3.6e12 ns.
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How long the center asked to stay away: the value of `Retry-After` in its form of seconds. The form with
/// a date would depend on a clock that may be wrong, so it is ignored.
#[must_use]
pub fn parse_retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64: enough for a simulation that replays.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[test]
    fn windows_double_up_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let longest = |backoff: &mut Backoff| backoff.delay(u64::MAX, None).as_secs_f64().round();
        let windows: Vec<f64> = (0..6).map(|_| longest(&mut backoff)).collect();
        assert_eq!(windows, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(backoff.delay(0, None), Duration::ZERO, "full jitter begins at zero");
        backoff.succeeded();
        assert!(longest(&mut backoff) <= 1.0);
    }

    #[test]
    fn retry_after_is_honoured_and_spread() {
        let mut backoff = Backoff::new(CAP);
        let asked = Duration::from_secs(120);
        assert_eq!(backoff.delay(0, Some(asked)), asked);
        assert!(backoff.delay(u64::MAX, Some(asked)) > Duration::from_secs(239));
        assert!(backoff.delay(0, Some(Duration::from_secs(1 << 40))) <= MAX_RETRY_AFTER);
        assert_eq!(parse_retry_after(" 30 "), Some(Duration::from_secs(30)));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(parse_retry_after("-1"), None);
    }

    #[test]
    fn ten_thousand_edges_come_back_spread() {
        let outage = Duration::from_secs(1800);
        let mut state = 7;
        let mut arrivals = vec![0_u32; 700];
        for _ in 0..10_000 {
            let mut backoff = Backoff::new(CAP);
            let mut now = Duration::ZERO;
            while now < outage {
                now += backoff.delay(next(&mut state), None);
            }
            arrivals[(now - outage).as_secs() as usize] += 1;
        }
        let most = arrivals.iter().max().copied().unwrap_or_default();
        assert!(most < 130, "{most} edges in one second");
        assert_eq!(arrivals.iter().take(301).sum::<u32>(), 10_000, "all are back within the cap");
    }
}
