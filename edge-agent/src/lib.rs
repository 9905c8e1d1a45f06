//! The management agent of the box, and `edgectl`.
//!
//! Around the decisions of `edge_agent_core`: HTTPS to the center, the control socket of the tunnel, rtnetlink,
//! the disk and a local socket for `edgectl`.

pub mod acks;
pub mod agent;
pub mod apply;
pub mod bundles;
pub mod center;
pub mod certificates;
pub mod clock;
pub mod config_poll;
mod configuration;
pub mod confined;
pub mod conntrack;
pub mod control;
pub mod dialler;
pub mod edgectl;
pub mod endpoint;
pub mod endpoints;
pub mod enrolment;
pub mod floors;
pub mod groups;
mod heartbeat;
pub mod https;
pub mod identity;
pub mod kernel_log;
pub mod line;
pub mod lists;
pub mod local;
pub mod machine;
pub mod metrics;
pub mod netcheck;
pub mod netlink;
pub mod network;
pub mod nft;
mod page;
pub mod push;
pub mod recovery;
pub mod revocation;
pub mod settings;
pub mod spool;
pub mod store;
mod support;
pub mod survey;
pub mod sys;
pub mod syslog;
pub mod time;
pub mod trial;
pub mod update;
pub mod watchdog;
