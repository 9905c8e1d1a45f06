//! What the agent decides, apart from what it does: which bundle and which list it accepts, what the tunnel
//! and the kernel should then look like, how log records lie on the disk, when it tries again.
//!
//! Nothing here reads a clock, a file or a socket; time and entropy are arguments. The shell around it
//! (crate `edge-agent`) only moves octets.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod bundle;
pub mod button;
pub mod clock;
pub mod condition;
pub mod conntrack;
pub mod difference;
pub mod endpoints;
pub mod floors;
pub mod groups;
pub mod journal;
pub mod kernel_log;
pub mod line;
pub mod netcheck;
pub mod network;
pub mod page;
pub mod policy;
pub mod renewal;
pub mod revocation;
pub mod shrink;
pub mod spool;
pub mod support;
pub mod syslog;
pub mod time;
pub mod trial;
pub mod update;
pub mod watchdog;
