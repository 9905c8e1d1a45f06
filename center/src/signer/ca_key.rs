//! A CA's P-256 key and what every certificate and list of ours has in common: names, times, serials.

use crate::entropy::{self, EntropyError};
use der::DateTime;
use der::asn1::{BitString, GeneralizedTime, UtcTime};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use std::str::FromStr as _;
use std::time::Duration;
use verona_contract::key::KeyId;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::Time;
use zeroize::Zeroizing;

/// Something could not be built or encoded. None of it depends on what a peer sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// DER refused a value.
    #[error("cannot encode {0}")]
    Encode(&'static str, #[source] der::Error),
    /// A time outside of what X.509 can say.
    #[error("time {0} is outside of what X.509 can say")]
    Time(i64),
    /// The key file does not hold a key.
    #[error("not a P-256 private key in PKCS#8 PEM")]
    Key,
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// A CA's private key. Wiped when dropped; there is no `Debug`.
pub(crate) struct CaKey(SigningKey);

impl CaKey {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// [`BuildError::Entropy`].
    pub(crate) fn generate() -> Result<Self, BuildError> {
        loop {
            let seed = Zeroizing::new(entropy::octets::<32>()?);
            // Zero and values above the group order are drawn once in 2^32.
            if let Ok(key) = SigningKey::from_slice(seed.as_slice()) {
                return Ok(Self(key));
            }
        }
    }

    /// Reads PKCS#8 PEM.
    ///
    /// # Errors
    ///
    /// [`BuildError::Key`].
    pub(crate) fn from_pem(pem: &str) -> Result<Self, BuildError> {
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| BuildError::Key)
    }

    /// PKCS#8 PEM, for a file of mode 0600.
    ///
    /// # Errors
    ///
    /// [`BuildError::Key`] when it cannot be encoded.
    pub(crate) fn to_pem(&self) -> Result<Zeroizing<String>, BuildError> {
        self.0.to_pkcs8_pem(LineEnding::LF).map_err(|_| BuildError::Key)
    }

    /// ecdsa-with-SHA256 over `message`, deterministic (RFC 6979).
    ///
    /// # Errors
    ///
    /// [`BuildError::Encode`].
    pub(crate) fn sign(&self, message: &[u8]) -> Result<BitString, BuildError> {
        let signature: DerSignature = self.0.sign(message);
        BitString::from_bytes(signature.as_bytes()).map_err(|error| BuildError::Encode("a signature", error))
    }

    /// The signing half, for x509-cert.
    pub(crate) fn signer(&self) -> &SigningKey {
        &self.0
    }

    /// `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    ///
    /// [`BuildError::Key`] when it cannot be encoded.
    pub(crate) fn spki(&self) -> Result<SubjectPublicKeyInfoOwned, BuildError> {
        let document = self.0.verifying_key().to_public_key_der().map_err(|_| BuildError::Key)?;
        SubjectPublicKeyInfoOwned::try_from(document.as_bytes()).map_err(|_| BuildError::Key)
    }

    /// The key identifier that certificates and lists of this CA carry.
    ///
    /// # Errors
    ///
    /// [`BuildError::Key`] when the key cannot be encoded.
    pub(crate) fn key_id(&self) -> Result<KeyId, BuildError> {
        Ok(KeyId::of_public_key(self.spki()?.subject_public_key.raw_bytes()))
    }
}

/// `CN=<text>`.
///
/// # Errors
///
/// [`BuildError::Encode`].
pub(crate) fn common_name(text: &str) -> Result<Name, BuildError> {
    Name::from_str(&format!("CN={text}")).map_err(|error| BuildError::Encode("a name", error))
}

/// 16 random octets, positive and without a leading zero (RFC 5280 §4.1.2.2): 126 bits of randomness.
///
/// # Errors
///
/// [`BuildError::Entropy`].
pub(crate) fn random_serial() -> Result<SerialNumber, BuildError> {
    let mut octets = entropy::octets::<16>()?;
    octets[0] = octets[0] & 0x7f | 0x40;
    SerialNumber::new(&octets).map_err(|error| BuildError::Encode("a serial number", error))
}

/// UTCTime until 2049, GeneralizedTime after (RFC 5280 §4.1.2.5).
///
/// # Errors
///
/// [`BuildError::Time`].
pub(crate) fn x509_time(unix_s: i64) -> Result<Time, BuildError> {
    let fail = || BuildError::Time(unix_s);
    let since_epoch = Duration::from_secs(u64::try_from(unix_s).map_err(|_| fail())?);
    let date = DateTime::from_unix_duration(since_epoch).map_err(|_| fail())?;
    Ok(match UtcTime::from_date_time(date) {
        Ok(time) => Time::UtcTime(time),
        Err(_) => Time::GeneralTime(GeneralizedTime::from_date_time(date)),
    })
}

/// DER of something that we built.
///
/// # Errors
///
/// [`BuildError::Encode`].
pub(crate) fn to_der(what: &'static str, value: &impl der::Encode) -> Result<Vec<u8>, BuildError> {
    value.to_der().map_err(|error| BuildError::Encode(what, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_positive_and_of_16_octets() {
        for _ in 0..200 {
            let serial = random_serial().unwrap();
            assert_eq!(serial.as_bytes().len(), 16);
            assert!((0x40..0x80).contains(&serial.as_bytes()[0]));
        }
    }

    #[test]
    fn times_change_their_form_in_2050() {
        assert!(matches!(x509_time(2_524_607_999).unwrap(), Time::UtcTime(_)));
        assert!(matches!(x509_time(2_524_608_000).unwrap(), Time::GeneralTime(_)));
        assert!(x509_time(-1).is_err());
    }
}
