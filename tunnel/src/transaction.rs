//! One change of the device's plain WireGuard configuration, and one view of its state.
//!
//! Joins what the engine owns (keys, peers) with what the sockets own (port, mark). A transaction
//! takes effect as a whole or not at all.

use std::io;

use edge_tunnel_core::{ConfigError, DeviceStatus, DeviceUpdate};

use crate::commands::Stopped;
use crate::data_plane::Unfinished;
use crate::udp::BindError;

/// What one UAPI `set=1` says. [`Default`] changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// UDP port of both families; `Some(0)` has the kernel choose one.
    pub listen_port: Option<u16>,
    /// SO_MARK of everything sent; `Some(0)` for none.
    pub fwmark: Option<u32>,
    /// Keys and peers.
    pub update: DeviceUpdate,
}

impl From<DeviceUpdate> for Transaction {
    fn from(update: DeviceUpdate) -> Self {
        Self { update, ..Self::default() }
    }
}

/// What UAPI `get=1` prints.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// UDP port in use; before the interface is up, the one that will be; 0 = not chosen yet.
    pub listen_port: u16,
    /// SO_MARK; 0 for none.
    pub fwmark: u32,
    /// Keys and peers.
    pub device: DeviceStatus,
}

/// Why a transaction was refused. Nothing of it was applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigureError {
    /// The engine refuses the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The new port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The mark was refused.
    #[error("setting the firewall mark failed")]
    Mark(#[source] io::Error),
    /// The configuration is in force, and packets of a peer that was removed may still come.
    #[error(transparent)]
    Unfinished(#[from] Unfinished),
    /// The device is gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl ConfigureError {
    /// The error number for UAPI, positive.
    pub(crate) fn errno(&self) -> i32 {
        match self {
            Self::Config(ConfigError::CertifiedMode) => libc::EPERM,
            Self::Config(ConfigError::TooManyPeers) => libc::ENOSPC,
            Self::Config(_) => libc::EINVAL,
            Self::Bind(error) => error.errno(),
            Self::Mark(error) => error.raw_os_error().unwrap_or(libc::EIO),
            Self::Unfinished(_) => libc::ETIMEDOUT,
            Self::Stopped(_) => libc::ENODEV,
        }
    }
}
