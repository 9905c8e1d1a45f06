//! Certification requests (PKCS#10, RFC 2986): the P-256 device key signs, and the X25519 key of the tunnel
//! rides along as a requested extension, since it cannot sign for itself ([`crate::pop`] proves it).

use crate::cert::X25519_SPKI_PREFIX;
use crate::key::PublicKey;
use aws_lc_rs::digest::{SHA256, digest};
use const_oid::{AssociatedOid, ObjectIdentifier};
use der::{Decode as _, Encode as _};
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use std::str::FromStr as _;
use x509_cert::builder::{Builder as _, RequestBuilder};
use x509_cert::ext::{AsExtension, Extension};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, ExtensionReq};
use zeroize::Zeroizing;

/// Largest request accepted, in octets of DER.
pub const MAX_CSR: usize = 4096;

/// The requested extension that carries the tunnel key's `SubjectPublicKeyInfo`. Under the documentation
/// enterprise number until the vendor's own is registered.
pub const TUNNEL_KEY_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1.1");

/// Why a request is not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// Not one PKCS#10 request in DER.
    #[error("not a PKCS#10 request in DER of at most {MAX_CSR} octets")]
    Der,
    /// The key is not P-256, or the signature is not ecdsa-with-SHA256.
    #[error("request must be signed by a P-256 key with SHA-256")]
    Algorithm,
    /// The signature is not by the key in the request.
    #[error("signature of the request does not hold")]
    Signature,
    /// The requested tunnel key is not an X25519 `SubjectPublicKeyInfo`, or unusable.
    #[error("requested tunnel key is not a usable X25519 key: {0}")]
    TunnelKey(crate::key::KeyError),
}

/// A device's P-256 identity key.
pub struct DeviceKey(SigningKey);

/// Octets or text that are not a P-256 private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a P-256 private key in PKCS#8")]
pub struct DeviceKeyError;

impl DeviceKey {
    /// Makes a key of 32 random octets.
    ///
    /// # Errors
    ///
    /// [`DeviceKeyError`] when they are zero or not below the group order, which is once in 2^32: draw again.
    pub fn from_entropy(entropy: &[u8; 32]) -> Result<Self, DeviceKeyError> {
        SigningKey::from_slice(entropy).map(Self).map_err(|_| DeviceKeyError)
    }

    /// Reads PKCS#8 PEM.
    ///
    /// # Errors
    ///
    /// [`DeviceKeyError`].
    pub fn from_pem(pem: &str) -> Result<Self, DeviceKeyError> {
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| DeviceKeyError)
    }

    /// The key as PKCS#8 PEM, for a file of mode 0600.
    ///
    /// # Errors
    ///
    /// [`DeviceKeyError`] when it cannot be encoded.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, DeviceKeyError> {
        self.0.to_pkcs8_pem(LineEnding::LF).map_err(|_| DeviceKeyError)
    }

    /// The key as PKCS#8 DER, as TLS libraries take it.
    ///
    /// # Errors
    ///
    /// [`DeviceKeyError`] when it cannot be encoded.
    pub fn to_der(&self) -> Result<Zeroizing<Vec<u8>>, DeviceKeyError> {
        self.0.to_pkcs8_der().map(|document| document.to_bytes()).map_err(|_| DeviceKeyError)
    }

    /// SHA-256 of the `SubjectPublicKeyInfo`, lower-case hex: what the vendor registers for a box.
    ///
    /// # Errors
    ///
    /// [`DeviceKeyError`] when it cannot be encoded.
    pub fn fingerprint(&self) -> Result<String, DeviceKeyError> {
        let spki = self.0.verifying_key().to_public_key_der().map_err(|_| DeviceKeyError)?;
        Ok(fingerprint(spki.as_bytes()))
    }

    /// A request for `common_name`, with the tunnel key where there is one.
    ///
    /// # Errors
    ///
    /// [`CsrError::Der`] when the name does not encode.
    pub fn request(&self, common_name: &str, tunnel_key: Option<&PublicKey>) -> Result<Vec<u8>, CsrError> {
        let name = Name::from_str(&format!("CN={common_name}")).map_err(|_| CsrError::Der)?;
        let mut builder = RequestBuilder::new(name, &self.0).map_err(|_| CsrError::Der)?;
        if let Some(key) = tunnel_key {
            builder.add_extension(&TunnelKey(*key)).map_err(|_| CsrError::Der)?;
        }
        builder.build::<DerSignature>().and_then(|request| Ok(request.to_der()?)).map_err(|_| CsrError::Der)
    }
}

/// SHA-256 of a `SubjectPublicKeyInfo`, lower-case hex.
#[must_use]
pub fn fingerprint(spki: &[u8]) -> String {
    crate::key::to_hex(digest(&SHA256, spki).as_ref())
}

/// A request whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCsr {
    spki: Vec<u8>,
    tunnel_key: Option<PublicKey>,
}

impl VerifiedCsr {
    /// Reads one request and checks its signature by its own key. Names in it are ignored: the center knows
    /// whom it certifies.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_CSR {
            return Err(CsrError::Der);
        }
        let request = CertReq::from_der(der).map_err(|_| CsrError::Der)?;
        if request.algorithm.oid != const_oid::db::rfc5912::ECDSA_WITH_SHA_256 {
            return Err(CsrError::Algorithm);
        }
        let spki = request.info.public_key.to_der().map_err(|_| CsrError::Der)?;
        let point = request.info.public_key.subject_public_key.as_bytes().ok_or(CsrError::Der)?;
        // `as_bytes` refuses a bit string with unused bits: one request, one encoding.
        let signature = request.signature.as_bytes().ok_or(CsrError::Der)?;
        let curve = request.info.public_key.algorithm.parameters.as_ref();
        let curve = curve.and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
        if curve != Some(const_oid::db::rfc5912::SECP_256_R_1) {
            return Err(CsrError::Algorithm);
        }
        let signed = request.info.to_der().map_err(|_| CsrError::Der)?;
        aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1, point)
            .verify(&signed, signature)
            .map_err(|_| CsrError::Signature)?;
        Ok(Self { spki, tunnel_key: requested_tunnel_key(&request)? })
    }

    /// The device key's `SubjectPublicKeyInfo`, DER.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`VerifiedCsr::spki`], lower-case hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.spki)
    }

    /// The tunnel key that it asks a certificate for. Claimed, not proven.
    #[must_use]
    pub const fn tunnel_key(&self) -> Option<&PublicKey> {
        self.tunnel_key.as_ref()
    }
}

fn requested_tunnel_key(request: &CertReq) -> Result<Option<PublicKey>, CsrError> {
    let mut found = None;
    for attribute in request.info.attributes.iter().filter(|attribute| attribute.oid == ExtensionReq::OID) {
        for value in attribute.values.iter() {
            let extensions = value.decode_as::<ExtensionReq>().map_err(|_| CsrError::Der)?;
            for extension in extensions.0.iter().filter(|extension| extension.extn_id == TUNNEL_KEY_OID) {
                let key = read_tunnel_key(extension)?;
                if found.replace(key).is_some() {
                    return Err(CsrError::Der);
                }
            }
        }
    }
    Ok(found)
}

fn read_tunnel_key(extension: &Extension) -> Result<PublicKey, CsrError> {
    let spki = extension.extn_value.as_bytes();
    let key =
        spki.strip_prefix(&X25519_SPKI_PREFIX).ok_or(CsrError::TunnelKey(crate::key::KeyError::Length))?;
    PublicKey::try_from(key).map_err(CsrError::TunnelKey)
}

/// The tunnel key as an extension: its value is the `SubjectPublicKeyInfo` itself.
struct TunnelKey(PublicKey);

impl AssociatedOid for TunnelKey {
    const OID: ObjectIdentifier = TUNNEL_KEY_OID;
}

impl der::Encode for TunnelKey {
    fn encoded_len(&self) -> der::Result<der::Length> {
        der::Length::try_from(X25519_SPKI_PREFIX.len() + 32)
    }

    fn encode(&self, writer: &mut impl der::Writer) -> der::Result<()> {
        writer.write(&X25519_SPKI_PREFIX)?;
        writer.write(self.0.as_bytes())
    }
}

impl AsExtension for TunnelKey {
    fn critical(&self, _subject: &Name, _extensions: &[Extension]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Secret;

    #[test]
    fn request_round_trip() {
        let device = DeviceKey::from_entropy(&[0x17; 32]).unwrap();
        let key = Secret::new([0x33; 32]).x25519_public().unwrap();
        let der = device.request("device", Some(&key)).unwrap();
        let csr = VerifiedCsr::parse(&der).unwrap();
        assert_eq!(csr.tunnel_key(), Some(&key));
        assert_eq!(csr.fingerprint(), device.fingerprint().unwrap());
        let plain = VerifiedCsr::parse(&device.request("device", None).unwrap()).unwrap();
        assert_eq!(plain.tunnel_key(), None);
        let again = DeviceKey::from_pem(&device.to_pem().unwrap()).unwrap();
        assert_eq!(again.fingerprint(), device.fingerprint());
    }

    #[test]
    fn altered_requests_are_refused() {
        let device = DeviceKey::from_entropy(&[0x17; 32]).unwrap();
        let key = Secret::new([0x33; 32]).x25519_public().unwrap();
        let der = device.request("device", Some(&key)).unwrap();
        for position in 0..der.len() {
            let mut altered = der.clone();
            altered[position] ^= 0x01;
            assert!(VerifiedCsr::parse(&altered).is_err(), "octet {position}");
        }
        assert_eq!(VerifiedCsr::parse(&der[..der.len() - 1]), Err(CsrError::Der));
        assert_eq!(VerifiedCsr::parse(&[der.as_slice(), &[0]].concat()), Err(CsrError::Der));
    }
}
