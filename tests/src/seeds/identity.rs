//! Seeds of the two-key form: identity certificates, and bindings that they vouch by.

use super::{Seed, authority, client_secret, damaged, leaf_plan, now};
use crate::identity::IdentityKey;
use std::time::Duration;

/// Seconds of a binding's longest life.
const DAY: Duration = Duration::from_secs(86_400);

/// The two identity keys, each with its certificate.
#[must_use]
pub fn identities() -> [(IdentityKey, Vec<u8>); 2] {
    [IdentityKey::p256(0x61), IdentityKey::ed25519(0x62)].map(|key| {
        let leaf = key.leaf(&authority(), &leaf_plan());
        (key, leaf)
    })
}

/// What each of [`identities`] signs for the client of the seeds.
#[must_use]
pub fn bindings() -> [Vec<u8>; 2] {
    let key = client_secret().x25519_public().unwrap();
    identities().map(|(identity, leaf)| identity.bind(key, &leaf, now(), DAY))
}

pub(super) fn seeds() -> Vec<Seed> {
    let [p256, ed25519] = bindings();
    let mut longer = p256.clone();
    longer[9] ^= 1;
    let mut seeds = damaged("p256", &p256);
    seeds.push(("ed25519".to_owned(), ed25519));
    seeds.push(("longer-than-signed".to_owned(), longer));
    seeds.push(("version-2".to_owned(), [&[2], &p256[1..]].concat()));
    seeds.push(("zero-key".to_owned(), [&p256[..17], &[0; 32], &p256[49..]].concat()));
    seeds.push(("never-ends".to_owned(), [&p256[..9], &[0xff; 8], &p256[17..]].concat()));
    seeds
}
