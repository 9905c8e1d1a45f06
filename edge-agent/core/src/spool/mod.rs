//! How log records lie on the disk until the center has them.
//!
//! Each stream has its own row of segments. [`chain`] gives a record its number and its link, [`segment`] is
//! the format of a file and its recovery after a crash, [`quota`] decides what still fits and what goes.

pub mod chain;
pub mod quota;
pub mod segment;
