//! Certificate revocation lists (RFC 5280 §5): full lists of one issuer, verified once when they arrive.
//!
//! webpki drops the cRLNumber, ignores nextUpdate unless asked and lets the first of two lists win, so the
//! rules are ours: who signed it, which number, nothing that we do not understand. What a list then
//! *decides* (fresh, grace, stale) belongs to the data plane, which also holds the clock.

mod entries;
mod serials;

pub use serials::SerialSet;

use crate::cert::Issuer;
use crate::key::KeyId;
use der::asn1::AnyRef;
use der::{Decode as _, Reader as _, SliceReader};
use entries::Split;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, ParsedExtension};
use x509_parser::verify::verify_signature;

/// Largest list accepted, in octets of DER; a million entries are 35 MB.
pub const MAX_CRL: usize = 48 * 1024 * 1024;

/// Why a list is not accepted. The one before it stays in force.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// Over [`MAX_CRL`], or over the owner's cap.
    #[error("revocation list is longer than {0} octets")]
    TooLong(usize),
    /// Not one list in DER.
    #[error("not a certificate revocation list in DER")]
    Der,
    /// Version 1 has no extensions, so no number.
    #[error("revocation list is not version 2")]
    Version,
    /// None of the pinned issuers has this name and key identifier.
    #[error("revocation list of an unknown issuer")]
    UnknownIssuer,
    /// The issuer's certificate does not hold cRLSign.
    #[error("issuer {0} may not sign revocation lists")]
    NotCrlSign(KeyId),
    /// The signature is not the issuer's.
    #[error("signature of the revocation list is not by issuer {0}")]
    Signature(KeyId),
    /// A critical extension that we do not know: delta and partial lists among them (RFC 5280 §5.2).
    #[error("revocation list has an unknown critical extension {0}")]
    CriticalExtension(String),
    /// A delta, indirect or partial list, by an extension that is not marked critical.
    #[error("revocation list is delta, indirect or partial ({0})")]
    NotFull(String),
    /// authorityKeyIdentifier, cRLNumber or nextUpdate is absent, or out of range.
    #[error("revocation list lacks {0}")]
    Missing(&'static str),
    /// An entry, counted from 0, is not readable, speaks of another CA's certificate, or has a critical
    /// extension that we do not know.
    #[error("entry {0} of the revocation list is malformed or not understood")]
    Entry(usize),
    /// Lower than the stored one: someone replays an old list.
    #[error("revocation list {offered} is older than list {stored} in force")]
    Rollback {
        /// The number in force.
        stored: u64,
        /// The number offered.
        offered: u64,
    },
    /// The same number with another content.
    #[error("revocation list {0} differs from the list in force of the same number")]
    Conflict(u64),
}

/// A list whose signature, issuer and form were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCrl {
    issuer: KeyId,
    number: u64,
    this_update: i64,
    next_update: i64,
    revoked: SerialSet,
    digest: [u8; 32],
}

impl VerifiedCrl {
    /// Checks `der` against the pinned `issuers`, of which exactly one must match by DN and key identifier.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks. Order by number is for [`VerifiedCrl::check_follows`].
    pub fn verify<'a>(der: &[u8], issuers: impl IntoIterator<Item = &'a Issuer>) -> Result<Self, CrlError> {
        if der.len() > MAX_CRL {
            return Err(CrlError::TooLong(MAX_CRL));
        }
        let parts = Split::new(der).ok_or(CrlError::Der)?;
        let (rest, list) = CertificateRevocationList::from_der(&parts.frame).map_err(|_| CrlError::Der)?;
        if !rest.is_empty() {
            return Err(CrlError::Der);
        }
        if list.version().map(|version| version.0) != Some(1) {
            return Err(CrlError::Version);
        }
        // One list, one encoding: what is outside the signature must not vary either.
        if !same_algorithm_inside_and_out(&parts.frame) || list.signature_value.unused_bits != 0 {
            return Err(CrlError::Der);
        }
        let (key_id, number) = read_extensions(&list)?;
        let issuer = issuers
            .into_iter()
            .find(|issuer| issuer.subject == list.issuer().as_raw() && issuer.key_id == key_id)
            .ok_or(CrlError::UnknownIssuer)?;
        if !issuer.crl_sign {
            return Err(CrlError::NotCrlSign(key_id));
        }
        let (_, key) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&issuer.spki)
            .map_err(|_| CrlError::UnknownIssuer)?;
        verify_signature(&key, &list.signature_algorithm, &list.signature_value, parts.signed)
            .map_err(|_| CrlError::Signature(key_id.clone()))?;
        let next_update = list.next_update().ok_or(CrlError::Missing("nextUpdate"))?.timestamp();
        let revoked = SerialSet::new(entries::check(parts.entries)?, || entries::serials(parts.entries));
        let mut digest = [0; 32];
        digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref());
        Ok(Self {
            issuer: key_id,
            number,
            this_update: list.last_update().timestamp(),
            next_update,
            revoked,
            digest,
        })
    }

    /// Checks that this list may replace `stored`, the one in force of the same issuer.
    ///
    /// # Errors
    ///
    /// [`CrlError::Rollback`] when its number is lower, [`CrlError::Conflict`] when it is the same number with
    /// other octets. Both are alarms: the issuer never does that.
    pub fn check_follows(&self, stored: &CrlMark) -> Result<(), CrlError> {
        match self.number.cmp(&stored.number) {
            std::cmp::Ordering::Less => {
                Err(CrlError::Rollback { stored: stored.number, offered: self.number })
            }
            std::cmp::Ordering::Equal if self.digest != stored.digest => Err(CrlError::Conflict(self.number)),
            _ => Ok(()),
        }
    }

    /// What to remember of this list to recognise a replay of an older one.
    #[must_use]
    pub const fn mark(&self) -> CrlMark {
        CrlMark { number: self.number, digest: self.digest }
    }

    /// The issuer's key identifier.
    #[must_use]
    pub const fn issuer(&self) -> &KeyId {
        &self.issuer
    }

    /// cRLNumber (RFC 5280 §5.2.3).
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// thisUpdate, Unix seconds.
    #[must_use]
    pub const fn this_update(&self) -> i64 {
        self.this_update
    }

    /// nextUpdate, Unix seconds.
    #[must_use]
    pub const fn next_update(&self) -> i64 {
        self.next_update
    }

    /// The revoked serial numbers. certificateHold counts as revoked.
    #[must_use]
    pub const fn revoked(&self) -> &SerialSet {
        &self.revoked
    }
}

/// Number and SHA-256 of a list: enough to refuse an older or a forked one, also after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlMark {
    number: u64,
    digest: [u8; 32],
}

impl CrlMark {
    /// A mark read back from the disk.
    #[must_use]
    pub const fn new(number: u64, digest: [u8; 32]) -> Self {
        Self { number, digest }
    }

    /// SHA-256 of the list's DER.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// cRLNumber.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }
}

/// Whether `signatureAlgorithm` repeats `tbsCertList.signature` octet by octet (RFC 5280 §5.1.1.2). The
/// parser compares neither and takes an OID under a foreign tag.
fn same_algorithm_inside_and_out(der: &[u8]) -> bool {
    let elements = |octets| -> Option<Vec<AnyRef<'_>>> {
        let mut reader = SliceReader::new(octets).ok()?;
        // The version and the algorithm of the inner, the content and the algorithm of the outer sequence.
        (0..2).map(|_| reader.decode().ok()).collect()
    };
    let outer = AnyRef::from_der(der).ok().and_then(|list| elements(list.value()));
    let inner = outer.as_ref().and_then(|outer| elements(outer.first()?.value()));
    matches!((outer, inner), (Some(outer), Some(inner)) if outer.get(1) == inner.get(1))
}

fn read_extensions(list: &CertificateRevocationList<'_>) -> Result<(KeyId, u64), CrlError> {
    let mut key_id = None;
    let mut number = None;
    for extension in list.extensions() {
        let oid = || extension.oid.to_id_string();
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(identifier) => {
                let id = identifier.key_identifier.as_ref().and_then(|id| KeyId::new(id.0).ok());
                if key_id.replace(id.ok_or(CrlError::Missing("authorityKeyIdentifier"))?).is_some() {
                    return Err(CrlError::Der);
                }
            }
            ParsedExtension::CRLNumber(value) => {
                let value = u64::try_from(value).map_err(|_| CrlError::Missing("a cRLNumber below 2^64"))?;
                if number.replace(value).is_some() {
                    return Err(CrlError::Der);
                }
            }
            ParsedExtension::IssuingDistributionPoint(_) => return Err(CrlError::NotFull(oid())),
            // deltaCRLIndicator (RFC 5280 §5.2.4) must be critical; a maker who forgot that means the same.
            _ if oid() == "2.5.29.27" => return Err(CrlError::NotFull(oid())),
            ParsedExtension::ParseError { .. } => return Err(CrlError::Der),
            _ if extension.critical => return Err(CrlError::CriticalExtension(oid())),
            _ => {}
        }
    }
    Ok((
        key_id.ok_or(CrlError::Missing("authorityKeyIdentifier"))?,
        number.ok_or(CrlError::Missing("cRLNumber"))?,
    ))
}
