//! Certificates as the product uses them (RFC 5280, RFC 8410): tunnel leaf, identity leaf, their issuers.
//!
//! [`Leaf::parse`] checks the profile of a tunnel certificate: that its key is a usable X25519 key, that it
//! names exactly one subject, which addresses it may use. [`IdentityLeaf::parse`] does so for the second form,
//! whose key signs a [`crate::binding`]. It verifies no signature and no date: the path is
//! the business of who holds the anchors, the date of who holds the clock.

mod extensions;
mod identity;

pub(crate) use extensions::{is_subject, is_tunnel_address};
pub use identity::{IdentityKey, IdentityLeaf};

use crate::key::{KeyId, PublicKey, Serial};
use extensions::{Extensions, parse_one};
use std::net::IpAddr;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};

/// Largest certificate accepted, in octets: leaf, issuer or intermediate.
pub const MAX_CERTIFICATE: usize = 4096;

/// Most tunnel addresses in one certificate.
pub const MAX_ADDRESSES: usize = 8;

/// What a SAN URI of a client begins with; a UUID follows.
pub const CLIENT_URN: &str = "urn:verona:client:";

/// What a SAN URI of an edge begins with; a UUID follows.
pub const EDGE_URN: &str = "urn:verona:edge:";

/// `SubjectPublicKeyInfo` of an X25519 key up to the key itself (RFC 8410 §4).
pub const X25519_SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00];

/// Why a certificate is not of the profile.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertError {
    /// Not one certificate in DER, or over [`MAX_CERTIFICATE`].
    #[error("not a certificate in DER of at most {MAX_CERTIFICATE} octets")]
    Der,
    /// A critical extension that we do not know (RFC 5280 §4.2).
    #[error("unknown critical extension {0}")]
    CriticalExtension(String),
    /// An extension occurs twice, or does not parse.
    #[error("extension {0} is malformed or occurs twice")]
    Extension(String),
    /// The public key is not X25519 in the one encoding of RFC 8410.
    #[error("public key is not X25519 as RFC 8410 encodes it")]
    NotX25519,
    /// The key itself is unusable.
    #[error(transparent)]
    Key(#[from] crate::key::KeyError),
    /// The public key is neither P-256 nor Ed25519 in its one encoding, or everybody can sign for it.
    #[error("public key is not a usable P-256 (uncompressed) or Ed25519 key")]
    NotIdentityKey,
    /// The serial number is zero, negative or too long.
    #[error("serial number is not a positive integer of at most 20 octets")]
    Serial,
    /// No SAN URI `urn:verona:…:<uuid>`, or more than one.
    #[error("subjectAltName must hold exactly one URI urn:verona:client:<uuid> or urn:verona:edge:<uuid>")]
    Subject,
    /// No tunnel address, too many, or one that is no unicast host address.
    #[error("subjectAltName must hold 1 to {MAX_ADDRESSES} unicast iPAddress entries")]
    Addresses,
    /// extendedKeyUsage lacks clientAuth, or is absent.
    #[error("extendedKeyUsage clientAuth is missing")]
    ExtendedKeyUsage,
    /// keyUsage is absent or does not fit: keyAgreement alone for X25519 (RFC 9295), digitalSignature and no
    /// right to issue for an identity, keyCertSign for a CA.
    #[error("keyUsage does not fit the key: keyAgreement alone, digitalSignature, or keyCertSign for a CA")]
    KeyUsage,
    /// A leaf says that it is a CA, or a CA does not.
    #[error("basicConstraints do not fit the use of this certificate")]
    BasicConstraints,
    /// authorityKeyIdentifier or subjectKeyIdentifier is absent or too long.
    #[error("key identifier is missing or longer than 32 octets")]
    KeyIdentifier,
}

/// A tunnel certificate that keeps to the profile. Signature and dates are not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Issuer DN, DER.
    pub issuer: Vec<u8>,
    /// Which of the issuer's keys signed it.
    pub issuer_key_id: KeyId,
    /// Serial number.
    pub serial: Serial,
    /// The certified WireGuard key.
    pub key: PublicKey,
    /// `urn:verona:client:<uuid>` or `urn:verona:edge:<uuid>`.
    pub subject: String,
    /// The tunnel addresses it may use: its AllowedIPs.
    pub addresses: Vec<IpAddr>,
    /// Begin of validity, Unix seconds.
    pub not_before: i64,
    /// End of validity, Unix seconds, inclusive.
    pub not_after: i64,
}

impl Leaf {
    /// Reads one certificate and checks it against the profile.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn parse(der: &[u8]) -> Result<Self, CertError> {
        let certificate = parse_one(der)?;
        let tbs = &certificate.tbs_certificate;
        let spki = tbs.subject_pki.raw;
        let key = spki.strip_prefix(&X25519_SPKI_PREFIX).filter(|key| key.len() == 32);
        let key = PublicKey::try_from(key.ok_or(CertError::NotX25519)?)?;
        let extensions = Extensions::read(&certificate)?;
        if extensions.ca {
            return Err(CertError::BasicConstraints);
        }
        if !extensions.client_auth {
            return Err(CertError::ExtendedKeyUsage);
        }
        // Bit 4 of keyUsage is keyAgreement (RFC 5280 §4.2.1.3); x509-parser counts from the low end.
        if extensions.key_usage != Some(1 << 4) {
            return Err(CertError::KeyUsage);
        }
        Ok(Self {
            issuer: tbs.issuer.as_raw().to_vec(),
            issuer_key_id: extensions.authority_key_id.ok_or(CertError::KeyIdentifier)?,
            serial: Serial::new(tbs.raw_serial()).map_err(|_| CertError::Serial)?,
            key,
            subject: extensions.subject.ok_or(CertError::Subject)?,
            addresses: Some(extensions.addresses)
                .filter(|list| !list.is_empty())
                .ok_or(CertError::Addresses)?,
            not_before: tbs.validity.not_before.timestamp(),
            not_after: tbs.validity.not_after.timestamp(),
        })
    }
}

/// A CA certificate: an anchor, or an intermediate. Whether to trust it is the caller's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// Subject DN, DER. One DN stands for one key: a new CA key is a new DN.
    pub subject: Vec<u8>,
    /// Issuer DN, DER; the subject itself when it is self-signed.
    pub issuer: Vec<u8>,
    /// Which of the issuer's keys signed it; a self-signed one need not say.
    pub issuer_key_id: Option<KeyId>,
    /// Serial number, as its issuer's list names it.
    pub serial: Serial,
    /// subjectKeyIdentifier.
    pub key_id: KeyId,
    /// `SubjectPublicKeyInfo`, DER.
    pub spki: Vec<u8>,
    /// How many CAs may stand between this one and a leaf (RFC 5280 §4.2.1.9); none = any number.
    pub path_len: Option<u32>,
    /// Whether keyUsage holds cRLSign.
    pub crl_sign: bool,
    /// Begin of validity, Unix seconds.
    pub not_before: i64,
    /// End of validity, Unix seconds, inclusive.
    pub not_after: i64,
}

impl Issuer {
    /// Reads a CA certificate: basicConstraints cA, keyUsage keyCertSign, a subjectKeyIdentifier.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn parse(der: &[u8]) -> Result<Self, CertError> {
        let certificate = parse_one(der)?;
        let tbs = &certificate.tbs_certificate;
        let extensions = Extensions::read(&certificate)?;
        if !extensions.ca {
            return Err(CertError::BasicConstraints);
        }
        let usage = extensions.key_usage.unwrap_or(0);
        if usage & (1 << 5) == 0 {
            return Err(CertError::KeyUsage);
        }
        Ok(Self {
            der: der.to_vec(),
            subject: tbs.subject.as_raw().to_vec(),
            issuer: tbs.issuer.as_raw().to_vec(),
            issuer_key_id: extensions.authority_key_id,
            serial: Serial::new(tbs.raw_serial()).map_err(|_| CertError::Serial)?,
            key_id: extensions.subject_key_id.ok_or(CertError::KeyIdentifier)?,
            spki: tbs.subject_pki.raw.to_vec(),
            path_len: extensions.path_len,
            crl_sign: usage & (1 << 6) != 0,
            not_before: tbs.validity.not_before.timestamp(),
            not_after: tbs.validity.not_after.timestamp(),
        })
    }

    /// Whether `above` signed this certificate: names, key identifiers and signature. Dates, constraints and
    /// trust are not looked at.
    #[must_use]
    pub fn is_issued_by(&self, above: &Self) -> bool {
        let named = self.issuer == above.subject && self.issuer_key_id.as_ref() == Some(&above.key_id);
        let key = SubjectPublicKeyInfo::from_der(&above.spki);
        let (Ok(certificate), Ok((_, key))) = (parse_one(&self.der), key) else { return false };
        named && certificate.verify_signature(Some(&key)).is_ok()
    }
}
