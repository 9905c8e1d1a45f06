//! Time as the core sees it: both clocks of one batch.
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
