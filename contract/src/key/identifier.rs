//! Names of keys and certificates: key identifiers of issuers, serial numbers, and their hex text.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

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
    /// Room for one; no certificate has it.
    pub(crate) const ZERO: Self = Self { octets: [0; 20] };

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

/// SHA-256 of a public key's `SubjectPublicKeyInfo` or of a certificate. Text form: lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of `der`.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut octets = [0; 32];
        octets.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref());
        Self(octets)
    }

    /// Wraps 32 octets.
    ///
    /// # Errors
    ///
    /// [`HexError`] when they are not 32.
    pub fn new(octets: &[u8]) -> Result<Self, HexError> {
        octets.try_into().map(Self).map_err(|_| HexError)
    }

    /// The octets.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Text or octets that are not a key identifier, a serial number or a fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected hex digits of a positive number (serial: at most 20 octets, key identifier: at most 32, fingerprint: 32)"
)]
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
hex_text!(Fingerprint, Fingerprint::new);

serde_text!(KeyId, "Key identifier, lower-case hex");
serde_text!(Serial, "Serial number, lower-case hex");
serde_text!(Fingerprint, "SHA-256, lower-case hex");

#[cfg(test)]
mod tests {
    use super::*;

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
}
