//! Proof of possession of an X25519 key at enrolment: an ECDH challenge bound to the TLS channel.
//!
//! An X25519 key cannot sign a request. The center sends a one-use ephemeral key; the applicant answers
//! `HMAC(HKDF(X25519(x, Y), info = Y ‖ X), label ‖ tls-exporter ‖ SHA-256(CSR))`. The construction is that of
//! RFC 6955 and of CRMF's agreeMAC, the binding is RFC 9266's: a proof serves for one channel, one request,
//! one key. The labels keep it apart from WireGuard's use of the same key.

use crate::key::{PublicKey, Secret};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;

/// The label of the TLS exporter (RFC 8446 §7.5), used without a context, 32 octets.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-verona-pop-v1";

const LABEL: &[u8] = b"verona x25519 proof of possession v1";

/// The proof does not hold: another key, channel or request, or a key without a private half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proof of possession does not hold for this key, request and TLS channel")]
pub struct PopError;

/// The applicant's answer to `challenge`.
///
/// # Errors
///
/// [`PopError`] when the shared secret would be zero.
pub fn prove(
    private: &Secret,
    challenge: &PublicKey,
    exporter: &[u8; 32],
    csr: &[u8],
) -> Result<[u8; 32], PopError> {
    let public = private.x25519_public().map_err(|_| PopError)?;
    let key = mac_key(private, challenge, challenge, &public)?;
    let mut proof = [0; 32];
    proof.copy_from_slice(hmac::sign(&key, &message(exporter, csr)).as_ref());
    Ok(proof)
}

/// Checks an answer; `ephemeral` is the private half of the challenge and is used for one answer only.
///
/// # Errors
///
/// [`PopError`] when it does not hold.
pub fn verify(
    ephemeral: &Secret,
    applicant: &PublicKey,
    exporter: &[u8; 32],
    csr: &[u8],
    proof: &[u8],
) -> Result<(), PopError> {
    let challenge = ephemeral.x25519_public().map_err(|_| PopError)?;
    let key = mac_key(ephemeral, applicant, &challenge, applicant)?;
    hmac::verify(&key, &message(exporter, csr), proof).map_err(|_| PopError)
}

fn mac_key(
    private: &Secret,
    peer: &PublicKey,
    challenge: &PublicKey,
    applicant: &PublicKey,
) -> Result<hmac::Key, PopError> {
    let private = PrivateKey::from_private_key(&X25519, private.expose()).map_err(|_| PopError)?;
    agree(&private, UnparsedPublicKey::new(&X25519, peer.as_bytes()), PopError, |shared| {
        let prk = Salt::new(HKDF_SHA256, LABEL).extract(shared);
        let info = [challenge.as_bytes().as_slice(), applicant.as_bytes().as_slice()];
        let okm = prk.expand(&info, hmac::HMAC_SHA256).map_err(|_| PopError)?;
        Ok(hmac::Key::from(okm))
    })
}

fn message(exporter: &[u8; 32], csr: &[u8]) -> Vec<u8> {
    [LABEL, exporter, digest(&SHA256, csr).as_ref()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_for_one_key_channel_and_request_only() {
        let (applicant, ephemeral) = (Secret::new([0x21; 32]), Secret::new([0x42; 32]));
        let key = applicant.x25519_public().unwrap();
        let challenge = ephemeral.x25519_public().unwrap();
        let proof = prove(&applicant, &challenge, &[1; 32], b"csr").unwrap();
        assert_eq!(verify(&ephemeral, &key, &[1; 32], b"csr", &proof), Ok(()));
        let other = Secret::new([0x22; 32]).x25519_public().unwrap();
        assert_eq!(verify(&ephemeral, &key, &[2; 32], b"csr", &proof), Err(PopError), "another channel");
        assert_eq!(verify(&ephemeral, &key, &[1; 32], b"other", &proof), Err(PopError), "another request");
        assert_eq!(verify(&ephemeral, &other, &[1; 32], b"csr", &proof), Err(PopError), "another key");
        assert_eq!(verify(&Secret::new([0x43; 32]), &key, &[1; 32], b"csr", &proof), Err(PopError));
        assert_eq!(verify(&ephemeral, &key, &[1; 32], b"csr", &proof[..31]), Err(PopError));
        // Whoever claims a victim's key without its private half cannot answer.
        let forged = prove(&Secret::new([0x99; 32]), &challenge, &[1; 32], b"csr").unwrap();
        assert_eq!(verify(&ephemeral, &key, &[1; 32], b"csr", &forged), Err(PopError));
    }
}
