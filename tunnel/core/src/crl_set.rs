//! A revocation list as the data plane uses it: a set of serial numbers, two dates, one decision.
//!
//! The list is verified once, outside the engine ([`CrlSet::load`]); a re-check costs one look into its set.
//! Which list may follow which is decided in `verona_contract::crl`, who is cut in [`crate::Engine`].

use verona_contract::cert::Issuer;
use verona_contract::config::{CrlPolicy, StalePolicy};
use verona_contract::control::{CrlState, Refusal};
use verona_contract::crl::{CrlError, VerifiedCrl};
use verona_contract::key::{KeyId, Serial};

/// One issuer's verified list.
#[derive(Clone, Debug)]
pub struct CrlSet(VerifiedCrl);

/// How much the wall clock may be believed, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wall {
    /// Unix seconds.
    Trusted(i64),
    /// Not synchronised: no date decides anything.
    Untrusted,
}

impl CrlSet {
    /// Verifies a list against the pinned `issuers` and builds the set: a third of a second for a million
    /// entries, so not in a thread of the data plane.
    ///
    /// # Errors
    ///
    /// The first rule of [`VerifiedCrl::verify`] that it breaks.
    pub fn load(der: &[u8], issuers: &[Issuer]) -> Result<Self, CrlError> {
        VerifiedCrl::verify(der, issuers).map(Self)
    }

    /// The issuer's key identifier.
    #[must_use]
    pub const fn issuer(&self) -> &KeyId {
        self.0.issuer()
    }

    /// cRLNumber.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.0.number()
    }

    /// Entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.0.revoked().len()
    }

    /// The issuer's clock has passed this moment, whatever ours says.
    pub(crate) const fn this_update(&self) -> i64 {
        self.0.this_update()
    }

    pub(crate) const fn next_update(&self) -> i64 {
        self.0.next_update()
    }

    /// Whether this list may replace `stored`.
    pub(crate) fn check_follows(&self, stored: &Self) -> Result<(), CrlError> {
        self.0.check_follows(&stored.0.mark())
    }

    pub(crate) fn state(&self, policy: CrlPolicy, wall: Wall) -> CrlState {
        let grace = i64::try_from(policy.grace_s).unwrap_or(i64::MAX);
        match wall {
            Wall::Untrusted => CrlState::Undated,
            Wall::Trusted(now) if now <= self.next_update() => CrlState::Fresh,
            Wall::Trusted(now) if now <= self.next_update().saturating_add(grace) => CrlState::Grace,
            Wall::Trusted(_) => CrlState::Stale,
        }
    }
}

/// What a list, or its absence, says about one certificate. `has_session` tells a rekey from a newcomer.
///
/// # Errors
///
/// [`Refusal::CrlMissing`], [`Refusal::Revoked`] or [`Refusal::CrlStale`].
pub(crate) fn decide(
    list: Option<&CrlSet>,
    serial: &Serial,
    policy: CrlPolicy,
    wall: Wall,
    has_session: bool,
) -> Result<(), Refusal> {
    let list = list.ok_or(Refusal::CrlMissing)?;
    // Being listed decides first: a stale list is still right about whom it names.
    if list.0.revoked().contains(serial) {
        return Err(Refusal::Revoked);
    }
    match (list.state(policy, wall), policy.stale) {
        (CrlState::Missing, _) => Err(Refusal::CrlMissing),
        (CrlState::Stale, StalePolicy::DenyAll) => Err(Refusal::CrlStale),
        (CrlState::Stale, StalePolicy::DenyNew) if !has_session => Err(Refusal::CrlStale),
        (CrlState::Fresh | CrlState::Grace | CrlState::Undated | CrlState::Stale, _) => Ok(()),
    }
}
