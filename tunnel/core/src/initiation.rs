//! Opens a handshake initiation (whitepaper §5.4.2) far enough to know that its sender holds the key.
//!
//! boringtun's `parse_handshake_anon` stops after `es`: a forged message that claims a victim's key passes
//! it. Here the claim ([`Claim`]) and the proof ([`Proof`]: `ss` and the timestamp) are two steps, so that
//! the peer record can be checked between them, and no state exists before both. The reply is boringtun's.

use crate::identity::Identity;
use crate::message::InitiationMessage;
use crate::noise::{self, Symmetric, Unauthentic};
use crate::time::Tai64n;
use crate::{KeyError, PublicKey};

/// BLAKE2s("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s") and its hash with WireGuard's identifier.
const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// Why an initiation is not authentic: the sender's fault in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InitiationError {
    /// Not sealed to our key, altered, or not by the holder of the claimed key.
    Unauthentic,
    /// The claimed key is not canonical or of low order.
    WeakKey(KeyError),
}

impl From<Unauthentic> for InitiationError {
    fn from(_: Unauthentic) -> Self {
        Self::Unauthentic
    }
}

/// The static key an initiation claims. Nothing is proven: anybody who knows both public keys can make one.
pub(crate) struct Claim {
    pub(crate) key: PublicKey,
    state: Symmetric,
    sealed_timestamp: [u8; 28],
}

/// The sender holds the private key of `key`, and said so at `timestamp` of its own clock.
#[must_use]
pub(crate) struct Proof {
    pub(crate) timestamp: Tai64n,
}

impl Claim {
    /// Does `e, es, s`: one Diffie-Hellman.
    pub(crate) fn open(
        identity: &Identity,
        message: &InitiationMessage<'_>,
    ) -> Result<Self, InitiationError> {
        let mut state = Symmetric::new(noise::hash(&[CONSTRUCTION]));
        state.mix_hash(IDENTIFIER);
        state.mix_hash(identity.public().as_bytes());
        state.mix_hash(message.ephemeral);
        state.mix_chain(message.ephemeral);
        let key = state.mix_key(&*noise::agree(&identity.agreement, message.ephemeral)?);
        let mut sealed = *message.sealed_static;
        let octets = state.open(&key, &mut sealed)?;
        let key = PublicKey::try_from(&*octets).map_err(InitiationError::WeakKey)?;
        Ok(Self { key, state, sealed_timestamp: *message.sealed_timestamp })
    }

    /// Does `ss, {t}`: the second Diffie-Hellman, and the proof.
    pub(crate) fn prove(mut self, identity: &Identity) -> Result<Proof, InitiationError> {
        let key = self.state.mix_key(&*noise::agree(&identity.agreement, self.key.as_bytes())?);
        let octets = self.state.open(&key, &mut self.sealed_timestamp)?;
        let timestamp = <[u8; 12]>::try_from(&*octets).map_err(|_| InitiationError::Unauthentic)?;
        Ok(Proof { timestamp: Tai64n(timestamp) })
    }
}
