//! Keys and their names: X25519 keys of the tunnel, key identifiers of issuers, serial numbers.
//!
//! A [`PublicKey`] is refused at parsing when it is not canonical or of low order: with an all-zero key
//! in a well-signed certificate, a peer that knows no private key at all completes the handshake.

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

/// An issuer's key identifier (RFC 5280 §4.2.1.2): what a certificate's and a list's AKI point to, and the
/// name of a list on the wire. 1 to 32 octets; text form: lower-case hex.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Vec<u8>);

impl KeyId {
    /// Wraps a key identifier read from a certificate.
    ///
    /// # Errors
    ///
    /// [`HexError`] when it is empty or over 32 octets.
    pub fn new(octets: &[u8]) -> Result<Self, HexError> {
        if octets.is_empty() || octets.len() > 32 { Err(HexError) } else { Ok(Self(octets.to_vec())) }
    }

    /// The identifier that our CAs give a key: the leftmost 160 bits of SHA-256 over `subjectPublicKey`
    /// (RFC 7093 §2, method 1).
    #[must_use]
    pub fn of_public_key(subject_public_key: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, subject_public_key);
        Self(digest.as_ref()[..20].to_vec())
    }

    /// The raw octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A certificate's serial number (RFC 5280 §4.1.2.2): a positive integer of at most 20 octets, without
/// leading zeros. Text form: lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial {
    // Right-aligned, so that the order of the arrays is the order of the numbers.
    octets: [u8; 20],
}

impl Serial {
    /// Reads the content octets of the DER INTEGER.
    ///
    /// # Errors
    ///
    /// [`HexError`] when it is empty, zero, negative or over 20 octets.
    pub fn new(integer: &[u8]) -> Result<Self, HexError> {
        if integer.first().is_none_or(|first| first & 0x80 != 0) {
            return Err(HexError);
        }
        Self::from_magnitude(integer)
    }

    /// Reads an unsigned big-endian number.
    ///
    /// # Errors
    ///
    /// [`HexError`] when it is zero or over 20 octets.
    pub fn from_magnitude(number: &[u8]) -> Result<Self, HexError> {
        let start = number.iter().position(|&octet| octet != 0).ok_or(HexError)?;
        let number = &number[start..];
        if number.len() > 20 {
            return Err(HexError);
        }
        let mut octets = [0; 20];
        octets[20 - number.len()..].copy_from_slice(number);
        Ok(Self { octets })
    }

    /// The number, big-endian, without leading zeros.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let start = self.octets.iter().position(|&octet| octet != 0).unwrap_or(19);
        &self.octets[start..]
    }

    /// The number right-aligned in 20 octets.
    #[must_use]
    pub const fn as_array(&self) -> &[u8; 20] {
        &self.octets
    }
}

/// Text or octets that are not a key identifier or a serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected hex digits of a positive number (serial: at most 20 octets, key identifier: at most 32)")]
pub struct HexError;

/// Reads an even number of hex digits.
///
/// # Errors
///
/// [`HexError`] at the first character that is none.
pub fn from_hex(text: &str) -> Result<Vec<u8>, HexError> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(HexError);
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| {
            let digit = |octet: u8| (octet as char).to_digit(16).ok_or(HexError);
            // Two hex digits are at most 255.
            Ok((digit(pair[0])? << 4 | digit(pair[1])?) as u8)
        })
        .collect()
}

/// Lower-case hex.
#[must_use]
pub fn to_hex(octets: &[u8]) -> String {
    use fmt::Write as _;
    octets.iter().fold(String::with_capacity(octets.len() * 2), |mut text, octet| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{octet:02x}");
        text
    })
}

macro_rules! hex_text {
    ($type:ident, $from:expr) => {
        impl FromStr for $type {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                $from(&from_hex(text)?)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(self.as_bytes()))
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
hex_text!(KeyId, KeyId::new);
hex_text!(Serial, Serial::from_magnitude);

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
                text_schema($schema)
            }
        }
        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $type {}
    };
}
serde_text!(PublicKey, "X25519 public key, base64");
serde_text!(KeyId, "Key identifier, lower-case hex");
serde_text!(Serial, "Serial number, lower-case hex");

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
fn text_schema(description: &str) -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
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
    fn serial_order_and_text() {
        let small: Serial = "07".parse().unwrap();
        let large: Serial = "0100".parse().unwrap();
        assert!(small < large);
        assert_eq!(large.to_string(), "0100");
        assert_eq!(Serial::new(&[0x00, 0x80]).unwrap().to_string(), "80");
        assert!(Serial::new(&[0x80]).is_err(), "negative");
        assert!(Serial::new(&[0x00]).is_err(), "zero");
        assert!(Serial::from_magnitude(&[1; 21]).is_err());
        assert!("0g".parse::<Serial>().is_err());
    }

    #[test]
    fn secret_debug_tells_nothing() {
        assert_eq!(format!("{:?}", Secret::new([0x41; 32])), "Secret(…)");
    }
}
