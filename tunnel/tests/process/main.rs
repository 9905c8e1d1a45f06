//! Process tests: `edge-tunnel` as its users run it, in network namespaces, against real kernels,
//! Debian's `wg`, `wg-quick` and `wireguard-go`.
//!
//! Each test makes its own namespaces and interfaces with names of its own, and everything goes when
//! it ends, also by a panic (see the crate `lab`). They need root and the Debian packages
//! wireguard-tools, wireguard-go, iproute2 and iputils-ping; without them they fail, they never skip.

// clippy.toml allows these in test functions; here the functions around them are tests too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod control;
mod hints;
mod interop;
mod library;
mod lifecycle;
mod offloads;
mod pair;
mod path;
mod robustness;
mod uapi;
mod uplinks;
mod workers;
