//! Octets as standard base64 in JSON (RFC 4648 §4, padded), for keys, certificates and signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Encodes `octets` with padding.
#[must_use]
pub fn encode(octets: impl AsRef<[u8]>) -> String {
    STANDARD.encode(octets)
}

/// Decodes padded base64 without line breaks.
///
/// # Errors
///
/// Names the first octet that is not base64.
pub fn decode(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    STANDARD.decode(text)
}

/// Public octets that JSON carries as base64: a certificate, a list, a signature. Not for secrets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Octets(pub Vec<u8>);

impl std::fmt::Debug for Octets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Octets({} octets)", self.0.len())
    }
}

impl From<Vec<u8>> for Octets {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets)
    }
}

impl AsRef<[u8]> for Octets {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Decode)
    }
}

/// Decodes the text where it lies: a revocation list has tens of megabytes of it.
struct Decode;

impl Visitor<'_> for Decode {
    type Value = Octets;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("octets in base64")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Octets, E> {
        decode(text).map(Octets).map_err(|error| E::custom(format!("not base64: {error}")))
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Octets {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        crate::key::base64_schema("Octets in base64 (RFC 4648 section 4)")
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Octets {}
