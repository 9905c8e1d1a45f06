//! The center as real processes on loopback, judged by curl, openssl and a rustls client of our own.

// A test that cannot go on fails; clippy.toml's exception covers `#[test]` functions only, not their fixture.
#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(unreachable_pub, reason = "the fixture is one module of one test binary")]

mod clients;
mod collector;
mod est;
mod firmware;
mod fixture;
mod flood;
mod logs;
mod network;
mod rotation;
mod signer;
mod timers;
mod tls;
mod users;
