//! What a handler may know of the TLS connection under a request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One TLS connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// Where it comes from.
    pub(crate) remote: SocketAddr,
    /// The leaf that the peer showed and whose key it proved to hold; nobody has checked its issuer yet.
    pub(crate) certificate: Option<Arc<[u8]>>,
    /// RFC 8446 §7.5 with [`verona_contract::pop::EXPORTER_LABEL`].
    pub(crate) exporter: [u8; 32],
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
