//! DSSE envelopes (Dead Simple Signing Envelope, v1.0.2) with Ed25519: what carries a configuration.
//!
//! The signature covers the payload's type and length too, so an envelope of one kind never passes for
//! another, and the payload's octets are never parsed before the signatures hold.

use crate::base64::{Octets, encode};
use crate::one_line::one_line;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Most signatures looked at in one envelope.
const MAX_SIGNATURES: usize = 16;

/// A signed payload as it crosses the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    /// Says what the payload is; signed with it.
    pub payload_type: String,
    /// The payload's octets.
    pub payload: Octets,
    /// One for each signer.
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// A hint which key made it ([`VerifyingKey::id`]); never trusted.
    pub keyid: String,
    /// Ed25519 over the pre-authentication encoding, 64 octets.
    pub sig: Octets,
}

/// Why an envelope is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DsseError {
    /// Not an envelope in JSON.
    #[error("not a DSSE envelope: {0}")]
    Json(String),
    /// The payload is of another kind.
    #[error("payload type is {found}, not {wanted}")]
    PayloadType {
        /// In the envelope.
        found: String,
        /// Asked for.
        wanted: String,
    },
    /// Fewer trusted keys signed it than it takes.
    #[error("{valid} of {threshold} signatures by trusted keys")]
    Threshold {
        /// Different trusted keys whose signature holds.
        valid: usize,
        /// How many it takes.
        threshold: usize,
    },
}

impl Envelope {
    /// Reads an envelope. Nothing is verified yet.
    ///
    /// # Errors
    ///
    /// [`DsseError::Json`].
    pub fn parse(json: &[u8]) -> Result<Self, DsseError> {
        serde_json::from_slice(json).map_err(|error| DsseError::Json(one_line(error)))
    }

    /// Signs `payload` with every key of `signers`.
    #[must_use]
    pub fn sign(payload_type: &str, payload: Vec<u8>, signers: &[&Ed25519KeyPair]) -> Self {
        let message = pre_authentication_encoding(payload_type, &payload);
        let sign = |signer: &&Ed25519KeyPair| Signature {
            keyid: key_id(signer.public_key().as_ref()),
            sig: Octets(signer.sign(&message).as_ref().to_vec()),
        };
        Self {
            payload_type: payload_type.to_owned(),
            signatures: signers.iter().map(sign).collect(),
            payload: Octets(payload),
        }
    }

    /// The payload, once `threshold` different keys of `trusted` have signed it as `payload_type`.
    ///
    /// # Errors
    ///
    /// [`DsseError::PayloadType`] or [`DsseError::Threshold`]. A threshold of 0 is never met.
    pub fn verify(
        &self,
        payload_type: &str,
        trusted: &[VerifyingKey],
        threshold: usize,
    ) -> Result<&[u8], DsseError> {
        if self.payload_type != payload_type {
            let (found, wanted) = (self.payload_type.clone(), payload_type.to_owned());
            return Err(DsseError::PayloadType { found, wanted });
        }
        let message = pre_authentication_encoding(payload_type, &self.payload.0);
        let signed = |key: &&VerifyingKey| {
            let candidates = self.signatures.iter().take(MAX_SIGNATURES);
            candidates.filter(|signature| signature.keyid == key.id()).any(|signature| {
                UnparsedPublicKey::new(&ED25519, key.0).verify(&message, &signature.sig.0).is_ok()
            })
        };
        // A key counts once, also when it is pinned twice.
        let mut keys: Vec<&VerifyingKey> = trusted.iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let valid = keys.into_iter().filter(signed).count();
        if threshold == 0 || valid < threshold {
            return Err(DsseError::Threshold { valid, threshold });
        }
        Ok(&self.payload.0)
    }
}

/// A pinned Ed25519 public key. Text form: base64 of 32 octets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// Takes the raw public key.
    #[must_use]
    pub const fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The raw public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of the raw key, lower-case hex: the `keyid` of its signatures.
    #[must_use]
    pub fn id(&self) -> String {
        key_id(&self.0)
    }
}

/// Text that is not an Ed25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an Ed25519 public key is 32 octets in base64 (44 characters)")]
pub struct VerifyingKeyError;

impl FromStr for VerifyingKey {
    type Err = VerifyingKeyError;

    fn from_str(text: &str) -> Result<Self, VerifyingKeyError> {
        let octets = crate::base64::decode(text).map_err(|_| VerifyingKeyError)?;
        octets.try_into().map(Self).map_err(|_| VerifyingKeyError)
    }
}

impl TryFrom<String> for VerifyingKey {
    type Error = VerifyingKeyError;

    fn try_from(text: String) -> Result<Self, VerifyingKeyError> {
        text.parse()
    }
}

impl From<VerifyingKey> for String {
    fn from(key: VerifyingKey) -> Self {
        encode(key.0)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id())
    }
}

fn key_id(public_key: &[u8]) -> String {
    crate::key::to_hex(digest(&SHA256, public_key).as_ref())
}

/// PAE of the DSSE protocol: `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(seed: u8) -> (Ed25519KeyPair, VerifyingKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = VerifyingKey::new(pair.public_key().as_ref().try_into().unwrap());
        (pair, key)
    }

    #[test]
    fn pae_is_the_protocols() {
        // The example of the DSSE protocol description.
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn threshold_table() {
        let ((a, key_a), (b, key_b), (_, key_c)) = (pair(1), pair(2), pair(3));
        let both = Envelope::sign("t", b"x".to_vec(), &[&a, &b]);
        let one = Envelope::sign("t", b"x".to_vec(), &[&a]);
        let twice = Envelope::sign("t", b"x".to_vec(), &[&a, &a]);
        let mut altered = one.clone();
        altered.payload = Octets(b"y".to_vec());
        let mut retyped = one.clone();
        retyped.payload_type = "u".into();
        for (name, envelope, kind, keys, threshold, accepted) in [
            ("one of one", &one, "t", vec![key_a], 1, true),
            ("two of two", &both, "t", vec![key_a, key_b], 2, true),
            ("one of two", &one, "t", vec![key_a, key_b], 2, false),
            ("one key twice", &twice, "t", vec![key_a, key_b], 2, false),
            ("key pinned twice", &one, "t", vec![key_a, key_a], 2, false),
            ("unknown key", &one, "t", vec![key_c], 1, false),
            ("threshold zero", &one, "t", vec![key_a], 0, false),
            ("no keys", &one, "t", vec![], 0, false),
            ("payload altered", &altered, "t", vec![key_a], 1, false),
            ("type altered", &retyped, "u", vec![key_a], 1, false),
            ("other type wanted", &one, "u", vec![key_a], 1, false),
        ] {
            assert_eq!(envelope.verify(kind, &keys, threshold).is_ok(), accepted, "{name}");
        }
    }
}
