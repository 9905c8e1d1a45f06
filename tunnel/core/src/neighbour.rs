//! Another edge of the same owner: what makes it more than a client that is pushed.
//!
//! Admission treats both alike. But a neighbour is called, kept alive for ever and shown our own certificate, as
//! a client does to an edge; and its networks are those of the configuration, never its certificate's.

use crate::identity::ReachKeys;
use crate::peer::Introducer;
use crate::{Introduction, PublicKey};
use std::net::SocketAddr;
use std::time::Duration;
use verona_contract::cert::EDGE_URN;

/// The part of a peer that only another edge has.
pub(crate) struct Neighbour {
    /// Where the configuration says it is; none: it calls.
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) keepalive: Duration,
    /// Our certificate for it; none: the other side knows it or does without.
    pub(crate) introducer: Option<Introducer>,
}

/// What the policy says of a neighbour, apart from its certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) keepalive: Duration,
}

impl Neighbour {
    pub(crate) fn new(key: &PublicKey, plan: Plan, certificate: Option<&[u8]>) -> Self {
        let introducer = certificate.map(|leaf| Introducer {
            certificates: Introduction { leaf: leaf.to_vec(), ..Introduction::default() },
            reach: ReachKeys::new(key),
            cookie: None,
            last: None,
        });
        Self { endpoint: plan.endpoint, keepalive: plan.keepalive, introducer }
    }
}

/// Whether a certificate of this subject is an edge's.
pub(crate) fn is_edge(subject: &str) -> bool {
    subject.starts_with(EDGE_URN)
}
