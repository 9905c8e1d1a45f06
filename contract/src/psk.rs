//! Preshared keys: `HKDF-SHA256(salt = label, ikm = the owner's root, info = client key ‖ edge key)`.
//!
//! The edge gets the root in its signed configuration, the client its derived keys at enrolment, both over
//! TLS with X25519MLKEM768. A recording of the tunnel stays closed to a later quantum computer.

use crate::config::PskRoot;
use crate::key::{PublicKey, Secret};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};

/// Domain separation from every other use of HKDF in the product.
const LABEL: &[u8] = b"verona wireguard psk v1";

/// The preshared key of one client at one edge.
#[must_use]
pub fn derive(root: &Secret, client: &PublicKey, edge: &PublicKey) -> Secret {
    let prk = Salt::new(HKDF_SHA256, LABEL).extract(root.expose());
    let info = [client.as_bytes().as_slice(), edge.as_bytes().as_slice()];
    let mut okm = [0; 32];
    prk.expand(&info, Okm)
        .and_then(|expanded| expanded.fill(&mut okm))
        .expect("32 octets are within HKDF's limit of 255 × 32, its only error");
    Secret::new(okm)
}

/// What a rotation must keep: the root before has a lower id and is another one.
///
/// # Errors
///
/// The rule, for the root before.
pub fn check_rotation(root: &PskRoot, previous: Option<&PskRoot>) -> Result<(), &'static str> {
    match previous {
        Some(previous) if previous.id >= root.id => Err("an id below psk_root's"),
        Some(previous) if previous.secret == root.secret => Err("another secret than psk_root's"),
        _ => Ok(()),
    }
}

struct Okm;

impl KeyType for Okm {
    fn len(&self) -> usize {
        32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_to_both_keys_and_the_root() {
        let key = |first| {
            let mut octets = [0x11; 32];
            octets[0] = first;
            PublicKey::new(octets).unwrap()
        };
        let root = Secret::new([7; 32]);
        let base = derive(&root, &key(9), &key(10));
        assert_ne!(base, derive(&root, &key(10), &key(9)), "roles are not interchangeable");
        assert_ne!(base, derive(&root, &key(9), &key(11)));
        assert_ne!(base, derive(&Secret::new([8; 32]), &key(9), &key(10)));
        assert_ne!(base.expose(), &[0; 32]);
    }

    #[test]
    fn rotation_table() {
        let root = |id, octet| PskRoot { id, secret: Secret::new([octet; 32]) };
        for (previous, good) in [
            (None, true),
            (Some(root(1, 7)), true),
            (Some(root(2, 7)), false),
            (Some(root(3, 7)), false),
            (Some(root(1, 8)), false),
        ] {
            assert_eq!(check_rotation(&root(2, 8), previous.as_ref()).is_ok(), good, "{previous:?}");
        }
    }
}
