//! Identity keys of the two-key form, as the owner's own PKI and its clients hold them.

use crate::pki::{Authority, LeafPlan};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use const_oid::ObjectIdentifier;
use der::Decode as _;
use der::asn1::BitString;
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use verona_contract::binding::Binding;
use verona_contract::key::{Fingerprint, PublicKey};
use x509_cert::ext::pkix::KeyUsages;

/// Ed25519 in a `SubjectPublicKeyInfo` (RFC 8410 §3).
const ID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A signing key.
#[derive(Debug)]
pub enum IdentityKey {
    /// ECDSA.
    P256(SigningKey),
    /// RFC 8032.
    Ed25519(Ed25519KeyPair),
}

impl IdentityKey {
    /// A P-256 key made from `seed` (not 0).
    #[must_use]
    pub fn p256(seed: u8) -> Self {
        Self::P256(SigningKey::from_slice(&[seed; 32]).unwrap())
    }

    /// An Ed25519 key made from `seed`.
    #[must_use]
    pub fn ed25519(seed: u8) -> Self {
        Self::Ed25519(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap())
    }

    /// Its certificate, by `authority`: as `plan` says but over this key, with keyUsage digitalSignature unless the
    /// plan says something else than a tunnel leaf's.
    #[must_use]
    pub fn leaf(&self, authority: &Authority, plan: &LeafPlan) -> Vec<u8> {
        let mut plan = plan.clone();
        if plan.key_usage == KeyUsages::KeyAgreement {
            plan.key_usage = KeyUsages::DigitalSignature;
        }
        authority.leaf_over(self.spki(), &plan)
    }

    fn spki(&self) -> SubjectPublicKeyInfoOwned {
        match self {
            Self::P256(key) => {
                let der = key.verifying_key().to_public_key_der().unwrap();
                SubjectPublicKeyInfoOwned::from_der(der.as_bytes()).unwrap()
            }
            Self::Ed25519(key) => SubjectPublicKeyInfoOwned {
                algorithm: AlgorithmIdentifierOwned { oid: ID_ED25519, parameters: None },
                subject_public_key: BitString::from_bytes(key.public_key().as_ref()).unwrap(),
            },
        }
    }

    /// A P-256 private key in PKCS#8 PEM, as tools import it.
    ///
    /// # Panics
    ///
    /// It is an Ed25519 key.
    #[must_use]
    pub fn private_pem(&self) -> String {
        match self {
            Self::P256(key) => key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(),
            Self::Ed25519(_) => panic!("not a P-256 key"),
        }
    }

    /// The public key in PEM, for other makers of certificates.
    #[must_use]
    pub fn public_pem(&self) -> String {
        let der = der::Encode::to_der(&self.spki()).unwrap();
        let text = verona_contract::base64::encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    }

    /// SHA-256 of the public key's `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&der::Encode::to_der(&self.spki()).unwrap())
    }

    /// A signature by this key.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match self {
            Self::P256(key) => {
                let signature: Signature = key.sign(message);
                signature.to_bytes().into()
            }
            Self::Ed25519(key) => key.sign(message).as_ref().try_into().unwrap(),
        }
    }

    /// A binding of `key` for the certificate `leaf`, from `begin` on for `life`.
    #[must_use]
    pub fn bind(&self, key: PublicKey, leaf: &[u8], begin: SystemTime, life: Duration) -> Vec<u8> {
        let from = i64::try_from(begin.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let to = from + i64::try_from(life.as_secs()).unwrap();
        let binding = Binding::new(key, Fingerprint::of(leaf), from, to).unwrap();
        binding.signed(&self.sign(&binding.message()))
    }
}
