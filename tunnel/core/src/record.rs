//! What is kept of a certificate once its path is verified: enough to re-check it, to name it, to cut it.

use crate::trust::OwnerIndex;
use crate::{IpNet, noise};
use std::sync::Arc;
use std::time::Instant;
use verona_contract::control::{CertificateSource, Cut};
use verona_contract::key::{Fingerprint, KeyId, Serial};

/// A verified certificate's record. Its addresses are the peer's allowed IPs, its key the peer's.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) owner: OwnerIndex,
    /// Shared by all records of one issuer.
    pub(crate) issuer: Arc<KeyId>,
    pub(crate) serial: Serial,
    /// The CAs below the anchor, lowest first, each with the issuer whose list it is checked against. Mostly
    /// empty.
    pub(crate) above: Box<[(Arc<KeyId>, Serial)]>,
    /// The signing key whose name and addresses came from the configuration.
    pub(crate) listed: Option<Box<Fingerprint>>,
    pub(crate) subject: Box<str>,
    /// Unix seconds; the latest begin and the earliest end along the path.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) source: CertificateSource,
    /// BLAKE2s-128 of leaf and binding: the same ones again need no second verification.
    pub(crate) digest: [u8; 16],
    pub(crate) standing: Standing,
}

/// What holds a record in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The policy: it stays as long as the policy says.
    Pushed,
    /// Introduced, and no handshake proven: it goes at this time.
    Unproven(Instant),
    /// Introduced and proven: its place in the order of use among its owner's records.
    Proven(u64),
}

impl Record {
    /// Each certificate below the anchor, with the issuer of the list that decides about it.
    pub(crate) fn chain(&self) -> impl Iterator<Item = (&KeyId, &Serial)> {
        let leaf = std::iter::once((&*self.issuer, &self.serial));
        leaf.chain(self.above.iter().map(|link| (&*link.0, &link.1)))
    }

    /// Its place in the order of use, when it counts against the quota.
    pub(crate) const fn place(&self) -> Option<u64> {
        match self.standing {
            Standing::Proven(place) => Some(place),
            Standing::Pushed | Standing::Unproven(_) => None,
        }
    }

    pub(crate) fn cut(&self, key: crate::PublicKey, addresses: &[IpNet]) -> Cut {
        let addresses = addresses.iter().map(IpNet::address).collect();
        Cut { serial: self.serial, subject: self.subject.to_string(), key, addresses }
    }
}

/// BLAKE2s-128 of a certificate and its binding: recognises the same ones, decides nothing else.
pub(crate) fn digest(leaf: &[u8], binding: Option<&[u8]>) -> [u8; 16] {
    // A certificate tells its own length, so the two cannot run into each other.
    noise::mac(b"verona leaf", &[leaf, binding.unwrap_or_default()])
}
