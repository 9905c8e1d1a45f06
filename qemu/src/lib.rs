//! Network-namespace topologies as code, and the real processes that run in them.
//!
//! A [`Run`] owns everything a test or the demo makes: namespaces, processes, logs. Dropping it, a panic,
//! SIGINT and SIGTERM all take the whole of it down; what a SIGKILL left behind the next run removes.
//! [`Topology`] lays out the networks of Verona Edge: center, internet, edge with WAN and LAN, clients.
//! [`parts`] starts the product's programs in them, or, with [`firmware`] and [`vm`], the box that they make. What they should do is not known here: that is for the
//! demo and for `tests/`.

pub mod chaos;
mod disk;
mod error;
pub mod firmware;
pub mod guest;
mod impairment;
pub mod machine;
pub mod metadata;
mod namespace;
pub mod parts;
pub mod powercut;
mod process;
pub mod relay;
mod run;
mod signals;
mod topology;
mod traffic;
pub mod vendor;
pub mod vm;
pub mod wait;
mod wall_clock;
pub mod web;
mod wiretap;
pub mod workspace;

pub use disk::Disk;
pub use error::{Error, Result};
pub use impairment::Impairment;
pub use namespace::Namespace;
pub use process::Process;
pub use run::{KeptRun, Run, alone, clean, kept, take_down};
pub use topology::{ClientPlan, ClientSite, Plan, Topology, address};
pub use traffic::{Arrivals, Balance, Download, Flow};
pub use wall_clock::WallClock;
pub use wiretap::{Datagram, Wiretap};
