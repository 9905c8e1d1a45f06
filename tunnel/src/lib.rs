//! Userspace WireGuard for Linux that can demand certificates: sockets, TUN, threads and local
//! protocols around the sans-IO engine of `edge-tunnel-core`.
//!
//! As a library: [`Device::start`] brings up an interface, [`DeviceHandle`] configures it. As a
//! program: `edge-tunnel`, see `main.rs`. What a packet or a certificate may do is decided in the core
//! alone.
//!
//! ```no_run
//! use edge_tunnel::{AllowedIpUpdate, Device, DeviceConfig, DeviceUpdate, PeerUpdate, PublicKey, Secret};
//!
//! # fn example(private_key: Secret, edge: PublicKey) -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::start(DeviceConfig::new("verona0".parse()?))?;
//! let peer = PeerUpdate {
//!     endpoint: Some("203.0.113.2:51820".parse()?),
//!     allowed_ips: vec![AllowedIpUpdate::Add("192.168.77.0/24".parse()?)],
//!     ..PeerUpdate::new(edge)
//! };
//! device.handle().configure(DeviceUpdate {
//!     private_key: Some(Some(private_key)),
//!     peers: vec![peer],
//!     ..DeviceUpdate::default()
//! })?;
//! // Now addresses, routes and "up" by rtnetlink; the device's sockets open with "up".
//! let reason = device.wait();
//! # drop(reason); Ok(()) }
//! ```
//!
//! The way of a packet: `data_plane` reads batches from `tun` and `udp`, the engine writes
//! its output into `outlet`, which empties into `udp` and `tun`. The way of a command: `uapi` and
//! `control` parse and verify in their own threads and post the finished change through `commands`.

#![deny(unsafe_code)]

mod commands;
mod confined;
mod control;
pub mod daemon;
mod data_plane;
mod device;
mod events;
mod lines;
mod link_statistics;
mod local_socket;
mod offloads;
mod outlet;
mod sources;
mod stop;
#[allow(unsafe_code)] // the syscall layer, and nothing else
mod sys;
mod transaction;
mod tun;
mod uapi;
mod udp;

pub use commands::Stopped;
pub use confined::{ConfineError, confine};
pub use data_plane::{StopReason, Unfinished};
pub use device::{
    DEFAULT_MTU, Device, DeviceConfig, DeviceHandle, Events, Interface, OpenDevice, StartError, UapiSocket,
};
pub use edge_tunnel_core::{
    AllowedIpUpdate, ConfigError, DeviceStatus, DeviceUpdate, Introduction, IpNet, PeerStatus, PeerUpdate,
    PublicKey, Secret,
};
pub use local_socket::LocalSocketError;
pub use offloads::{Offload, Switches, UnknownOffload};
pub use transaction::{ConfigureError, Snapshot, Transaction};
pub use tun::{InterfaceName, InvalidInterfaceName, TunError};
pub use uapi::{SetError, parse_set};
pub use udp::BindError;
