//! Keys and their names: X25519 keys of the tunnel, key identifiers of issuers, serial numbers.
//!
//! A [`PublicKey`] is refused at parsing when it is not canonical or of low order: with an all-zero key
//! in a well-signed certificate, a peer that knows no private key at all completes the handshake.

/// JSON as text, and the schema that says so.
macro_rules! serde_text {
    ($type:ident, $schema:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                crate::key::text_schema($schema)
            }
        }
        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $type {}
    };
}

mod identifier;

pub use identifier::{Fingerprint, HexError, KeyId, Serial, from_hex, to_hex};

use crate::base64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// An X25519 public key (RFC 7748): canonical and not of low order. Text form: base64, as WireGuard's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

/// Why 32 octets are not a usable X25519 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Neither 32 octets nor 44 characters of base64.
    #[error("a key is 32 octets in base64 (44 characters)")]
    Length,
    /// u ≥ 2^255 − 19: two encodings of one key would be two identities.
    #[error("X25519 key is not canonical")]
    NotCanonical,
    /// The shared secret of every peer would be the same constant (RFC 7748 §6.1).
    #[error("X25519 key is of low order")]
    LowOrder,
}

/// 2^255 − 19, little-endian.
const FIELD_PRIME: [u8; 32] = {
    let mut p = [0xff; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    p
};

/// The canonical u-coordinates of order 1, 2, 4 and 8.
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    {
        let mut p_minus_one = FIELD_PRIME;
        p_minus_one[0] = 0xec;
        p_minus_one
    },
];

impl PublicKey {
    /// Checks that `octets` are canonical and not of low order.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotCanonical`] or [`KeyError::LowOrder`].
    pub fn new(octets: [u8; 32]) -> Result<Self, KeyError> {
        // Little-endian, so the most significant octet is compared first.
        if !octets.iter().rev().lt(FIELD_PRIME.iter().rev()) {
            return Err(KeyError::NotCanonical);
        }
        if LOW_ORDER.contains(&octets) {
            return Err(KeyError::LowOrder);
        }
        Ok(Self(octets))
    }

    /// The 32 octets of the u-coordinate.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for PublicKey {
    type Error = KeyError;

    fn try_from(octets: &[u8]) -> Result<Self, KeyError> {
        Self::new(octets.try_into().map_err(|_| KeyError::Length)?)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::try_from(base64::decode(text).map_err(|_| KeyError::Length)?.as_slice())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 32 secret octets: an X25519 private key, a preshared key, a PSK root. Wiped when dropped; its `Debug`
/// tells nothing. JSON carries it as base64, so a value that holds one is itself a secret.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes over the octets; the caller wipes its own copy.
    #[must_use]
    pub const fn new(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The octets, for the primitive that needs them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Secret {
    /// The X25519 public key that belongs to this private key.
    ///
    /// # Errors
    ///
    /// [`KeyError`] only for the handful of private keys whose public key is of low order; a random one is not.
    pub fn x25519_public(&self) -> Result<PublicKey, KeyError> {
        let private =
            aws_lc_rs::agreement::PrivateKey::from_private_key(&aws_lc_rs::agreement::X25519, &self.0);
        let public = private.and_then(|private| private.compute_public_key().map_err(Into::into));
        PublicKey::try_from(public.map_err(|_| KeyError::Length)?.as_ref())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl FromStr for Secret {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut octets = base64::decode(text).map_err(|_| KeyError::Length)?;
        let secret = <[u8; 32]>::try_from(octets.as_slice()).map(Self).map_err(|_| KeyError::Length);
        octets.zeroize();
        secret
    }
}

serde_text!(PublicKey, "X25519 public key, base64");

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = base64::encode(self.0);
        let result = serializer.serialize_str(&text);
        text.zeroize();
        result
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Secret {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        base64_schema("32 secret octets, base64")
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Secret {}

#[cfg(feature = "openapi")]
pub(crate) fn text_schema(description: &str) -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .description(Some(description))
        .into()
}

#[cfg(feature = "openapi")]
pub(crate) fn base64_schema(description: &str) -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .format(Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::Byte)))
        .description(Some(description))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_key_table() {
        let mut non_canonical_nine = FIELD_PRIME;
        non_canonical_nine[0] = 0xf6; // p + 9, the base point in its second encoding
        let mut high_bit = [0; 32];
        high_bit[0] = 9;
        high_bit[31] = 0x80;
        let mut base_point = [0; 32];
        base_point[0] = 9;
        assert!(PublicKey::new(base_point).is_ok());
        assert_eq!(PublicKey::new(non_canonical_nine), Err(KeyError::NotCanonical));
        assert_eq!(PublicKey::new(high_bit), Err(KeyError::NotCanonical));
        assert_eq!(PublicKey::new(FIELD_PRIME), Err(KeyError::NotCanonical));
        for low in LOW_ORDER {
            assert_eq!(PublicKey::new(low), Err(KeyError::LowOrder));
        }
        assert_eq!("AAAA".parse::<PublicKey>(), Err(KeyError::Length));
    }

    #[test]
    fn low_order_points_give_a_zero_shared_secret() {
        // The constants are only worth something if the primitive agrees.
        for low in LOW_ORDER {
            let private = aws_lc_rs::agreement::PrivateKey::from_private_key(
                &aws_lc_rs::agreement::X25519,
                &[0x40; 32],
            )
            .unwrap();
            let peer = aws_lc_rs::agreement::UnparsedPublicKey::new(&aws_lc_rs::agreement::X25519, low);
            let agreed =
                aws_lc_rs::agreement::agree(&private, peer, aws_lc_rs::error::Unspecified, |secret| {
                    Ok(secret.to_vec())
                });
            assert!(agreed.is_err(), "aws-lc accepts {low:02x?}");
        }
    }

    #[test]
    fn secret_debug_tells_nothing() {
        assert_eq!(format!("{:?}", Secret::new([0x41; 32])), "Secret(…)");
    }
}
