//! The management agent of the box, and `edgectl`.
//!
//! Around the decisions of `edge_agent_core`: HTTPS to the center, the control socket of the tunnel, rtnetlink,
//! the disk and a local socket for `edgectl`.

pub mod spool;
pub mod store;
