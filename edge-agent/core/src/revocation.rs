//! Which revocation list the agent accepts from the wire and from the disk.
//!
//! The form, the signature and the order by number are the contract's rules ([`VerifiedCrl`]). Added here: a
//! list that was asked for by its issuer's name must be that issuer's, and the marks of all issuers are
//! remembered, so that a damaged file does not open the door to an older list.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use verona_contract::cert::Issuer;
use verona_contract::crl::{CrlError, CrlMark, VerifiedCrl};
use verona_contract::key::KeyId;
use verona_contract::log::Hash;

/// Why a list is refused. The one before it stays in force.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It breaks a rule of lists.
    #[error(transparent)]
    Rule(#[from] CrlError),
    /// A list of another pinned issuer was served.
    #[error("list of issuer {found} was served in place of issuer {asked}")]
    OtherIssuer {
        /// Asked for.
        asked: KeyId,
        /// Served.
        found: KeyId,
    },
}

impl Refusal {
    /// Whether it looks like an attack rather than a mistake.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        matches!(
            self,
            Self::OtherIssuer { .. }
                | Self::Rule(
                    CrlError::Rollback { .. }
                        | CrlError::Conflict(_)
                        | CrlError::Signature(_)
                        | CrlError::UnknownIssuer
                )
        )
    }
}

/// The newest list ever accepted of each issuer, in the form that lies on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks(BTreeMap<KeyId, StoredMark>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredMark {
    number: u64,
    sha256: Hash,
}

impl Marks {
    /// Checks a list that was asked for under `asked`.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] that applies.
    pub fn accept(&self, asked: &KeyId, der: &[u8], issuers: &[Issuer]) -> Result<VerifiedCrl, Refusal> {
        let list = VerifiedCrl::verify(der, issuers)?;
        if list.issuer() != asked {
            return Err(Refusal::OtherIssuer { asked: asked.clone(), found: list.issuer().clone() });
        }
        if let Some(mark) = self.mark(asked) {
            list.check_follows(&mark)?;
        }
        Ok(list)
    }

    /// Remembers an accepted list. Never goes back.
    pub fn remember(&mut self, list: &VerifiedCrl) {
        let mark = list.mark();
        let stored = StoredMark { number: mark.number(), sha256: Hash(*mark.digest()) };
        let entry = self.0.entry(list.issuer().clone()).or_insert(stored);
        if entry.number < stored.number {
            *entry = stored;
        }
    }

    /// The newest list accepted of `issuer`.
    #[must_use]
    pub fn mark(&self, issuer: &KeyId) -> Option<CrlMark> {
        self.0.get(issuer).map(|mark| CrlMark::new(mark.number, mark.sha256.0))
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
