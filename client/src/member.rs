//! As whom this client connects: enrolled at a center, or imported with a certificate of the owner's own PKI.

use crate::identity::{self, Identity, IdentityError};
use crate::imported::Imported;
use crate::state::StateDir;
use edge_tunnel::Secret;
use std::time::SystemTime;
use uuid::Uuid;
use verona_contract::cert::CLIENT_URN;

/// As whom we connect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Member {
    /// The center certified our WireGuard key.
    Enrolled(Identity),
    /// A certificate's key vouches for it; there is no center to talk to.
    Imported(Imported),
}

impl Member {
    /// Reads it.
    pub(crate) fn load(state: &StateDir) -> Result<Self, IdentityError> {
        match Imported::load(state)? {
            Some(imported) => Ok(Self::Imported(imported)),
            None => Identity::load(state).map(Self::Enrolled),
        }
    }

    /// WireGuard's private key of an imported client.
    pub(crate) fn tunnel_key(state: &StateDir) -> Result<Secret, IdentityError> {
        identity::load_tunnel_key(state)
    }

    /// Our id; zero when a foreign certificate tells none.
    pub(crate) fn client(&self) -> Uuid {
        match self {
            Self::Enrolled(identity) => identity.client,
            Self::Imported(imported) => {
                let subject = imported.leaf().ok().and_then(|leaf| leaf.subject);
                let uuid = subject.and_then(|subject| subject.strip_prefix(CLIENT_URN)?.parse().ok());
                uuid.unwrap_or_default()
            }
        }
    }

    /// The center's URL; empty without one.
    pub(crate) fn center(&self) -> String {
        match self {
            Self::Enrolled(identity) => identity.center.clone(),
            Self::Imported(_) => String::new(),
        }
    }

    /// When the certificate ends.
    pub(crate) fn end(&self) -> SystemTime {
        match self {
            Self::Enrolled(identity) => identity.validity().1,
            Self::Imported(imported) => {
                let end = imported.leaf().map_or(0, |leaf| leaf.not_after.max(0).cast_unsigned());
                SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(end)
            }
        }
    }
}
