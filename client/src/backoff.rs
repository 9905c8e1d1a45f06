//! Jittered exponential back-off, so that a thousand clients do not return in step after an outage.

use std::time::Duration;

/// Waits between attempts: each up to twice as long as the one before, at most `longest`.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// `first` is the upper bound of the first wait.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, ceiling: first }
    }

    /// The next wait: between half of the ceiling and the ceiling, by `random`; the ceiling doubles.
    pub(crate) fn wait(&mut self, random: u32) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(self.longest);
        let half = ceiling / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.ceiling = self.first;
    }
}

/// A random number for [`Backoff::wait`]. Without randomness the wait is merely not spread.
pub(crate) fn random() -> u32 {
    let mut octets = [0; 4];
    match aws_lc_rs::rand::fill(&mut octets) {
        Ok(()) => u32::from_le_bytes(octets),
        Err(_) => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_longest_and_starts_again() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(seconds(2), seconds(7));
        assert_eq!(backoff.wait(u32::MAX), seconds(2));
        assert_eq!(backoff.wait(0), seconds(2), "half of four");
        assert_eq!(backoff.wait(u32::MAX), seconds(7));
        assert_eq!(backoff.wait(0), seconds(7) / 2);
        backoff.reset();
        assert_eq!(backoff.wait(0), seconds(1));
    }
}
