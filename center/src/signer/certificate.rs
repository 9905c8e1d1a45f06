//! Certificate profiles: CAs, tunnel leaves (X25519), device leaves and the server leaf (P-256).
//!
//! The profile of the tunnel leaf is the one that `verona_contract::cert::Leaf` reads. Extensions of ours
//! would have to be non-critical; there are none. Who may get which certificate is decided in `service`.

use super::ca_key::{BuildError, CaKey, common_name, random_serial, to_der, x509_time};
use const_oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};
use der::Decode as _;
use der::asn1::{Ia5String, OctetString};
use std::net::IpAddr;
use verona_contract::cert::{Issuer, X25519_SPKI_PREFIX};
use verona_contract::key::PublicKey;
use x509_cert::certificate::{Certificate, TbsCertificate, Version};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{AsExtension, Extension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{DynSignatureAlgorithmIdentifier as _, SubjectPublicKeyInfoOwned};
use x509_cert::time::Validity;

/// How far before now a leaf begins: clocks of boxes and clients may be behind by this much, in seconds.
const SKEW_S: i64 = 5 * 60;

/// Life of a CA, in seconds: 20 years.
const CA_LIFE_S: i64 = 20 * 365 * 24 * 3600;

/// Makes a CA certificate. The key identifier is part of the name, so one name never has two keys.
///
/// # Errors
///
/// [`BuildError`].
pub(crate) fn ca(key: &CaKey, label: &str, now_s: i64) -> Result<Vec<u8>, BuildError> {
    let id = key.key_id()?;
    let name = common_name(&format!("{label} {}", &id.to_string()[..16]))?;
    let validity =
        Validity { not_before: x509_time(now_s - SKEW_S)?, not_after: x509_time(now_s + CA_LIFE_S)? };
    let extensions = vec![
        extension(&BasicConstraints { ca: true, path_len_constraint: Some(0) }, &name)?,
        extension(&KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign), &name)?,
        extension(&SubjectKeyIdentifier(octet_string(id.as_bytes())?), &name)?,
    ];
    sign(
        key,
        random_serial()?,
        Body { issuer: name.clone(), subject: name, validity, spki: key.spki()?, extensions },
    )
}

/// A leaf to be.
pub(crate) struct LeafRequest<'a> {
    /// Subject CN: an opaque id or a host name, never an owner code.
    pub(crate) common_name: &'a str,
    /// The certified key.
    pub(crate) key: SubjectPublicKeyInfoOwned,
    /// subjectAltName.
    pub(crate) names: Vec<GeneralName>,
    /// Which keyUsage and extendedKeyUsage.
    pub(crate) usage: Usage,
    /// Seconds.
    pub(crate) life_s: i64,
}

/// What a leaf serves for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// keyAgreement alone (RFC 9295) and clientAuth.
    Tunnel,
    /// digitalSignature and clientAuth.
    TlsClient,
    /// digitalSignature and serverAuth.
    TlsServer,
}

/// A leaf as it was signed.
pub(crate) struct SignedLeaf {
    /// DER.
    pub(crate) der: Vec<u8>,
    /// Its serial number.
    pub(crate) serial: SerialNumber,
    /// Its end, Unix seconds.
    pub(crate) not_after: i64,
}

/// Issues a leaf. It never outlives its issuer.
///
/// # Errors
///
/// [`BuildError`].
pub(crate) fn leaf(
    key: &CaKey,
    issuer: &Issuer,
    request: LeafRequest<'_>,
    now_s: i64,
) -> Result<SignedLeaf, BuildError> {
    let (usage, purpose) = match request.usage {
        Usage::Tunnel => (KeyUsages::KeyAgreement, ID_KP_CLIENT_AUTH),
        Usage::TlsClient => (KeyUsages::DigitalSignature, ID_KP_CLIENT_AUTH),
        Usage::TlsServer => (KeyUsages::DigitalSignature, ID_KP_SERVER_AUTH),
    };
    let not_after = (now_s + request.life_s).min(issuer.not_after);
    let validity = Validity { not_before: x509_time(now_s - SKEW_S)?, not_after: x509_time(not_after)? };
    let issuer_name = Name::from_der(&issuer.subject).map_err(|error| BuildError::Encode("a name", error))?;
    let subject = common_name(request.common_name)?;
    let extensions = vec![
        extension(&KeyUsage(usage.into()), &subject)?,
        extension(&ExtendedKeyUsage(vec![purpose]), &subject)?,
        extension(&SubjectAltName(request.names), &subject)?,
        extension(&authority_key_id(issuer)?, &subject)?,
    ];
    let serial = random_serial()?;
    let body = Body { issuer: issuer_name, subject, validity, spki: request.key, extensions };
    Ok(SignedLeaf { der: sign(key, serial.clone(), body)?, serial, not_after })
}

/// authorityKeyIdentifier of what `issuer` signs.
///
/// # Errors
///
/// [`BuildError::Encode`].
pub(crate) fn authority_key_id(issuer: &Issuer) -> Result<AuthorityKeyIdentifier, BuildError> {
    Ok(AuthorityKeyIdentifier {
        key_identifier: Some(octet_string(issuer.key_id.as_bytes())?),
        ..AuthorityKeyIdentifier::default()
    })
}

/// `SubjectPublicKeyInfo` of a tunnel key (RFC 8410 §4).
///
/// # Errors
///
/// [`BuildError::Encode`].
pub(crate) fn tunnel_spki(key: &PublicKey) -> Result<SubjectPublicKeyInfoOwned, BuildError> {
    let der = [X25519_SPKI_PREFIX.as_slice(), key.as_bytes()].concat();
    device_spki(&der)
}

/// `SubjectPublicKeyInfo` of a device key, as a verified request carried it.
///
/// # Errors
///
/// [`BuildError::Encode`].
pub(crate) fn device_spki(der: &[u8]) -> Result<SubjectPublicKeyInfoOwned, BuildError> {
    SubjectPublicKeyInfoOwned::from_der(der).map_err(|error| BuildError::Encode("a public key", error))
}

/// A URI name.
///
/// # Errors
///
/// [`BuildError::Encode`].
pub(crate) fn uri_name(uri: &str) -> Result<GeneralName, BuildError> {
    let text = Ia5String::new(uri).map_err(|error| BuildError::Encode("a URI", error))?;
    Ok(GeneralName::UniformResourceIdentifier(text))
}

/// A DNS name.
///
/// # Errors
///
/// [`BuildError::Encode`].
pub(crate) fn dns_name(host: &str) -> Result<GeneralName, BuildError> {
    let text = Ia5String::new(host).map_err(|error| BuildError::Encode("a host name", error))?;
    Ok(GeneralName::DnsName(text))
}

/// An address name.
///
/// # Errors
///
/// [`BuildError::Encode`].
pub(crate) fn address_name(address: IpAddr) -> Result<GeneralName, BuildError> {
    let octets = match address {
        IpAddr::V4(v4) => octet_string(&v4.octets()),
        IpAddr::V6(v6) => octet_string(&v6.octets()),
    };
    octets.map(GeneralName::IpAddress)
}

fn octet_string(octets: &[u8]) -> Result<OctetString, BuildError> {
    OctetString::new(octets).map_err(|error| BuildError::Encode("an octet string", error))
}

/// An extension with the criticality that RFC 5280 gives it.
///
/// # Errors
///
/// [`BuildError::Encode`].
pub(crate) fn extension(value: &impl AsExtension, subject: &Name) -> Result<Extension, BuildError> {
    value.to_extension(subject, &[]).map_err(|error| BuildError::Encode("an extension", error))
}

/// What differs from certificate to certificate.
struct Body {
    issuer: Name,
    subject: Name,
    validity: Validity,
    spki: SubjectPublicKeyInfoOwned,
    extensions: Vec<Extension>,
}

fn sign(key: &CaKey, serial: SerialNumber, body: Body) -> Result<Vec<u8>, BuildError> {
    let algorithm = key.signer().signature_algorithm_identifier().map_err(|_| BuildError::Key)?;
    let tbs = TbsCertificate {
        version: Version::V3,
        serial_number: serial,
        signature: algorithm.clone(),
        issuer: body.issuer,
        validity: body.validity,
        subject: body.subject,
        subject_public_key_info: body.spki,
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(body.extensions),
    };
    let signature = key.sign(&to_der("a certificate", &tbs)?)?;
    to_der("a certificate", &Certificate { tbs_certificate: tbs, signature_algorithm: algorithm, signature })
}
