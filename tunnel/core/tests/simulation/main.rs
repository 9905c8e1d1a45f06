//! Engines over a simulated network with a fake clock: hours in seconds.
//!
//! `timers` and `clients` let whole engines talk through loss, reordering, duplication and restarts.
//! `schedules` sets one edge against random schedules of what clients, attackers, its agent and its clock do,
//! beside a reference model. A run's dice come from one seed, which a failing run prints: `VERONA_SEED=… cargo
//! test -p edge-tunnel-core --features mock-clock --test simulation` plays it again. (boringtun draws its
//! ephemeral keys from the operating system, which changes octets but no decision.)

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod clients;
mod dice;
#[path = "../harness/mod.rs"]
mod harness;
mod network;
mod schedules;

mod timers;

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
