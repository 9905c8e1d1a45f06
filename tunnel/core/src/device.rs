//! The plain WireGuard configuration: one `set` transaction in, one `get` out.
//!
//! These types carry what the cross-platform UAPI carries, already parsed. The text protocol, errno values,
//! `listen_port` and `fwmark` belong to the shell.

use crate::{IpNet, PublicKey, Secret};
use std::net::SocketAddr;
use std::time::SystemTime;

/// One UAPI `set=1` transaction. [`Default`] changes nothing.
#[derive(Clone, Debug, Default)]
pub struct DeviceUpdate {
    /// `Some(None)` removes the key: the device then answers nobody.
    pub private_key: Option<Option<Secret>>,
    /// Remove every peer before [`Self::peers`] is applied.
    pub replace_peers: bool,
    /// In the order of the transaction.
    pub peers: Vec<PeerUpdate>,
}

/// What one transaction does to one peer. A field that is `None` stays as it is.
#[derive(Clone, Debug)]
pub struct PeerUpdate {
    /// Which peer; made when it does not exist.
    pub public_key: PublicKey,
    /// Remove the peer; the other fields are then without effect.
    pub remove: bool,
    /// Do nothing when the peer does not exist.
    pub update_only: bool,
    /// `Some(None)` removes the preshared key.
    pub preshared_key: Option<Option<Secret>>,
    /// Where the peer is now; it may roam from there.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives, 0 for none.
    pub persistent_keepalive: Option<u16>,
    /// Remove the peer's allowed IPs before [`Self::allowed_ips`] is applied.
    pub replace_allowed_ips: bool,
    /// In order; a network that another peer has moves to this one.
    pub allowed_ips: Vec<AllowedIpUpdate>,
    /// The certificate with which we introduce ourselves to this peer (the client's side).
    pub introduction: Option<Introduction>,
}

impl PeerUpdate {
    /// An update that only makes the peer exist.
    #[must_use]
    pub const fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
            introduction: None,
        }
    }
}

/// A change of one allowed IP. Host bits are cleared when it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedIpUpdate {
    /// Route the network to the peer.
    Add(IpNet),
    /// Take the network from the peer; without effect when the peer does not have it.
    Remove(IpNet),
}

/// What an introduction datagram shows (see [`crate::introduction`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// Our client certificate, DER: over the WireGuard key, or over the key that signed [`Self::binding`].
    pub leaf: Vec<u8>,
    /// The CA between one that the edge knows and the leaf, when there is one, DER.
    pub intermediate: Option<Vec<u8>>,
    /// That the leaf's key vouches for the WireGuard key ([`verona_contract::binding`]).
    pub binding: Option<Vec<u8>>,
}

/// Everything that UAPI `get=1` prints, except what the shell owns.
#[derive(Clone, Debug)]
pub struct DeviceStatus {
    /// None: the device has no key yet.
    pub private_key: Option<Secret>,
    /// Derived from the private key.
    pub public_key: Option<PublicKey>,
    /// In no particular order.
    pub peers: Vec<PeerStatus>,
}

/// One peer of a [`DeviceStatus`].
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer's static key.
    pub public_key: PublicKey,
    /// None when the handshake uses 32 zero octets.
    pub preshared_key: Option<Secret>,
    /// Last authenticated or configured address.
    pub endpoint: Option<SocketAddr>,
    /// When the last handshake was confirmed, by our wall clock.
    pub last_handshake: Option<SystemTime>,
    /// Initiations sent since the last handshake that ended, retries included. 0 without a session; it stays
    /// above 0 while the protocol gives up and begins again. Silence alone does not raise it: a one-way flow
    /// is asked about now and then, and a peer that lives answers.
    pub unanswered: u32,
    /// Octets of authenticated datagrams received, headers of WireGuard included.
    pub rx_bytes: u64,
    /// Octets of datagrams sent, headers of WireGuard included.
    pub tx_bytes: u64,
    /// Seconds, 0 for none.
    pub persistent_keepalive: u16,
    /// Networks routed to the peer.
    pub allowed_ips: Vec<IpNet>,
}

/// Why a transaction was refused. Nothing of it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Peers come from the policy; only an update of plain mode may name them.
    #[error("a policy is loaded: peers are admitted by certificate only, not configured")]
    CertifiedMode,
    /// Session indices have 24 bits for the peer.
    #[error("more than {max} peers", max = crate::peers::MAX_PEERS)]
    TooManyPeers,
    /// The certificates of an introduction do not fit into one datagram.
    #[error("certificates of {octets} octets do not fit into an introduction of {max}", max = crate::introduction::MAX_CERTIFICATES)]
    IntroductionTooLarge {
        /// Leaf and intermediate with their headers.
        octets: usize,
    },
}
