//! The logic of the data plane, without sockets, TUN device, files, clock or threads.
//!
//! [`Engine`] takes datagrams and packets in batches and writes into the shell's buffers ([`Output`]). In
//! plain mode it is a WireGuard device; with a policy only certified peers exist. What is expensive and does
//! not concern packets, the verification of policies and revocation lists, is done outside the engine by the
//! constructors of [`VerifiedPolicy`] and [`CrlSet`], whose values the engine then takes.
//!
//! The WireGuard protocol itself is boringtun's `noise` module, behind `session`. It reads the monotonic
//! clock by itself; the feature `mock-clock` lets the simulation turn that clock.

#![forbid(unsafe_code)]

mod admission;
mod allowed_ips;
mod certified;
mod cookie;
mod crl_set;
mod device;
mod engine;
mod entropy;
mod events;
mod floors;
mod identity;
mod initiation;
pub mod introduction;
pub mod ip_packet;
mod load;
pub mod message;
mod noise;
pub mod offload;
mod output;
mod path;
mod peer;
mod peers;
mod policy;
mod record;
mod schedule;
mod session;
mod time;
mod timers;

pub use crl_set::CrlSet;
pub use device::{
    AllowedIpUpdate, ConfigError, DeviceStatus, DeviceUpdate, Introduction, PeerStatus, PeerUpdate,
};
pub use engine::{CrlRefused, Engine};
pub use output::Output;
pub use policy::{PolicyError, VerifiedPolicy};
pub use time::Now;
pub use verona_contract::ipnet::IpNet;
pub use verona_contract::key::{KeyError, PublicKey, Secret};
