//! Our own static key, with everything that is derived from it once.

use crate::noise;
use crate::{PublicKey, Secret};
use aws_lc_rs::agreement::{PrivateKey, X25519};
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519::{PublicKey as DalekPublicKey, StaticSecret};
use std::sync::Arc;

/// The device's X25519 key in the forms that its users need.
pub(crate) struct Identity {
    secret: Secret,
    public: PublicKey,
    /// For our own Diffie-Hellman; twice as fast as boringtun's.
    pub(crate) agreement: PrivateKey,
    /// What others must know to reach us (whitepaper §5.4.4).
    pub(crate) reach: ReachKeys,
    /// boringtun counts every handshake message in a limiter and wants one. This one never limits:
    /// [`crate::load`] has decided before.
    pub(crate) unlimited: Arc<RateLimiter>,
}

/// Keys that follow from a public key alone: they show that a sender knows whom it talks to, no more.
#[derive(Clone)]
pub(crate) struct ReachKeys {
    /// mac1 of handshake messages.
    pub(crate) handshake_mac1: [u8; 32],
    /// mac1 of introductions; another label, so that the two families cannot be confused.
    pub(crate) introduction_mac1: [u8; 32],
    /// Seals cookie replies.
    pub(crate) cookie: [u8; 32],
}

impl ReachKeys {
    pub(crate) fn new(public: &PublicKey) -> Self {
        let derive = |label: &[u8; 8]| noise::hash(&[label, public.as_bytes()]);
        Self {
            handshake_mac1: derive(b"mac1----"),
            introduction_mac1: derive(b"certmac1"),
            cookie: derive(b"cookie--"),
        }
    }
}

impl Identity {
    /// `None` only when the secret's public key is not a usable one, which no clamped scalar gives.
    pub(crate) fn new(secret: &Secret) -> Option<Self> {
        let mut octets = zeroize::Zeroizing::new(*secret.expose());
        // Clamped once, so that what is configured and what is shown is one value (RFC 7748 §5).
        octets[0] &= 248;
        octets[31] = (octets[31] & 127) | 64;
        let agreement = PrivateKey::from_private_key(&X25519, &*octets).ok()?;
        let public = PublicKey::try_from(agreement.compute_public_key().ok()?.as_ref()).ok()?;
        let dalek = DalekPublicKey::from(*public.as_bytes());
        Some(Self {
            secret: Secret::new(*octets),
            public,
            agreement,
            reach: ReachKeys::new(&public),
            unlimited: Arc::new(RateLimiter::new(&dalek, u64::MAX)),
        })
    }

    pub(crate) const fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The form boringtun takes.
    pub(crate) fn dalek(&self) -> StaticSecret {
        StaticSecret::from(*self.secret.expose())
    }
}
