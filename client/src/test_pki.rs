//! What the unit tests are made of: a center's CA with servers under it, and profiles.

use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePublicKey as _;
use rustls_pki_types::CertificateDer;
use spki::SubjectPublicKeyInfoOwned;
use std::str::FromStr as _;
use std::time::{Duration, UNIX_EPOCH};
use uuid::Uuid;
use verona_contract::api::{ClientProfile, EdgeProfile};
use verona_contract::key::Secret;
use x509_cert::builder::{Builder as _, CertificateBuilder, Profile};
use x509_cert::der::Encode as _;
use x509_cert::der::asn1::{GeneralizedTime, Ia5String};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};

/// The tests' now: all CAs are valid around it.
const FOUNDED: Duration = Duration::from_secs(1_577_836_800);
const DAY: Duration = Duration::from_secs(86_400);

/// A CA with a P-256 key.
pub(crate) struct Authority {
    key: SigningKey,
    name: Name,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// The key comes from `seed`: another seed, another CA, even of the same name.
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let key = SigningKey::from_slice(&[seed; 32]).unwrap();
        let name = Name::from_str(name).unwrap();
        let validity = validity(FOUNDED, 36_500 * DAY);
        let builder = CertificateBuilder::new(
            Profile::Root,
            SerialNumber::from(1_u32),
            validity,
            name.clone(),
            spki(&key),
            &key,
        );
        let certificate = builder.unwrap().build::<DerSignature>().unwrap().to_der().unwrap().into();
        Self { key, name, certificate }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// SHA-256 of the CA's `SubjectPublicKeyInfo`, computed from the key, not from the certificate.
    pub(crate) fn pin(&self) -> [u8; 32] {
        let spki = self.key.verifying_key().to_public_key_der().unwrap();
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, spki.as_bytes()).as_ref().try_into().unwrap()
    }

    /// A server's certificate for a DNS name, valid for ten days around `now` (since 1970).
    pub(crate) fn server(&self, name: &str, now: Duration) -> CertificateDer<'static> {
        let key = SigningKey::from_slice(&[0x77; 32]).unwrap();
        let profile = Profile::Leaf {
            issuer: self.name.clone(),
            enable_key_agreement: false,
            enable_key_encipherment: false,
        };
        let mut builder = CertificateBuilder::new(
            profile,
            SerialNumber::from(2_u32),
            validity(now - 5 * DAY, 10 * DAY),
            Name::from_str("CN=server").unwrap(),
            spki(&key),
            &self.key,
        )
        .unwrap();
        let name = GeneralName::DnsName(Ia5String::new(name).unwrap());
        builder.add_extension(&SubjectAltName(vec![name])).unwrap();
        builder.build::<DerSignature>().unwrap().to_der().unwrap().into()
    }
}

fn spki(key: &SigningKey) -> SubjectPublicKeyInfoOwned {
    SubjectPublicKeyInfoOwned::from_key(*key.verifying_key()).unwrap()
}

fn validity(begin: Duration, length: Duration) -> Validity {
    let time = |at| Time::GeneralTime(GeneralizedTime::from_system_time(UNIX_EPOCH + at).unwrap());
    Validity { not_before: time(begin), not_after: time(begin + length) }
}

/// A profile for 10.8.0.5/24.
pub(crate) fn profile(edges: Vec<EdgeProfile>) -> ClientProfile {
    ClientProfile {
        addresses: vec!["10.8.0.5/24".parse().unwrap()],
        edges,
        dns: Vec::new(),
        mtu: 1420,
        keepalive_s: 25,
        pushed: false,
    }
}

/// An edge called "edge `number`".
pub(crate) fn edge(number: u8, routes: &[&str], endpoints: &[&str]) -> EdgeProfile {
    EdgeProfile {
        edge: Uuid::from_u128(u128::from(number)),
        name: format!("edge {number}"),
        public_key: Secret::new([number; 32]).x25519_public().unwrap(),
        preshared_key: Secret::new([9; 32]),
        endpoints: endpoints.iter().map(ToString::to_string).collect(),
        routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
    }
}
