//! What a handler may know of the TLS connection under a request.

use super::caller::connection;
use super::failure::Failure;
use crate::center::Center;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One TLS connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// Where it comes from.
    pub(crate) remote: SocketAddr,
    /// The leaf that the peer showed and whose key it proved to hold; nobody has checked its issuer yet.
    pub(crate) certificate: Option<Arc<[u8]>>,
    /// Whether the key exchange was X25519MLKEM768.
    pub(crate) post_quantum: bool,
    /// RFC 8446 §7.5 with [`verona_contract::pop::EXPORTER_LABEL`].
    pub(crate) exporter: [u8; 32],
}

/// A connection that a quantum computer does not open later. Handlers whose answers hold preshared keys, or their
/// root, take one: recorded under X25519 alone, such an answer would give away the tunnels that it protects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PostQuantum(());

impl FromRequestParts<Arc<Center>> for PostQuantum {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Center>) -> Result<Self, Failure> {
        if connection(parts)?.post_quantum {
            return Ok(Self(()));
        }
        Err(Failure::forbidden("the answer holds preshared keys: it is sent over X25519MLKEM768 only"))
    }
}

/// What limits count by: an IPv4 address, or the /64 that an IPv6 site has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source(u64);

impl Source {
    /// The source of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u32::from(v4).into()),
            // The upper half; no /64 begins with 32 zero bits but those that embed IPv4.
            IpAddr::V6(v6) => Self((u128::from(v6) >> 64) as u64),
        }
    }
}

impl Connection {
    /// What limits count this connection by.
    pub(crate) fn source(&self) -> Source {
        Source::of(self.remote.ip())
    }
}
