//! What a disk may hold after a power cut: every write is recorded as it reaches the disk, and the states that could
//! have been left behind are made again.
//!
//! QEMU's `blklogwrites` records (the format of Linux's dm-log-writes), [`Recording`] runs it under a file, and
//! [`Log`] makes the states. What must hold in each state is known to the tests.

mod log;
mod recording;

pub use log::{Dice, Log};
pub use recording::Recording;
