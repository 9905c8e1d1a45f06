//! The wall clock as something that can be set, and the kernel's as the one that a box has.
//!
//! When and by how much is `edge_agent_core::time::discipline`. The kernel itself tells whether its clock is
//! synchronised: once set by servers it says so, and forgets it when nobody has looked after the clock for some hours.

use crate::clock::wall_ns;
use std::io;
use std::time::Duration;

/// A clock.
pub trait Wall: Send + Sync {
    /// Unix nanoseconds.
    fn now_ns(&self) -> i64;

    /// Sets it forward, or back when negative, at once.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    fn step(&self, by_ns: i64) -> io::Result<()>;

    /// Lets it catch up, or wait, and calls it synchronised to within `distance`. `interval` is the time until the
    /// next word of the servers.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    fn slew(&self, by_ns: i64, distance: Duration, interval: Duration) -> io::Result<()>;
}

/// The kernel's clock. Setting it takes CAP_SYS_TIME. While it is synchronised the kernel writes it to the hardware
/// clock, where there is one, every eleven minutes.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelClock;

impl Wall for KernelClock {
    fn now_ns(&self) -> i64 {
        wall_ns()
    }

    fn step(&self, by_ns: i64) -> io::Result<()> {
        let mut change = nothing();
        // Relative: what passes between reading and setting is not lost.
        change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
        change.time.tv_sec = by_ns.div_euclid(1_000_000_000);
        change.time.tv_usec = by_ns.rem_euclid(1_000_000_000);
        adjust(change)
    }

    fn slew(&self, by_ns: i64, distance: Duration, interval: Duration) -> io::Result<()> {
        let mut change = nothing();
        change.modes = libc::ADJ_OFFSET
            | libc::ADJ_NANO
            | libc::ADJ_STATUS
            | libc::ADJ_TIMECONST
            | libc::ADJ_MAXERROR
            | libc::ADJ_ESTERROR;
        // Phase-locked loop, and no longer unsynchronised.
        change.status = libc::STA_PLL;
        change.offset = by_ns;
        // The loop reckons with a word every 2^(constant + 4) seconds.
        change.constant = i64::from(interval.as_secs().max(16).ilog2()) - 4;
        let micros = i64::try_from(distance.as_micros()).unwrap_or(i64::MAX).min(16_000_000);
        (change.maxerror, change.esterror) = (micros, micros);
        adjust(change)
    }
}

fn nothing() -> libc::timex {
    // SAFETY: `timex` is plain data for which all zeros is valid.
    unsafe { std::mem::zeroed() }
}

fn adjust(mut change: libc::timex) -> io::Result<()> {
    // SAFETY: the pointer is to a whole `timex` of our own, which the kernel reads and writes during the call only.
    let state = unsafe { libc::adjtimex(&raw mut change) };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
