//! The binding of the two-key form: an identity key vouches for a WireGuard key, for a day at most.
//!
//! ```text
//! 0    version u8 = 1
//! 1    not_before u64 | not_after u64      Unix seconds, little-endian
//! 17   the WireGuard key (32)
//! 49   SHA-256 of the identity's certificate (32)
//! 81   signature (64)                      ECDSA P-256 with SHA-256, r ‖ s; or Ed25519
//! ```
//!
//! Signed are 64 spaces, [`LABEL`], a zero octet and octets 0..81: the frame of RFC 8446 §4.4.3, so that no
//! signature of the same key in TLS, a request or a document is one of these. The format has one encoding of
//! each binding; its dates are the business of who holds the clock.

use crate::cert::IdentityLeaf;
use crate::key::{Fingerprint, KeyError, PublicKey};

/// Octets of a binding.
pub const LEN: usize = 145;

/// The longest life, in seconds: a day. What a stolen WireGuard key is worth without the identity key.
pub const MAX_LIFE_S: u64 = 86_400;

/// Keeps these signatures apart from all others.
pub const LABEL: &[u8] = b"Verona Edge, WireGuard key binding v1";

const VERSION: u8 = 1;
const SIGNED: usize = LEN - 64;

/// Why a binding does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindingError {
    /// Another length or version.
    #[error("not a binding of version {VERSION}: {LEN} octets")]
    Form,
    /// It ends before it begins, lives too long, or lies outside the years that certificates know.
    #[error("a binding lives for 1 to {MAX_LIFE_S} seconds")]
    Life,
    /// The WireGuard key is unusable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is for another certificate.
    #[error("binding is for another certificate")]
    Certificate,
    /// Not by the identity key.
    #[error("signature of the binding is not by the certified key")]
    Signature,
}

/// What an identity key signs. That it did is not said here: [`Binding::verify`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    key: PublicKey,
    certificate: Fingerprint,
    not_before: i64,
    not_after: i64,
}

impl Binding {
    /// A binding to be signed: `key` is that of the identity's `certificate` from `not_before` to `not_after`
    /// (Unix seconds, inclusive).
    ///
    /// # Errors
    ///
    /// [`BindingError::Life`].
    pub fn new(
        key: PublicKey,
        certificate: Fingerprint,
        not_before: i64,
        not_after: i64,
    ) -> Result<Self, BindingError> {
        // The end of the year 9999 (RFC 5280 §4.1.2.5.2).
        const LAST: i64 = 253_402_300_799;
        let life = not_after.checked_sub(not_before).and_then(|life| u64::try_from(life).ok());
        let sound =
            not_before >= 0 && not_after <= LAST && life.is_some_and(|s| (1..=MAX_LIFE_S).contains(&s));
        if sound { Ok(Self { key, certificate, not_before, not_after }) } else { Err(BindingError::Life) }
    }

    /// Reads a binding and checks that the key of `leaf` signed it for this very certificate.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn verify(octets: &[u8], leaf: &IdentityLeaf) -> Result<Self, BindingError> {
        let binding = Self::read(octets)?;
        if binding.certificate != leaf.digest {
            return Err(BindingError::Certificate);
        }
        let signature = octets.last_chunk().ok_or(BindingError::Form)?;
        if !leaf.key.signed(&binding.message(), signature) {
            return Err(BindingError::Signature);
        }
        Ok(binding)
    }

    /// The fields, the signature unread.
    fn read(octets: &[u8]) -> Result<Self, BindingError> {
        let octets: &[u8; LEN] = octets.try_into().map_err(|_| BindingError::Form)?;
        let (version, rest) = octets.split_first().ok_or(BindingError::Form)?;
        let (not_before, rest) = rest.split_first_chunk().ok_or(BindingError::Form)?;
        let (not_after, rest) = rest.split_first_chunk().ok_or(BindingError::Form)?;
        let (key, rest) = rest.split_first_chunk::<32>().ok_or(BindingError::Form)?;
        let (certificate, _) = rest.split_first_chunk::<32>().ok_or(BindingError::Form)?;
        if *version != VERSION {
            return Err(BindingError::Form);
        }
        let seconds = |octets| i64::try_from(u64::from_le_bytes(octets)).map_err(|_| BindingError::Life);
        let certificate = Fingerprint::new(certificate).map_err(|_| BindingError::Form)?;
        Self::new(PublicKey::new(*key)?, certificate, seconds(*not_before)?, seconds(*not_after)?)
    }

    fn fields(&self) -> [u8; SIGNED] {
        let mut fields = [0; SIGNED];
        fields[0] = VERSION;
        fields[1..9].copy_from_slice(&self.not_before.cast_unsigned().to_le_bytes());
        fields[9..17].copy_from_slice(&self.not_after.cast_unsigned().to_le_bytes());
        fields[17..49].copy_from_slice(self.key.as_bytes());
        fields[49..].copy_from_slice(self.certificate.as_bytes());
        fields
    }

    /// What the identity key signs.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        [[b' '; 64].as_slice(), LABEL, &[0], &self.fields()].concat()
    }

    /// The binding with its signature: r ‖ s for P-256, RFC 8032's for Ed25519.
    #[must_use]
    pub fn signed(&self, signature: &[u8; 64]) -> Vec<u8> {
        [self.fields().as_slice(), signature].concat()
    }

    /// The bound WireGuard key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Unix seconds.
    #[must_use]
    pub const fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Unix seconds, inclusive.
    #[must_use]
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }
}
