//! Handshake initiations made by hand (WireGuard paper §5.4.2), so that they can also be wrong.
//!
//! An initiation needs no private key to look right from outside: whoever knows the edge's public key can
//! claim any static key in it. Only the second Diffie-Hellman shows who holds the key claimed.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use blake2::{Blake2s256, Blake2sMac, Digest, digest::KeyInit, digest::Mac, digest::consts::U16};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use verona_contract::key::{PublicKey, Secret};

/// What an initiation shall claim.
#[derive(Clone, Debug)]
pub struct Initiation {
    /// To whom.
    pub responder: PublicKey,
    /// The static key that it claims, not checked.
    pub claimed: [u8; 32],
    /// The shared secret of the claimed key and the responder's. Who does not hold the private key guesses.
    pub static_shared: [u8; 32],
    /// Makes the ephemeral key.
    pub ephemeral: Secret,
    /// Sender index.
    pub sender: u32,
    /// The TAI64N timestamp's moment.
    pub at: SystemTime,
}

impl Initiation {
    /// An initiation by somebody who knows nothing but public keys.
    #[must_use]
    pub fn forged(responder: PublicKey, claimed: [u8; 32]) -> Self {
        Self {
            responder,
            claimed,
            static_shared: [0; 32],
            ephemeral: Secret::new([0x66; 32]),
            sender: 0x0666,
            at: SystemTime::now(),
        }
    }

    /// An honest initiation.
    ///
    /// # Panics
    ///
    /// The key is of low order.
    #[must_use]
    pub fn honest(responder: PublicKey, private: &Secret) -> Self {
        Self {
            claimed: *private.x25519_public().unwrap().as_bytes(),
            static_shared: shared(private, &responder),
            ..Self::forged(responder, [0; 32])
        }
    }

    /// The 148 octets; mac2 is zero.
    ///
    /// # Panics
    ///
    /// The ephemeral key is unusable.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        self.write().0
    }

    /// The message, and the chain and transcript of the handshake after it.
    pub(crate) fn write(&self) -> (Vec<u8>, [u8; 32], [u8; 32]) {
        let mut chain = hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
        let mut transcript = hash(&[&chain, b"WireGuard v1 zx2c4 Jason@zx2c4.com"]);
        transcript = hash(&[&transcript, self.responder.as_bytes()]);

        let ephemeral = *self.ephemeral.x25519_public().unwrap().as_bytes();
        transcript = hash(&[&transcript, &ephemeral]);
        chain = expand(&chain, &ephemeral).0;

        let (next, key) = expand(&chain, &shared(&self.ephemeral, &self.responder));
        let sealed_static = seal(&key, &self.claimed, &transcript);
        transcript = hash(&[&transcript, &sealed_static]);

        let (chain, key) = expand(&next, &self.static_shared);
        let sealed_timestamp = seal(&key, &tai64n(self.at), &transcript);
        transcript = hash(&[&transcript, &sealed_timestamp]);

        let mut message = vec![1, 0, 0, 0];
        message.extend(self.sender.to_le_bytes());
        message.extend(ephemeral);
        message.extend(sealed_static);
        message.extend(sealed_timestamp);
        message.extend(mac1(b"mac1----", &self.responder, &message));
        message.extend([0; 16]);
        (message, chain, transcript)
    }
}

pub(crate) fn shared(private: &Secret, public: &PublicKey) -> [u8; 32] {
    let private = PrivateKey::from_private_key(&X25519, private.expose()).unwrap();
    let public = UnparsedPublicKey::new(&X25519, public.as_bytes());
    agree(&private, public, (), |secret| secret.try_into().map_err(|_| ())).unwrap()
}

/// mac1 over `message` under `label`, which is `mac1----` for WireGuard's own messages.
#[must_use]
pub fn mac1(label: &[u8; 8], responder: &PublicKey, message: &[u8]) -> [u8; 16] {
    let key = hash(&[label, responder.as_bytes()]);
    let Ok(mut mac) = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key) else {
        unreachable!("BLAKE2s takes keys of 32 octets")
    };
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// HKDF with HMAC-BLAKE2s, two outputs.
pub(crate) fn expand(chain: &[u8; 32], input: &[u8]) -> ([u8; 32], [u8; 32]) {
    let secret = hmac(chain, &[input]);
    let first = hmac(&secret, &[&[1]]);
    (first, hmac(&secret, &[&first, &[2]]))
}

pub(crate) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |octet: u8| -> [u8; 64] { std::array::from_fn(|at| key.get(at).unwrap_or(&0) ^ octet) };
    let inner_pad = pad(0x36);
    let inner = hash(&[&[&inner_pad[..]], parts].concat());
    hash(&[&pad(0x5c), &inner])
}

pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

fn seal(key: &[u8; 32], plain: &[u8], transcript: &[u8; 32]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
    let mut sealed = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), Aad::from(transcript), &mut sealed)
        .unwrap();
    sealed
}

fn tai64n(time: SystemTime) -> [u8; 12] {
    let since: Duration = time.duration_since(UNIX_EPOCH).unwrap();
    let mut stamp = [0; 12];
    stamp[..8].copy_from_slice(&((1 << 62) + 10 + since.as_secs()).to_be_bytes());
    stamp[8..].copy_from_slice(&since.subsec_nanos().to_be_bytes());
    stamp
}

#[cfg(test)]
mod tests {
    use super::*;
    use boringtun::noise::{Tunn, TunnResult};

    /// boringtun judges whether an honest message by hand is one.
    fn answered(initiation: &Initiation, responder: &Secret, initiator: PublicKey) -> bool {
        let mut tunn =
            Tunn::new((*responder.expose()).into(), (*initiator.as_bytes()).into(), None, None, 1, None);
        let mut out = [0; 256];
        matches!(tunn.decapsulate(None, &initiation.message(), &mut out), TunnResult::WriteToNetwork(_))
    }

    #[test]
    fn an_honest_initiation_is_answered_and_a_forged_one_is_not() {
        let (edge, client) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let (edge_key, client_key) = (edge.x25519_public().unwrap(), client.x25519_public().unwrap());
        assert!(answered(&Initiation::honest(edge_key, &client), &edge, client_key));
        assert!(!answered(&Initiation::forged(edge_key, *client_key.as_bytes()), &edge, client_key));
    }
}
