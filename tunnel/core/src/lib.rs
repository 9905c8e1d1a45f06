//! The logic of the data plane, without sockets, TUN device, files, clock or threads.
//!
//! [`Engine`] decides: peers, admission, handshakes, timers, configuration. A [`Lane`] moves the packets of
//! live peers; each worker has one, and hands what it cannot decide up to the engine ([`Upcall`]). An engine can
//! drive a lane of its own, so that tests see the very same code in one thread. Both write into the shell's
//! buffers ([`Output`]). In plain mode it is a WireGuard device; with a policy only certified peers exist. What is expensive and does
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
mod credentials;
mod crl_set;
mod datagram;
mod device;
mod early;
pub mod ecn;
mod engine;
mod entropy;
mod events;
pub mod fair_queue;
mod floors;
mod forwarder;
mod fragment;
mod icmp;
mod identity;
mod initiation;
pub mod introduction;
pub mod ip_packet;
mod lane;
mod line;
mod load;
mod mac1;
pub mod message;
mod neighbour;
mod noise;
pub mod offload;
mod outer_path;
mod output;
mod path;
mod path_mtu;
mod path_reports;
mod peer;
mod peers;
mod policy;
mod psk;
mod record;
mod schedule;
mod session;
mod tally;
mod time;
mod timers;
mod transport;
mod trust;
mod upcall;

pub use crl_set::CrlSet;
pub use datagram::Datagram;
pub use device::{
    AllowedIpUpdate, ConfigError, DeviceStatus, DeviceUpdate, Introduction, PeerStatus, PeerUpdate,
};
pub use engine::{CrlRefused, Engine};
pub use lane::Lane;
pub use output::{Marks, Output};
pub use policy::{PolicyError, VerifiedPolicy};
pub use time::Now;
pub use upcall::{Class, Upcall, Upcalls};
pub use verona_contract::ipnet::IpNet;
pub use verona_contract::key::{KeyError, PublicKey, Secret};
