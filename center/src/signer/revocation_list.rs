//! Builds certificate revocation lists (RFC 5280 §5): full, version 2, numbered, with nextUpdate.

use super::ca_key::{BuildError, CaKey, to_der, x509_time};
use super::certificate::{authority_key_id, extension};
use super::protocol::{CrlEntry, Reason};
use der::Decode as _;
use der::asn1::Uint;
use verona_contract::cert::Issuer;
use x509_cert::Version;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::pkix::{CrlNumber, CrlReason};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::DynSignatureAlgorithmIdentifier as _;

/// What is in a list besides its entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dating {
    /// cRLNumber.
    pub(crate) number: u64,
    /// Unix seconds.
    pub(crate) this_update: i64,
    /// Unix seconds.
    pub(crate) next_update: i64,
}

/// Builds and signs a list.
///
/// # Errors
///
/// [`BuildError`].
pub(crate) fn build(
    key: &CaKey,
    issuer: &Issuer,
    dating: Dating,
    entries: &[CrlEntry],
) -> Result<Vec<u8>, BuildError> {
    let encode = |what| move |error| BuildError::Encode(what, error);
    let name = Name::from_der(&issuer.subject).map_err(encode("a name"))?;
    let algorithm = key.signer().signature_algorithm_identifier().map_err(|_| BuildError::Key)?;
    let number = Uint::new(&dating.number.to_be_bytes()).map_err(encode("a list number"))?;
    let extensions =
        vec![extension(&authority_key_id(issuer)?, &name)?, extension(&CrlNumber(number), &name)?];
    let revoked = entries.iter().map(|entry| revoked(entry, &name)).collect::<Result<Vec<_>, _>>()?;
    let list = TbsCertList {
        version: Version::V2,
        signature: algorithm.clone(),
        issuer: name,
        this_update: x509_time(dating.this_update)?,
        next_update: Some(x509_time(dating.next_update)?),
        // RFC 5280 §5.1.2.6: absent when there is none, never empty.
        revoked_certificates: Some(revoked).filter(|revoked| !revoked.is_empty()),
        crl_extensions: Some(extensions),
    };
    let signature = key.sign(&to_der("a revocation list", &list)?)?;
    let list = CertificateList { tbs_cert_list: list, signature_algorithm: algorithm, signature };
    to_der("a revocation list", &list)
}

fn revoked(entry: &CrlEntry, issuer: &Name) -> Result<RevokedCert, BuildError> {
    let reason = match entry.reason {
        Reason::Hold => CrlReason::CertificateHold,
        Reason::Superseded => CrlReason::Superseded,
        Reason::Withdrawn => CrlReason::PrivilegeWithdrawn,
    };
    let serial = SerialNumber::new(entry.serial.as_bytes())
        .map_err(|error| BuildError::Encode("a serial number", error))?;
    Ok(RevokedCert {
        serial_number: serial,
        revocation_date: x509_time(entry.since)?,
        crl_entry_extensions: Some(vec![extension(&reason, issuer)?]),
    })
}
