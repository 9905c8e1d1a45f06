//! Who the box is: its keys, its operational certificate, the certificate of its tunnel key.
//!
//! Keys are made once, at the first start, and stay. The operational certificate says which edge this is and
//! how long the center will know it. How certificates are got is [`crate::enrolment`].

use crate::store::{self, StoreError};
use const_oid::db::rfc5912::ID_CE_SUBJECT_ALT_NAME;
use der::{Decode as _, Encode as _};
use p256::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;
use uuid::Uuid;
use verona_contract::cert::EDGE_URN;
use verona_contract::csr::DeviceKey;
use verona_contract::key::{PublicKey, Secret};
use x509_cert::Certificate;
use x509_cert::builder::{Builder as _, CertificateBuilder, Profile};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::Validity;
use zeroize::Zeroizing;

/// Longest key or certificate file.
const MAX_FILE: usize = 64 * 1024;

/// A box without a battery-backed clock may make it in 1970, and it serves by its key only: a long life.
const BIRTH_LIFE: Duration = Duration::from_secs(40 * 365 * 86_400);

/// Why keys or certificates are unusable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file does not hold what it should. Never overwritten: a lost key is a lost identity.
    #[error("{path}: {rule}")]
    File {
        /// Which.
        path: String,
        /// What it should be.
        rule: String,
    },
    /// A certificate from the center is not what was asked for.
    #[error("certificate from the center: {0}")]
    Certificate(String),
    /// The system gave no randomness.
    #[error("no randomness from the system")]
    Entropy,
}

/// The box's private keys.
pub struct Keys {
    /// P-256, for TLS and requests.
    pub device: DeviceKey,
    /// X25519, the WireGuard key.
    pub tunnel: Secret,
    /// Its public half.
    pub tunnel_public: PublicKey,
}

impl Keys {
    /// Reads the keys from `directory`, or makes them there.
    ///
    /// # Errors
    ///
    /// [`IdentityError`]. A key file that does not read is an error: the keys are the box.
    pub fn load_or_make(directory: &Path) -> Result<Self, IdentityError> {
        store::make_directory(directory)?;
        let device = device_key(&directory.join("device.pem"))?;
        let path = directory.join("tunnel.key");
        let tunnel = match store::read(&path, MAX_FILE)?.map(Zeroizing::new) {
            Some(text) => {
                let text = std::str::from_utf8(&text).unwrap_or_default();
                Secret::from_str(text.trim()).map_err(|error| bad_file(&path, error))?
            }
            None => {
                let secret = Secret::new(*random()?);
                let text = Zeroizing::new(verona_contract::base64::encode(secret.expose()) + "\n");
                store::replace(&path, text.as_bytes())?;
                secret
            }
        };
        let tunnel_public = tunnel.x25519_public().map_err(|error| bad_file(&path, error))?;
        Ok(Self { device, tunnel, tunnel_public })
    }

    /// The device key's `SubjectPublicKeyInfo`, DER.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Certificate`] when it does not encode.
    pub fn device_spki(&self) -> Result<Vec<u8>, IdentityError> {
        let spki = signing_key(&self.device)?.verifying_key().to_public_key_der();
        Ok(spki.map_err(|error| IdentityError::Certificate(error.to_string()))?.into_vec())
    }

    /// A self-signed certificate over the device key: what TLS needs to show a registered key before there is
    /// an operational certificate.
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub fn birth_certificate(&self, serial: &str) -> Result<Vec<u8>, IdentityError> {
        let fail = |error: &dyn std::fmt::Display| IdentityError::Certificate(error.to_string());
        let name = Name::from_str(&format!("CN={serial}")).map_err(|error| fail(&error))?;
        let spki = SubjectPublicKeyInfoOwned::from_der(&self.device_spki()?).map_err(|error| fail(&error))?;
        let mut number = *random()?;
        number[0] &= 0x7f;
        let number = SerialNumber::new(&number[..16]).map_err(|error| fail(&error))?;
        let life = Validity::from_now(BIRTH_LIFE).map_err(|error| fail(&error))?;
        let profile = Profile::Leaf {
            issuer: name.clone(),
            enable_key_agreement: false,
            enable_key_encipherment: false,
        };
        let key = signing_key(&self.device)?;
        CertificateBuilder::new(profile, number, life, name, spki, &key)
            .and_then(CertificateBuilder::build::<p256::ecdsa::DerSignature>)
            .and_then(|certificate| Ok(certificate.to_der()?))
            .map_err(|error| fail(&error))
    }
}

fn device_key(path: &Path) -> Result<DeviceKey, IdentityError> {
    if let Some(pem) = store::read(path, MAX_FILE)?.map(Zeroizing::new) {
        let pem = std::str::from_utf8(&pem).unwrap_or_default();
        return DeviceKey::from_pem(pem).map_err(|error| bad_file(path, error));
    }
    // Misses the group order once in 2^32.
    let key = loop {
        if let Ok(key) = DeviceKey::from_entropy(&*random()?) {
            break key;
        }
    };
    let pem = key.to_pem().map_err(|error| bad_file(path, error))?;
    store::replace(path, pem.as_bytes())?;
    Ok(key)
}

fn signing_key(device: &DeviceKey) -> Result<p256::ecdsa::SigningKey, IdentityError> {
    let fail = |error: &dyn std::fmt::Display| IdentityError::Certificate(error.to_string());
    let der = device.to_der().map_err(|error| fail(&error))?;
    p256::ecdsa::SigningKey::from_pkcs8_der(&der).map_err(|error| fail(&error))
}

fn random() -> Result<Zeroizing<[u8; 32]>, IdentityError> {
    let mut octets = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(octets.as_mut()).map_err(|_| IdentityError::Entropy)?;
    Ok(octets)
}

fn bad_file(path: &Path, error: impl std::fmt::Display) -> IdentityError {
    IdentityError::File { path: path.display().to_string(), rule: error.to_string() }
}

/// The operational certificate and what it says.
#[derive(Clone, Debug)]
pub struct Operational {
    /// Leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// Which edge this is.
    pub edge: Uuid,
    /// Begin of validity, Unix seconds.
    pub not_before: i64,
    /// End of validity, Unix seconds.
    pub not_after: i64,
}

impl Operational {
    /// Picks the leaf over our own key out of what the center sent; the rest follows it.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Certificate`] when none is over our key, or it names no edge.
    pub fn new(mut chain: Vec<Vec<u8>>, spki: &[u8]) -> Result<Self, IdentityError> {
        let fail = |rule: &str| IdentityError::Certificate(rule.to_owned());
        let read = |der: &Vec<u8>| Certificate::from_der(der).ok();
        let is_ours = |certificate: &Certificate| {
            let key = certificate.tbs_certificate.subject_public_key_info.to_der();
            key.is_ok_and(|key| key == spki)
        };
        let leaf = chain.iter().position(|der| read(der).as_ref().is_some_and(is_ours));
        chain.swap(0, leaf.ok_or_else(|| fail("none is over our device key"))?);
        let certificate = read(&chain[0]).ok_or_else(|| fail("not DER"))?;
        let validity = &certificate.tbs_certificate.validity;
        // Certificates end long before the year 2^63.
        let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs().cast_signed();
        Ok(Self {
            edge: edge_of(&certificate).ok_or_else(|| fail("no SAN URI urn:verona:edge:<uuid>"))?,
            not_before: seconds(validity.not_before),
            not_after: seconds(validity.not_after),
            chain,
        })
    }

    /// Reads the stored one; none when there is none.
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub fn load(path: &Path, spki: &[u8]) -> Result<Option<Self>, IdentityError> {
        let Some(pem) = store::read(path, MAX_FILE)? else { return Ok(None) };
        let chain: Result<Vec<Vec<u8>>, _> =
            CertificateDer::pem_slice_iter(&pem).map(|der| der.map(|der| der.to_vec())).collect();
        Self::new(chain.map_err(|error| bad_file(path, error))?, spki).map(Some)
    }

    /// Stores it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn save(&self, path: &Path) -> Result<(), StoreError> {
        store::replace(path, to_pem(&self.chain).as_bytes())
    }
}

fn edge_of(certificate: &Certificate) -> Option<Uuid> {
    let extensions = certificate.tbs_certificate.extensions.as_ref()?;
    let names = extensions.iter().find(|extension| extension.extn_id == ID_CE_SUBJECT_ALT_NAME)?;
    let names = SubjectAltName::from_der(names.extn_value.as_bytes()).ok()?;
    names.0.iter().find_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => {
            Uuid::try_parse(uri.as_str().strip_prefix(EDGE_URN)?).ok()
        }
        _ => None,
    })
}

/// Certificates as PEM, in their order.
#[must_use]
pub fn to_pem(chain: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for der in chain {
        let base64 = verona_contract::base64::encode(der);
        text += "-----BEGIN CERTIFICATE-----\n";
        for line in base64.as_bytes().chunks(64) {
            text += &String::from_utf8_lossy(line);
            text.push('\n');
        }
        text += "-----END CERTIFICATE-----\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_made_once_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_make(directory.path()).unwrap();
        let again = Keys::load_or_make(directory.path()).unwrap();
        assert_eq!(keys.tunnel_public, again.tunnel_public);
        assert_eq!(keys.device_spki().unwrap(), again.device_spki().unwrap());
        for name in ["device.pem", "tunnel.key"] {
            let path = directory.path().join(name);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
            let good = std::fs::read(&path).unwrap();
            for garbage in [&b""[..], b"garbage", &good[..good.len() / 2]] {
                std::fs::write(&path, garbage).unwrap();
                let error = Keys::load_or_make(directory.path()).err().unwrap();
                assert!(error.to_string().contains(name), "{error}");
                assert_eq!(std::fs::read(&path).unwrap(), garbage);
            }
            std::fs::write(&path, good).unwrap();
        }
    }

    #[test]
    fn a_birth_certificate_is_over_the_device_key_and_names_no_edge() {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_make(directory.path()).unwrap();
        let der = keys.birth_certificate("SN-1").unwrap();
        let error = Operational::new(vec![der.clone()], &keys.device_spki().unwrap()).unwrap_err();
        assert!(error.to_string().contains("urn:verona:edge"), "{error}");
        let error = Operational::new(vec![der], b"another key").unwrap_err();
        assert!(error.to_string().contains("over our device key"), "{error}");
    }

    #[test]
    fn pem_is_read_back() {
        let ders = vec![vec![0x30; 100], vec![0x31; 48]];
        let pem = to_pem(&ders);
        let read: Vec<Vec<u8>> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| der.unwrap().to_vec()).collect();
        assert_eq!(read, ders);
    }
}
