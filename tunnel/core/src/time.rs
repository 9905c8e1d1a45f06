//! Time as the core sees it: both clocks of one batch, and WireGuard's TAI64N timestamps.
//!
//! The shell reads the clocks once per batch. boringtun reads its own clock, which never differs from
//! `mono` by more than a batch takes; under the feature `mock-clock` the simulation turns both together.

use std::time::{Instant, SystemTime};

/// Both clocks, read once per batch by the shell.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Drives protocol timers; never steps.
    pub mono: Instant,
    /// Drives certificate and CRL dates; may step.
    pub wall: SystemTime,
}

/// A TAI64N label as WireGuard sends it (whitepaper §5.4.2): 8 octets of seconds, 4 of nanoseconds, both
/// big-endian, so that the order of the octets is the order in time. Only that order is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tai64n(pub(crate) [u8; 12]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_weigh_more_than_nanoseconds() {
        let label = |seconds: u64, nanos: u32| {
            let mut octets = [0; 12];
            octets[..8].copy_from_slice(&seconds.to_be_bytes());
            octets[8..].copy_from_slice(&nanos.to_be_bytes());
            Tai64n(octets)
        };
        assert!(label(2, 0) > label(1, 999_999_999));
        assert!(label(256, 0) > label(255, 0));
        assert!(label(1, 2) > label(1, 1));
        assert!(label(0, 1) > Tai64n::default());
    }
}
