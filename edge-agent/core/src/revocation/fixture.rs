//! Certificates and lists for the tests, made by `x509-cert`, not by the code under test.

use const_oid::ObjectIdentifier;
use der::asn1::{BitString, GeneralizedTime, OctetString, UtcTime};
use der::{Decode as _, Encode as _};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::EncodePublicKey as _;
use std::str::FromStr as _;
use std::time::Duration;
use verona_contract::key::KeyId;
use x509_cert::builder::{Builder as _, CertificateBuilder, Profile};
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

/// A P-256 CA.
pub(crate) struct Ca {
    name: Name,
    key: SigningKey,
}

impl Ca {
    /// The same seed gives the same key.
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let name = Name::from_str(&format!("CN={name}")).unwrap();
        Self { name, key: SigningKey::from_slice(&[seed; 32]).unwrap() }
    }

    fn spki(&self) -> SubjectPublicKeyInfoOwned {
        let der = self.key.verifying_key().to_public_key_der().unwrap();
        SubjectPublicKeyInfoOwned::from_der(der.as_bytes()).unwrap()
    }

    /// As the builder computes it: SHA-1 over `subjectPublicKey`.
    pub(crate) fn key_id(&self) -> KeyId {
        verona_contract::cert::Issuer::parse(&self.certificate()).unwrap().key_id
    }

    /// Self-signed, DER.
    pub(crate) fn certificate(&self) -> Vec<u8> {
        let date = |s| Time::UtcTime(UtcTime::from_unix_duration(Duration::from_secs(s)).unwrap());
        let validity = Validity { not_before: date(1_700_000_000), not_after: date(2_000_000_000) };
        CertificateBuilder::new(
            Profile::Root,
            SerialNumber::from(1_u32),
            validity,
            self.name.clone(),
            self.spki(),
            &self.key,
        )
        .unwrap()
        .build::<DerSignature>()
        .unwrap()
        .to_der()
        .unwrap()
    }

    /// A list, DER. `salt` changes the content and nothing else.
    pub(crate) fn list(&self, number: u64, revoked: &[u8], salt: u32) -> Vec<u8> {
        let key_id = OctetString::new(self.key_id().as_bytes()).unwrap();
        let aki = AuthorityKeyIdentifier { key_identifier: Some(key_id), ..Default::default() };
        let number = CrlNumber(der::asn1::Uint::new(&number.to_be_bytes()).unwrap());
        let extension = |oid, value: Vec<u8>| Extension {
            extn_id: oid,
            critical: false,
            extn_value: OctetString::new(value).unwrap(),
        };
        let time =
            |s| Time::GeneralTime(GeneralizedTime::from_unix_duration(Duration::from_secs(s)).unwrap());
        let algorithm = AlgorithmIdentifierOwned {
            oid: ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"),
            parameters: None,
        };
        let entries = revoked.iter().map(|serial| RevokedCert {
            serial_number: SerialNumber::new(&[*serial]).unwrap(),
            revocation_date: time(1_700_000_000),
            crl_entry_extensions: None,
        });
        let tbs = TbsCertList {
            version: x509_cert::Version::V2,
            signature: algorithm.clone(),
            issuer: self.name.clone(),
            this_update: time(1_700_000_000 + u64::from(salt)),
            next_update: Some(time(1_700_086_400)),
            revoked_certificates: Some(entries.collect()),
            crl_extensions: Some(vec![
                extension(const_oid::db::rfc5912::ID_CE_AUTHORITY_KEY_IDENTIFIER, aki.to_der().unwrap()),
                extension(const_oid::db::rfc5912::ID_CE_CRL_NUMBER, number.to_der().unwrap()),
            ]),
        };
        let signature: DerSignature = self.key.sign(&tbs.to_der().unwrap());
        let signature = BitString::from_bytes(&signature.to_bytes()).unwrap();
        CertificateList { tbs_cert_list: tbs, signature_algorithm: algorithm, signature }.to_der().unwrap()
    }
}
