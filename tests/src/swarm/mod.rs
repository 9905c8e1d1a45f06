//! Many clients as one process: their handshakes and packets are real datagrams, from an address each.

mod client;

pub use client::{Client, EdgeAddress, Identity};
