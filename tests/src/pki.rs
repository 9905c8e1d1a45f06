//! A certificate authority of the tests. It signs what it is told, also what no honest CA would.
//!
//! Keys and serial numbers come from small numbers, and ECDSA signatures are deterministic (RFC 6979), so
//! the same call gives the same octets in every run.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::ID_KP_CLIENT_AUTH;
use der::asn1::{BitString, GeneralizedTime, Ia5String, OctetString, UtcTime};
use der::{DateTime, Decode, Encode};
use p256::ecdsa::{Signature, SigningKey, signature::Signer};
use p256::pkcs8::EncodePublicKey;
use spki::{AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, SubjectPublicKeyInfoOwned};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use verona_contract::key::KeyId;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlNumber, ExtendedKeyUsage, KeyUsage, KeyUsages,
    SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{AsExtension, Extension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};
use x509_cert::{Certificate, TbsCertificate, Version};

/// X25519 in a `SubjectPublicKeyInfo` (RFC 8410 §3).
const ID_X25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.110");

/// From when on the test CAs' certificates are valid: 2020.
const FOUNDED: Duration = Duration::from_secs(1_577_836_800);

/// A CA with a P-256 key.
#[derive(Debug)]
pub struct Authority {
    key: SigningKey,
    name: Name,
    key_id: Vec<u8>,
    certificate: Vec<u8>,
}

/// What a leaf shall say.
#[derive(Clone, Debug)]
pub struct LeafPlan {
    /// The X25519 public key, not checked: that is for those under test.
    pub key: [u8; 32],
    /// SAN URI; empty = none.
    pub subject: String,
    /// SAN iPAddress entries.
    pub addresses: Vec<IpAddr>,
    /// Serial number.
    pub serial: u64,
    /// Begin of validity.
    pub not_before: SystemTime,
    /// End of validity.
    pub not_after: SystemTime,
    /// keyUsage.
    pub key_usage: KeyUsages,
    /// extendedKeyUsage; none = the extension is left out.
    pub extended_key_usage: Option<ObjectIdentifier>,
    /// Say keyUsage twice.
    pub repeats_key_usage: bool,
}

impl LeafPlan {
    /// The same for an edge, `number` in its name.
    #[must_use]
    pub fn edge(key: [u8; 32], number: u64, address: IpAddr, now: SystemTime) -> Self {
        let subject = format!("urn:verona:edge:00000000-0000-4000-8000-{number:012x}");
        Self { subject, ..Self::new(key, number, address, now) }
    }

    /// A leaf as the profile wants it, valid for ten hours around `now`.
    #[must_use]
    pub fn new(key: [u8; 32], serial: u64, address: IpAddr, now: SystemTime) -> Self {
        Self {
            key,
            subject: format!("urn:verona:client:00000000-0000-4000-8000-{serial:012x}"),
            addresses: vec![address],
            serial,
            not_before: now - Duration::from_secs(5 * 3600),
            not_after: now + Duration::from_secs(5 * 3600),
            key_usage: KeyUsages::KeyAgreement,
            extended_key_usage: Some(ID_KP_CLIENT_AUTH),
            repeats_key_usage: false,
        }
    }
}

impl Authority {
    /// A CA whose key is made from `seed` (not 0), valid from 2020 to 2050, with one CA below it at most.
    #[must_use]
    pub fn new(seed: u8, common_name: &str) -> Self {
        Self::with_path_len(seed, common_name, 1)
    }

    /// The same with so many CAs below it at most.
    #[must_use]
    pub fn with_path_len(seed: u8, common_name: &str, path_len: u8) -> Self {
        Self::build(seed, common_name, path_len, None)
    }

    /// A CA that gives its key the identifier of another one's.
    #[must_use]
    pub fn with_key_id(seed: u8, common_name: &str, key_id: &KeyId) -> Self {
        Self::build(seed, common_name, 1, Some(key_id.as_bytes()))
    }

    fn build(seed: u8, common_name: &str, path_len: u8, key_id: Option<&[u8]>) -> Self {
        let key = SigningKey::from_slice(&[seed; 32]).unwrap();
        let name = Name::from_str(&format!("CN={common_name}")).unwrap();
        let spki_der = key.verifying_key().to_public_key_der().unwrap();
        let spki = SubjectPublicKeyInfoOwned::from_der(spki_der.as_bytes()).unwrap();
        let own = KeyId::of_public_key(spki.subject_public_key.raw_bytes());
        let key_id = key_id.unwrap_or(own.as_bytes()).to_vec();
        let mut authority = Self { key, name: name.clone(), key_id, certificate: Vec::new() };
        let extensions = vec![
            authority.extension(&BasicConstraints { ca: true, path_len_constraint: Some(path_len) }),
            authority.extension(&KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign)),
            authority.extension(&SubjectKeyIdentifier(OctetString::new(&*authority.key_id).unwrap())),
        ];
        let validity = Validity { not_before: utc(UNIX_EPOCH + FOUNDED), not_after: year_2050() };
        authority.certificate = authority.sign(u64::from(seed), validity, name, spki, extensions);
        authority
    }

    /// The same CA, but from now on it calls its key by another identifier. Its certificate stays.
    #[must_use]
    pub fn calling_its_key(self, key_id: &[u8]) -> Self {
        Self { key_id: key_id.to_vec(), ..self }
    }

    /// Its certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Its key identifier.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId::new(&self.key_id).unwrap()
    }

    /// Signs another CA's key, as an intermediate above leaves, DER.
    #[must_use]
    pub fn certify(&self, other: &Self, serial: u64) -> Vec<u8> {
        self.certify_above(other, serial, 0)
    }

    /// The same, above so many further CAs.
    #[must_use]
    pub fn certify_above(&self, other: &Self, serial: u64, path_len: u8) -> Vec<u8> {
        self.certify_until(other, serial, path_len, year_2050())
    }

    /// As [`Self::certify`], for a CA that ends at `end`.
    #[must_use]
    pub fn certify_for_a_while(&self, other: &Self, serial: u64, end: SystemTime) -> Vec<u8> {
        self.certify_until(other, serial, 0, utc(end))
    }

    fn certify_until(&self, other: &Self, serial: u64, path_len: u8, not_after: Time) -> Vec<u8> {
        let spki_der = other.key.verifying_key().to_public_key_der().unwrap();
        let spki = SubjectPublicKeyInfoOwned::from_der(spki_der.as_bytes()).unwrap();
        let extensions = vec![
            self.extension(&BasicConstraints { ca: true, path_len_constraint: Some(path_len) }),
            self.extension(&KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign)),
            self.extension(&SubjectKeyIdentifier(OctetString::new(&*other.key_id).unwrap())),
            self.extension(&self.authority_key_identifier()),
        ];
        let validity = Validity { not_before: utc(UNIX_EPOCH + FOUNDED), not_after };
        self.sign(serial, validity, other.name.clone(), spki, extensions)
    }

    /// Signs a leaf, DER.
    #[must_use]
    pub fn leaf(&self, plan: &LeafPlan) -> Vec<u8> {
        let spki = SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned { oid: ID_X25519, parameters: None },
            subject_public_key: BitString::from_bytes(&plan.key).unwrap(),
        };
        self.leaf_over(spki, plan)
    }

    /// Signs a leaf over another key than the plan's, DER.
    pub(crate) fn leaf_over(&self, spki: SubjectPublicKeyInfoOwned, plan: &LeafPlan) -> Vec<u8> {
        let uri = (!plan.subject.is_empty())
            .then(|| GeneralName::UniformResourceIdentifier(Ia5String::new(&plan.subject).unwrap()));
        let address = |address: &IpAddr| {
            let octets = match address {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            GeneralName::IpAddress(OctetString::new(octets).unwrap())
        };
        let names: Vec<_> = uri.into_iter().chain(plan.addresses.iter().map(address)).collect();
        let mut extensions = vec![
            self.extension(&KeyUsage(plan.key_usage.into())),
            self.extension(&self.authority_key_identifier()),
        ];
        extensions.extend((!names.is_empty()).then(|| self.extension(&SubjectAltName(names))));
        extensions
            .extend(plan.extended_key_usage.map(|purpose| self.extension(&ExtendedKeyUsage(vec![purpose]))));
        if plan.repeats_key_usage {
            extensions.push(self.extension(&KeyUsage(plan.key_usage.into())));
        }
        let validity = Validity { not_before: utc(plan.not_before), not_after: utc(plan.not_after) };
        let subject = Name::from_str(&format!("CN=client-{}", plan.serial)).unwrap();
        self.sign(plan.serial, validity, subject, spki, extensions)
    }

    /// Signs a full list of `revoked` serial numbers that is valid for a day from `this_update`, DER.
    #[must_use]
    pub fn crl(&self, number: u64, revoked: &[u64], this_update: SystemTime) -> Vec<u8> {
        let number = CrlNumber(der::asn1::Uint::new(&number.to_be_bytes()).unwrap());
        let extensions = vec![self.extension(&self.authority_key_identifier()), self.extension(&number)];
        let entry = |serial: &u64| RevokedCert {
            serial_number: SerialNumber::from(*serial),
            revocation_date: utc(this_update),
            crl_entry_extensions: None,
        };
        let tbs_cert_list = TbsCertList {
            version: Version::V2,
            signature: self.algorithm(),
            issuer: self.name.clone(),
            this_update: utc(this_update),
            next_update: Some(utc(this_update + Duration::from_secs(86_400))),
            revoked_certificates: Some(revoked.iter().map(entry).collect::<Vec<_>>())
                .filter(|l| !l.is_empty()),
            crl_extensions: Some(extensions),
        };
        let signature = self.signature(&tbs_cert_list.to_der().unwrap());
        CertificateList { tbs_cert_list, signature_algorithm: self.algorithm(), signature }.to_der().unwrap()
    }

    fn sign(
        &self,
        serial: u64,
        validity: Validity,
        subject: Name,
        subject_public_key_info: SubjectPublicKeyInfoOwned,
        extensions: Vec<Extension>,
    ) -> Vec<u8> {
        let tbs_certificate = TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::from(serial),
            signature: self.algorithm(),
            issuer: self.name.clone(),
            validity,
            subject,
            subject_public_key_info,
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(extensions),
        };
        let signature = self.signature(&tbs_certificate.to_der().unwrap());
        Certificate { tbs_certificate, signature_algorithm: self.algorithm(), signature }.to_der().unwrap()
    }

    fn signature(&self, message: &[u8]) -> BitString {
        let signature: Signature = self.key.sign(message);
        BitString::from_bytes(signature.to_der().as_bytes()).unwrap()
    }

    fn authority_key_identifier(&self) -> AuthorityKeyIdentifier {
        AuthorityKeyIdentifier {
            key_identifier: Some(OctetString::new(&*self.key_id).unwrap()),
            authority_cert_issuer: None,
            authority_cert_serial_number: None,
        }
    }

    fn algorithm(&self) -> AlgorithmIdentifierOwned {
        self.key.signature_algorithm_identifier().unwrap()
    }

    fn extension(&self, value: &impl AsExtension) -> Extension {
        value.to_extension(&self.name, &[]).unwrap()
    }
}

fn utc(time: SystemTime) -> Time {
    let whole = Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap().as_secs());
    Time::UtcTime(UtcTime::from_unix_duration(whole).unwrap())
}

/// RFC 5280 §4.1.2.5: from 2050 on it is GeneralizedTime.
fn year_2050() -> Time {
    Time::GeneralTime(GeneralizedTime::from_date_time(DateTime::new(2050, 1, 1, 0, 0, 0).unwrap()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use verona_contract::cert::{Issuer, Leaf};
    use verona_contract::crl::VerifiedCrl;
    use verona_contract::key::Secret;

    #[test]
    fn the_product_reads_what_the_authority_signs() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let authority = Authority::new(7, "tests");
        let key = Secret::new([9; 32]).x25519_public().unwrap();
        let plan = LeafPlan::new(*key.as_bytes(), 77, "10.9.0.2".parse().unwrap(), now);
        let leaf = Leaf::parse(&authority.leaf(&plan)).unwrap();
        assert_eq!((leaf.key, &leaf.subject, &leaf.addresses), (key, &plan.subject, &plan.addresses));
        let issuer = Issuer::parse(authority.certificate()).unwrap();
        assert_eq!(issuer.key_id, authority.key_id());
        let list = VerifiedCrl::verify(&authority.crl(3, &[77], now), [&issuer]).unwrap();
        assert_eq!(list.number(), 3);
        assert!(list.revoked().iter().eq(&[leaf.serial]));
    }
}
