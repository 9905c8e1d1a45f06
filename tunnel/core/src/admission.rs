//! Decides whether a known peer may have a session: the re-check of design step 3, 15 ns a certificate.
//!
//! A WireGuard initiation proves that its sender holds a static key, nothing more. The certificate behind
//! the key was verified when it came ([`crate::path`]); here its dates and serial numbers are held against
//! the clock and the lists of this moment. It runs before every handshake in either direction, once a second
//! for every live session, and for all of them when a list, a policy or the clock changes.

use crate::PublicKey;
use crate::crl_set::{self, CrlSet, Wall};
use crate::record::Record;
use verona_contract::config::CrlPolicy;
use verona_contract::control::Refusal;
use verona_contract::key::KeyId;

/// A key that may have a session. Only this module makes one, and [`crate::session::Session::new`] takes it
/// in place of a bare key, so code that forgets the check does not compile.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Admitted(PublicKey);

impl Admitted {
    pub(crate) const fn key(&self) -> &PublicKey {
        &self.0
    }
}

/// Plain mode: the administrator configured the key, which is all that WireGuard asks.
pub(crate) const fn configured(key: PublicKey) -> Admitted {
    Admitted(key)
}

/// The lists and rules of the record's owner, as of now.
pub(crate) trait Lists {
    /// The list of one issuer, if there ever was one.
    fn list(&self, issuer: &KeyId) -> Option<&CrlSet>;
}

/// Certified mode: checks `record`, of the peer with `key`.
///
/// # Errors
///
/// The first [`Refusal`] that applies: dates, then the leaf's list, then the intermediate's.
pub(crate) fn certified(
    key: PublicKey,
    record: &Record,
    all: &impl Lists,
    policy: CrlPolicy,
    wall: Wall,
    has_session: bool,
) -> Result<Admitted, Refusal> {
    // A listed serial is denied even by a stale list and with a wrong clock, so the lists come before the
    // dates where both would refuse; the reason told is then the one that matters.
    let lists = record.chain().try_for_each(|(issuer, serial)| {
        crl_set::decide(all.list(issuer), serial, policy, wall, has_session)
    });
    if lists == Err(Refusal::Revoked) {
        return Err(Refusal::Revoked);
    }
    match wall {
        Wall::Trusted(now) if now < record.not_before => return Err(Refusal::NotYetValid),
        Wall::Trusted(now) if now > record.not_after => return Err(Refusal::Expired),
        // A list is a signed witness that its thisUpdate has passed: what ended before needs no clock of ours.
        Wall::Untrusted if record.chain().any(|(issuer, _)| ended_before(all.list(issuer), record)) => {
            return Err(Refusal::Expired);
        }
        Wall::Trusted(_) | Wall::Untrusted => {}
    }
    lists.map(|()| Admitted(key))
}

fn ended_before(list: Option<&CrlSet>, record: &Record) -> bool {
    list.is_some_and(|list| record.not_after < list.this_update())
}
