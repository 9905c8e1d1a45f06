//! The one-time enrolment code that an admin hands to a user: where the center is, how to know it, and a
//! secret that serves once.
//!
//! Text form: `VC1-` and base64url of `pin (32) ‖ secret (16) ‖ center URL`. One line that survives mail, chat
//! and a QR code.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize as _, Zeroizing};

const PREFIX: &str = "VC1-";
const MAX_URL: usize = 255;

/// A parsed enrolment code.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolmentCode {
    /// SHA-256 over the `SubjectPublicKeyInfo` of the center's CA.
    pub pin: [u8; 32],
    /// Presented once; the center stores its hash only.
    pub secret: Zeroizing<[u8; 16]>,
    /// `https://host[:port]`, without a path.
    pub center: String,
}

/// Text that is not an enrolment code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an enrolment code begins with {PREFIX} and is copied whole: characters are missing or altered")]
pub struct EnrolmentCodeError;

impl FromStr for EnrolmentCode {
    type Err = EnrolmentCodeError;

    fn from_str(text: &str) -> Result<Self, EnrolmentCodeError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(EnrolmentCodeError)?;
        let octets = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| EnrolmentCodeError)?);
        let (pin, rest) = octets.split_first_chunk::<32>().ok_or(EnrolmentCodeError)?;
        let (secret, url) = rest.split_first_chunk::<16>().ok_or(EnrolmentCodeError)?;
        let center = std::str::from_utf8(url).map_err(|_| EnrolmentCodeError)?;
        if !center.starts_with("https://") || center.len() > MAX_URL || !center.is_ascii() {
            return Err(EnrolmentCodeError);
        }
        Ok(Self { pin: *pin, secret: Zeroizing::new(*secret), center: center.to_owned() })
    }
}

impl EnrolmentCode {
    /// The code as text. It is a secret until it was used.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut octets = [&self.pin[..], &self.secret[..], self.center.as_bytes()].concat();
        let text = Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&octets)));
        octets.zeroize();
        text
    }
}

impl fmt::Debug for EnrolmentCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnrolmentCode({}, …)", self.center)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_damage() {
        let code = EnrolmentCode {
            pin: [1; 32],
            secret: Zeroizing::new([2; 16]),
            center: "https://center.example:8443".into(),
        };
        let text = code.to_text();
        assert_eq!(text.parse::<EnrolmentCode>().unwrap(), code);
        assert_eq!(format!(" {}\n", *text).parse::<EnrolmentCode>().unwrap(), code);
        for bad in ["", "VC1-", "VC2-AAAA", &text[..40], "VC1-????"] {
            assert_eq!(bad.parse::<EnrolmentCode>(), Err(EnrolmentCodeError), "{bad}");
        }
        assert!(!format!("{code:?}").contains(&text[4..20]));
    }
}
