//! The Noise primitives that WireGuard's initiation and our introduction share: X25519 and
//! ChaCha20-Poly1305 from aws-lc, BLAKE2s, HMAC and the KDF (whitepaper §5.4; Noise rev. 34 §4-5).
//!
//! [`Symmetric`] is Noise's `SymmetricState`. A shared secret of all zeros (a low-order point) is an error
//! of [`agree`], because aws-lc makes it one (RFC 7748 §6.1).

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of a Poly1305 tag, of mac1 and of mac2.
pub(crate) const TAG: usize = 16;

/// The other side's octets do not fit the keys: wrong key, altered message, or a low-order point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unauthentic;

pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Blake2s256::new(), Digest::chain_update).finalize().into()
}

/// Keyed BLAKE2s-128: mac1, mac2 and the cookie.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; TAG] {
    // Keys are 16 or 32 octets here; BLAKE2s takes up to 32, so the hash of the key never stands in for it.
    let Ok(state) = <Blake2sMac<U16> as KeyInit>::new_from_slice(key) else {
        return mac(&hash(&[key]), parts);
    };
    parts.iter().fold(state, Mac::chain_update).finalize().into_bytes().into()
}

/// HMAC-BLAKE2s (RFC 2104; block of 64 octets) with a 32-octet key.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let pad = |octet: u8| {
        let mut block = [octet; 64];
        for (block, key) in block.iter_mut().zip(key) {
            *block ^= key;
        }
        Zeroizing::new(block)
    };
    let inner = parts.iter().fold(Blake2s256::new().chain_update(*pad(0x36)), Digest::chain_update);
    hash(&[&*pad(0x5c), &inner.finalize()])
}

/// X25519. Fails when the shared secret would be zero.
pub(crate) fn agree(private: &PrivateKey, public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, Unauthentic> {
    agreement::agree(private, UnparsedPublicKey::new(&X25519, public), Unauthentic, |secret| {
        let mut octets = Zeroizing::new([0; 32]);
        if secret.len() != octets.len() {
            return Err(Unauthentic);
        }
        octets.copy_from_slice(secret);
        Ok(octets)
    })
}

/// Noise's `SymmetricState`: chaining key and transcript hash.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Symmetric {
    chaining_key: [u8; 32],
    hash: [u8; 32],
}

impl Symmetric {
    /// Starts from the hash (or the padded name) of the protocol.
    pub(crate) const fn new(protocol: [u8; 32]) -> Self {
        Self { chaining_key: protocol, hash: protocol }
    }

    pub(crate) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    /// KDF1: moves the chaining key only.
    pub(crate) fn mix_chain(&mut self, input: &[u8]) {
        let prk = Zeroizing::new(hmac(&self.chaining_key, &[input]));
        self.chaining_key = hmac(&prk, &[&[1]]);
    }

    /// KDF2: moves the chaining key and gives a cipher key, used once with nonce 0.
    pub(crate) fn mix_key(&mut self, input: &[u8]) -> Zeroizing<[u8; 32]> {
        let prk = Zeroizing::new(hmac(&self.chaining_key, &[input]));
        self.chaining_key = hmac(&prk, &[&[1]]);
        Zeroizing::new(hmac(&prk, &[&self.chaining_key, &[2]]))
    }

    /// `DecryptAndHash` with a fresh key. `sealed` ends with the tag; the plaintext is its front.
    pub(crate) fn open<'a>(
        &mut self,
        key: &[u8; 32],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Unauthentic> {
        let after = hash(&[&self.hash, sealed]);
        let plain = cipher(key)?
            .open_in_place(Nonce::assume_unique_for_key([0; 12]), Aad::from(&self.hash), sealed)
            .map_err(|_| Unauthentic)?;
        self.hash = after;
        Ok(plain)
    }

    /// `EncryptAndHash` with a fresh key, in place; the tag goes to the last [`TAG`] octets of `buffer`.
    pub(crate) fn seal(&mut self, key: &[u8; 32], buffer: &mut [u8]) -> Result<(), Unauthentic> {
        let (plain, tag) = buffer.split_at_mut(buffer.len().saturating_sub(TAG));
        let sealed = cipher(key)?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key([0; 12]), Aad::from(&self.hash), plain)
            .map_err(|_| Unauthentic)?;
        tag.copy_from_slice(sealed.as_ref());
        self.hash = hash(&[&self.hash, buffer]);
        Ok(())
    }
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, Unauthentic> {
    Ok(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| Unauthentic)?))
}
