//! What the tests across the parts share: a certificate authority that can also do wrong, the fuzz
//! targets, the seeds of their corpora.
//!
//! The networks and processes come from the `lab` crate. Everything here is for tests, so a failure is a
//! panic that says what was expected.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

pub mod collector;
pub mod flood;
pub mod forgery;
pub mod fuzz;
pub mod gate;
pub mod identity;
pub mod initiator;
pub mod mutation;
pub mod owner;
pub mod pki;
pub mod seeds;
pub mod session;
pub mod site;
pub mod swarm;
