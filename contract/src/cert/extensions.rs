//! What the extensions of a certificate say, read once and strictly.
//!
//! An extension that occurs twice, does not parse, or is critical and unknown is an error. Which of them a
//! certificate must have is for the profiles beside this file.

use super::{CLIENT_URN, CertError, EDGE_URN, MAX_ADDRESSES, MAX_CERTIFICATE};
use crate::key::KeyId;
use std::net::IpAddr;
use x509_parser::prelude::{
    ExtendedKeyUsage, FromDer as _, GeneralName, KeyUsage, ParsedExtension, X509Certificate, X509Version,
};

/// One certificate, version 3 (others have no extensions), and nothing after it.
pub(super) fn parse_one(der: &[u8]) -> Result<X509Certificate<'_>, CertError> {
    if der.len() > MAX_CERTIFICATE {
        return Err(CertError::Der);
    }
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertError::Der)?;
    if rest.is_empty() && certificate.version() == X509Version::V3 {
        Ok(certificate)
    } else {
        Err(CertError::Der)
    }
}

#[derive(Default)]
pub(super) struct Extensions {
    pub(super) ca: bool,
    /// Only of a CA: how many CAs may stand between it and a leaf.
    pub(super) path_len: Option<u32>,
    pub(super) key_usage: Option<u16>,
    pub(super) client_auth: bool,
    pub(super) subject: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) authority_key_id: Option<KeyId>,
    pub(super) subject_key_id: Option<KeyId>,
}

impl Extensions {
    pub(super) fn read(certificate: &X509Certificate<'_>) -> Result<Self, CertError> {
        let mut found = Self::default();
        // Duplicates make the map fail; which one is meant would be a guess.
        certificate.tbs_certificate.extensions_map().map_err(|_| CertError::Extension("(list)".into()))?;
        for extension in certificate.extensions() {
            let oid = || extension.oid.to_id_string();
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) => {
                    found.ca = constraints.ca;
                    found.path_len = constraints.path_len_constraint;
                    // RFC 5280 §4.2.1.9: pathLenConstraint has no meaning without cA.
                    if found.path_len.is_some() && !found.ca {
                        return Err(CertError::BasicConstraints);
                    }
                }
                ParsedExtension::KeyUsage(KeyUsage { flags }) => found.key_usage = Some(*flags),
                ParsedExtension::ExtendedKeyUsage(ExtendedKeyUsage { client_auth, .. }) => {
                    found.client_auth = *client_auth;
                }
                ParsedExtension::SubjectAlternativeName(names) => found.read_names(&names.general_names)?,
                ParsedExtension::AuthorityKeyIdentifier(identifier) => {
                    let id = identifier.key_identifier.as_ref().ok_or(CertError::KeyIdentifier)?;
                    found.authority_key_id = Some(KeyId::new(id.0).map_err(|_| CertError::KeyIdentifier)?);
                }
                ParsedExtension::SubjectKeyIdentifier(id) => {
                    found.subject_key_id = Some(KeyId::new(id.0).map_err(|_| CertError::KeyIdentifier)?);
                }
                ParsedExtension::ParseError { .. } => return Err(CertError::Extension(oid())),
                // The path builder keeps to them; every other extension that may be critical has no reader here.
                ParsedExtension::NameConstraints(_) => {}
                _ if extension.critical => return Err(CertError::CriticalExtension(oid())),
                _ => {}
            }
        }
        Ok(found)
    }

    fn read_names(&mut self, names: &[GeneralName<'_>]) -> Result<(), CertError> {
        for name in names {
            match name {
                GeneralName::URI(uri) if is_subject(uri) && self.subject.is_none() => {
                    self.subject = Some((*uri).to_owned());
                }
                GeneralName::URI(uri) if is_subject(uri) => return Err(CertError::Subject),
                GeneralName::IPAddress(octets) => {
                    let address = host_address(octets).ok_or(CertError::Addresses)?;
                    if self.addresses.len() == MAX_ADDRESSES {
                        return Err(CertError::Addresses);
                    }
                    if !self.addresses.contains(&address) {
                        self.addresses.push(address);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

pub(crate) fn is_subject(uri: &str) -> bool {
    let uuid = uri.strip_prefix(CLIENT_URN).or_else(|| uri.strip_prefix(EDGE_URN));
    // One spelling only: two spellings of one name would be two subjects.
    uuid.is_some_and(|text| uuid::Uuid::try_parse(text).is_ok_and(|uuid| uuid.to_string() == text))
}

fn host_address(octets: &[u8]) -> Option<IpAddr> {
    let address = match octets.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
        _ => return None,
    };
    is_tunnel_address(address).then_some(address)
}

/// Whether a peer may have `address` in the tunnel: a unicast address of one host, in its one spelling.
pub(crate) fn is_tunnel_address(address: IpAddr) -> bool {
    let v4_mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let unusable = address.is_unspecified() || address.is_multicast() || address.is_loopback() || v4_mapped;
    !unusable && address != IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
}
