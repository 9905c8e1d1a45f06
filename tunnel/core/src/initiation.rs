//! Opens a handshake initiation (whitepaper §5.4.2) far enough to know that its sender holds the key.
//!
//! boringtun's `parse_handshake_anon` stops after `es`: a forged message that claims a victim's key passes
//! it. Here the claim ([`Claim`]) and the proof ([`Proof`]: `ss` and the timestamp) are two steps, so that
//! the peer record can be checked between them, and no state exists before both. The reply is boringtun's.

use crate::identity::Identity;
use crate::message::InitiationMessage;
use crate::noise::{self, Symmetric, Unauthentic};
use crate::{KeyError, PublicKey};
use verona_contract::control::Tai64n;

/// The names that the transcript begins with (whitepaper §5.4).
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

/// The sender holds the private key of the claimed one, and said so at `timestamp` of its own clock.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use crate::message::{INITIATION, Message};
    use boringtun::noise::{Tunn, TunnResult};
    use boringtun::x25519::PublicKey as DalekPublicKey;
    use proptest::prelude::*;

    fn identity(seed: u8) -> Identity {
        Identity::new(&Secret::new([seed; 32])).unwrap()
    }

    fn by_boringtun(from: &Identity, to: &Identity) -> Vec<u8> {
        let to = DalekPublicKey::from(*to.public().as_bytes());
        let mut buffer = [0; INITIATION];
        match Tunn::new(from.dalek(), to, None, None, 1, None).format_handshake_initiation(&mut buffer, false)
        {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn claim(at: &Identity, datagram: &[u8]) -> Result<Claim, InitiationError> {
        match Message::parse(datagram) {
            Some(Message::Initiation(message)) => Claim::open(at, &message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn agrees_with_boringtun() {
        let (client, edge) = (identity(1), identity(2));
        let datagram = by_boringtun(&client, &edge);
        let claimed = claim(&edge, &datagram).unwrap();
        assert_eq!(claimed.key, *client.public());
        let proof = claimed.prove(&edge).unwrap();
        assert_eq!(proof.timestamp.0[0], 0x40, "TAI64: 2^62 and some");
        assert!(claim(&identity(3), &datagram).is_err(), "another edge");
    }

    #[test]
    fn a_claim_alone_proves_nothing() {
        let edge = identity(2);
        let forged =
            verona_tests::forgery::Initiation::forged(*edge.public(), *identity(1).public().as_bytes());
        let claim = claim(&edge, &forged.message()).unwrap();
        assert_eq!(claim.key, *identity(1).public(), "anybody can claim it");
        assert_eq!(claim.prove(&edge).err(), Some(InitiationError::Unauthentic));
    }

    #[test]
    fn an_ephemeral_key_of_low_order_is_refused() {
        let edge = identity(2);
        let mut datagram = by_boringtun(&identity(1), &edge);
        datagram[8..40].fill(0);
        assert_eq!(claim(&edge, &datagram).err(), Some(InitiationError::Unauthentic));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_octets(rest in prop::collection::vec(any::<u8>(), INITIATION - 4)) {
            let datagram = [&[1, 0, 0, 0], rest.as_slice()].concat();
            prop_assert!(claim(&identity(2), &datagram).is_err());
        }

        #[test]
        fn an_altered_octet_is_noticed(at in 8usize..116, bit in 0u8..8) {
            let edge = identity(2);
            let mut datagram = by_boringtun(&identity(1), &edge);
            datagram[at] ^= 1 << bit;
            // The top bit of a u-coordinate is not part of the number (RFC 7748 §5), but of the transcript.
            prop_assert!(claim(&edge, &datagram).and_then(|claim| claim.prove(&edge)).is_err());
        }
    }
}
