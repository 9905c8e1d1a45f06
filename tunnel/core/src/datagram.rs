//! A datagram from the network, with what its IP header said beside the source.

use crate::ecn::Ecn;
use std::net::SocketAddr;

/// One datagram from the network.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its source.
    pub from: SocketAddr,
    /// Its congestion mark; [`Ecn::NotEct`] where the shell cannot tell.
    pub ecn: Ecn,
    /// Its payload.
    pub octets: &'a [u8],
}

impl<'a> From<(SocketAddr, &'a [u8])> for Datagram<'a> {
    fn from((from, octets): (SocketAddr, &'a [u8])) -> Self {
        Self { from, ecn: Ecn::NotEct, octets }
    }
}
