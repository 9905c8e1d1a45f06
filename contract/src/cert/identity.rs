//! The leaf of the two-key form: an ordinary P-256 or Ed25519 client certificate of the owner's own PKI.
//!
//! Its key signs which WireGuard key it vouches for ([`crate::binding`]). A foreign PKI knows nothing of our
//! names and addresses, so here both are optional; a configuration can give them to the key instead
//! ([`crate::config::IdentityClient`]).

use super::CertError;
use super::extensions::{Extensions, parse_one};
use crate::key::{Fingerprint, KeyId, Serial};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use std::net::IpAddr;

/// `SubjectPublicKeyInfo` of a P-256 key up to and with the mark of an uncompressed point (RFC 5480 §2).
const P256_SPKI_PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// `SubjectPublicKeyInfo` of an Ed25519 key up to the key itself (RFC 8410 §4).
const ED25519_SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// y-coordinates of the Ed25519 points of order 1, 2, 4 and 8, with the second encodings of 0 and 1. Whoever
/// knows such a key can sign for it.
const ED25519_LOW_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    first(0x01, 0x00),
    first(0xec, 0xff),
    first(0xed, 0xff),
    first(0xee, 0xff),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// 32 octets little-endian: `low`, then `fill`, the sign bit clear.
const fn first(low: u8, fill: u8) -> [u8; 32] {
    let mut octets = [fill; 32];
    octets[0] = low;
    octets[31] = fill & 0x7f;
    octets
}

/// A key that signs bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityKey {
    /// The uncompressed point; ECDSA with SHA-256.
    P256([u8; 65]),
    /// RFC 8032.
    Ed25519([u8; 32]),
}

impl IdentityKey {
    fn parse(spki: &[u8]) -> Option<Self> {
        if let Some(coordinates) = spki.strip_prefix(&P256_SPKI_PREFIX) {
            let mut point = [4; 65];
            point[1..].copy_from_slice(<&[u8; 64]>::try_from(coordinates).ok()?);
            return Some(Self::P256(point));
        }
        let key: [u8; 32] = spki.strip_prefix(&ED25519_SPKI_PREFIX)?.try_into().ok()?;
        let mut y = key;
        y[31] &= 0x7f;
        (!ED25519_LOW_ORDER.contains(&y)).then_some(Self::Ed25519(key))
    }

    /// Whether `signature` over `message` is by this key: r ‖ s (32 octets each) or RFC 8032's 64.
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        match self {
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok(),
        }
    }
}

/// A client certificate whose key signs. Signature and dates are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityLeaf {
    /// Issuer DN, DER.
    pub issuer: Vec<u8>,
    /// Which of the issuer's keys signed it.
    pub issuer_key_id: KeyId,
    /// Serial number.
    pub serial: Serial,
    /// The certified key.
    pub key: IdentityKey,
    /// SHA-256 of its `SubjectPublicKeyInfo`: names the identity over renewals of the certificate.
    pub fingerprint: Fingerprint,
    /// SHA-256 of the certificate: what a binding is for.
    pub digest: Fingerprint,
    /// `urn:verona:client:<uuid>`, if the owner's PKI writes one.
    pub subject: Option<String>,
    /// The iPAddress entries, if any.
    pub addresses: Vec<IpAddr>,
    /// Begin of validity, Unix seconds.
    pub not_before: i64,
    /// End of validity, Unix seconds, inclusive.
    pub not_after: i64,
}

impl IdentityLeaf {
    /// Reads one certificate and checks it against the profile.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn parse(der: &[u8]) -> Result<Self, CertError> {
        let certificate = parse_one(der)?;
        let tbs = &certificate.tbs_certificate;
        let spki = tbs.subject_pki.raw;
        let key = IdentityKey::parse(spki).ok_or(CertError::NotIdentityKey)?;
        let extensions = Extensions::read(&certificate)?;
        if extensions.ca {
            return Err(CertError::BasicConstraints);
        }
        if !extensions.client_auth {
            return Err(CertError::ExtendedKeyUsage);
        }
        // Bits of RFC 5280 §4.2.1.3: digitalSignature is 0, keyCertSign 5, cRLSign 6.
        let usage = extensions.key_usage.unwrap_or(0);
        if usage & 1 == 0 || usage & (1 << 5 | 1 << 6) != 0 {
            return Err(CertError::KeyUsage);
        }
        Ok(Self {
            issuer: tbs.issuer.as_raw().to_vec(),
            issuer_key_id: extensions.authority_key_id.ok_or(CertError::KeyIdentifier)?,
            serial: Serial::new(tbs.raw_serial()).map_err(|_| CertError::Serial)?,
            key,
            fingerprint: Fingerprint::of(spki),
            digest: Fingerprint::of(der),
            subject: extensions.subject,
            addresses: extensions.addresses,
            not_before: tbs.validity.not_before.timestamp(),
            not_after: tbs.validity.not_after.timestamp(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ed25519(key: &[u8; 32]) -> Option<IdentityKey> {
        IdentityKey::parse(&[ED25519_SPKI_PREFIX.as_slice(), key].concat())
    }

    #[test]
    fn keys_that_everybody_can_sign_for_are_refused() {
        // R = the neutral point, S = 0 satisfies S·B = R + h·A whenever h is a multiple of A's order.
        let mut signature = [0; 64];
        signature[0] = 1;
        for y in ED25519_LOW_ORDER {
            for sign in [0, 0x80] {
                let mut key = y;
                key[31] |= sign;
                assert_eq!(ed25519(&key), None);
            }
        }
        // The constants are only worth something if the primitive takes such forgeries. The second encodings
        // and a sign on x = 0 do not decode there.
        for y in [ED25519_LOW_ORDER[0], ED25519_LOW_ORDER[1], ED25519_LOW_ORDER[2], ED25519_LOW_ORDER[5]] {
            let forged =
                (0..=u8::MAX).filter(|text| IdentityKey::Ed25519(y).signed(&[*text], &signature)).count();
            assert!(forged > 8, "{y:02x?}: {forged}");
        }
        assert!(ed25519(&[0x58; 32]).is_some());
    }

    #[test]
    fn one_encoding_of_a_p256_key() {
        let spki = |mark: u8, len: usize| {
            let mut spki = [P256_SPKI_PREFIX.as_slice(), &vec![7; len]].concat();
            spki[26] = mark;
            IdentityKey::parse(&spki)
        };
        assert!(spki(4, 64).is_some());
        assert_eq!((spki(2, 64), spki(4, 63), spki(4, 65)), (None, None, None));
    }
}
