//! The box's own network against a real kernel and real servers, in network namespaces that the tests make. Needs root,
//! `nft`, `dnsmasq` and busybox.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of a test fail as the test does")]

mod agent;
mod firewall;
mod hosts;
mod ipv6;
mod kernel;
mod scan;
mod start;
mod uplinks;
