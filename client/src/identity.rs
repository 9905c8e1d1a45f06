//! Who this client is: its keys, its certificates, and the profile the center gave it.
//!
//! The keys are made before the first enrolment and kept over a failed one, so that a repeated attempt
//! presents the same request. Nothing is read that was not checked: a file that breaks its rule is an error
//! that names it, never a half-filled identity.

use crate::state::{self, StateDir, StateError};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};
use uuid::Uuid;
use verona_contract::api::{ClientProfile, Enrolled};
use verona_contract::base64::Octets;
use verona_contract::cert::{CLIENT_URN, Leaf};
use verona_contract::csr::DeviceKey;
use verona_contract::key::{PublicKey, Secret, from_hex, to_hex};
use zeroize::Zeroizing;

/// Why there is no identity to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// Nothing was enrolled here.
    #[error("not enrolled: run `verona-client enroll CODE` first (state directory {0})")]
    NotEnrolled(String),
    /// A file is damaged.
    #[error("{path} is damaged: {reason}")]
    Damaged { path: String, reason: String },
    /// The center's answer does not fit our keys: the center's fault.
    #[error("the center's answer is not acceptable: {0}")]
    Answer(String),
    #[error(transparent)]
    Import(#[from] crate::imported::ImportError),
    #[error(transparent)]
    State(#[from] StateError),
    /// The system has no randomness.
    #[error("the random number generator failed")]
    Entropy,
}

/// The client's two private keys.
pub(crate) struct Keys {
    /// Signs requests and authenticates towards the center.
    pub(crate) device: DeviceKey,
    /// WireGuard's static key.
    pub(crate) tunnel: Secret,
}

impl Keys {
    /// The public half of the tunnel key.
    pub(crate) fn tunnel_public(&self) -> Result<PublicKey, IdentityError> {
        tunnel_public(&self.tunnel)
    }

    /// Reads the keys that `identity` certifies.
    pub(crate) fn load(state: &StateDir, identity: &Identity) -> Result<Self, IdentityError> {
        let read = |name| state.read(name)?.ok_or_else(|| damaged(state, name, "the file is missing"));
        let device = parse_device_key(state, &read(state::DEVICE_KEY)?)?;
        let tunnel = parse_tunnel_key(state, &read(state::TUNNEL_KEY)?)?;
        let keys = Self { device, tunnel };
        if identity.leaf().map(|leaf| leaf.key).ok() != keys.tunnel_public().ok() {
            return Err(damaged(state, state::TUNNEL_KEY, "it is not the certified key"));
        }
        Ok(keys)
    }

    /// Reads the keys; makes and stores those that are missing. For enrolment.
    pub(crate) fn load_or_make(state: &StateDir) -> Result<Self, IdentityError> {
        let device = match state.read(state::DEVICE_KEY)? {
            Some(pem) => parse_device_key(state, &pem)?,
            None => make_device_key(state)?,
        };
        let tunnel = load_or_make_tunnel_key(state)?;
        Ok(Self { device, tunnel })
    }
}

/// The public half of a tunnel key.
pub(crate) fn tunnel_public(key: &Secret) -> Result<PublicKey, IdentityError> {
    key.x25519_public().map_err(|error| IdentityError::Answer(error.to_string()))
}

/// Reads the tunnel key.
pub(crate) fn load_tunnel_key(state: &StateDir) -> Result<Secret, IdentityError> {
    let text = state.read(state::TUNNEL_KEY)?;
    parse_tunnel_key(state, &text.ok_or_else(|| damaged(state, state::TUNNEL_KEY, "the file is missing"))?)
}

/// Reads the tunnel key; makes and stores it when it is missing. For import.
pub(crate) fn load_or_make_tunnel_key(state: &StateDir) -> Result<Secret, IdentityError> {
    match state.read(state::TUNNEL_KEY)? {
        Some(text) => parse_tunnel_key(state, &text),
        None => make_tunnel_key(state),
    }
}

fn parse_device_key(state: &StateDir, pem: &[u8]) -> Result<DeviceKey, IdentityError> {
    let pem = std::str::from_utf8(pem).map_err(|error| damaged(state, state::DEVICE_KEY, error))?;
    DeviceKey::from_pem(pem).map_err(|error| damaged(state, state::DEVICE_KEY, error))
}

fn parse_tunnel_key(state: &StateDir, text: &[u8]) -> Result<Secret, IdentityError> {
    let text = std::str::from_utf8(text).map_err(|error| damaged(state, state::TUNNEL_KEY, error))?;
    text.trim().parse().map_err(|error| damaged(state, state::TUNNEL_KEY, error))
}

fn make_device_key(state: &StateDir) -> Result<DeviceKey, IdentityError> {
    // One draw in 2^32 is no key.
    let key = loop {
        if let Ok(key) = DeviceKey::from_entropy(&*entropy()?) {
            break key;
        }
    };
    let pem = key.to_pem().map_err(|error| IdentityError::Answer(error.to_string()))?;
    state.write(state::DEVICE_KEY, pem.as_bytes())?;
    Ok(key)
}

fn make_tunnel_key(state: &StateDir) -> Result<Secret, IdentityError> {
    let mut octets = entropy()?;
    // The clamped form (RFC 7748 §5), as `wg genkey` prints it: some tools refuse another.
    octets[0] &= 0xf8;
    octets[31] = octets[31] & 0x7f | 0x40;
    let key = Secret::new(*octets);
    state.write(state::TUNNEL_KEY, tunnel_key_text(&key).as_bytes())?;
    Ok(key)
}

/// Base64 with a line end.
fn tunnel_key_text(key: &Secret) -> Zeroizing<String> {
    let text = Zeroizing::new(verona_contract::base64::encode(key.expose()));
    Zeroizing::new(format!("{}\n", *text))
}

fn entropy() -> Result<Zeroizing<[u8; 32]>, IdentityError> {
    let mut octets = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *octets).map_err(|_| IdentityError::Entropy)?;
    Ok(octets)
}

/// What enrolment left: where the center is, how to know it, and our certificates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// `https://host[:port]`.
    pub(crate) center: String,
    /// SHA-256 of the `SubjectPublicKeyInfo` of the center's CA.
    #[serde(with = "hex")]
    pub(crate) pin: [u8; 32],
    /// Our id.
    pub(crate) client: Uuid,
    /// X25519 leaf, DER.
    pub(crate) tunnel_certificate: Octets,
    /// P-256 leaf, DER.
    pub(crate) device_certificate: Octets,
    /// Their issuer, DER.
    pub(crate) issuer: Octets,
}

impl Identity {
    /// Takes the center's answer, if it certifies `key` for the client it names.
    pub(crate) fn accept(
        center: &str,
        pin: [u8; 32],
        key: &PublicKey,
        answer: &Enrolled,
    ) -> Result<Self, IdentityError> {
        let identity = Self {
            center: center.to_owned(),
            pin,
            client: answer.client,
            tunnel_certificate: answer.tunnel_certificate.clone(),
            device_certificate: answer.device_certificate.clone(),
            issuer: answer.issuer.clone(),
        };
        let leaf = identity.leaf().map_err(IdentityError::Answer)?;
        if leaf.key != *key {
            return Err(IdentityError::Answer("the certificate is for another key".to_owned()));
        }
        if leaf.subject != format!("{CLIENT_URN}{}", answer.client) {
            return Err(IdentityError::Answer("the certificate is for another client".to_owned()));
        }
        Ok(identity)
    }

    /// Reads what [`Identity::store`] wrote.
    pub(crate) fn load(state: &StateDir) -> Result<Self, IdentityError> {
        let json = state.read(state::IDENTITY)?;
        let json = json.ok_or_else(|| IdentityError::NotEnrolled(state.as_path().display().to_string()))?;
        let identity: Self =
            serde_json::from_slice(&json).map_err(|error| damaged(state, state::IDENTITY, error))?;
        identity.leaf().map_err(|error| damaged(state, state::IDENTITY, error))?;
        Ok(identity)
    }

    /// Writes it, replacing the one before.
    pub(crate) fn store(&self, state: &StateDir) -> Result<(), IdentityError> {
        let json =
            serde_json::to_vec_pretty(self).map_err(|error| IdentityError::Answer(error.to_string()))?;
        Ok(state.write(state::IDENTITY, &json)?)
    }

    /// First and last moment of the tunnel certificate. The center gives the device certificate the same.
    pub(crate) fn validity(&self) -> (SystemTime, SystemTime) {
        let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0).cast_unsigned());
        match self.leaf() {
            Ok(leaf) => (at(leaf.not_before), at(leaf.not_after)),
            // Checked by both ways to an identity; were it not so, renewing at once is the right answer.
            Err(_) => (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH),
        }
    }

    fn leaf(&self) -> Result<Leaf, String> {
        Leaf::parse(self.tunnel_certificate.as_ref()).map_err(|error| error.to_string())
    }
}

/// When to renew: after two thirds of the certificate's life.
pub(crate) fn renewal_time((begin, end): (SystemTime, SystemTime)) -> SystemTime {
    begin + end.duration_since(begin).unwrap_or_default() * 2 / 3
}

/// Reads the stored profile.
pub(crate) fn load_profile(state: &StateDir) -> Result<ClientProfile, IdentityError> {
    let json = state.read(state::PROFILE)?;
    let json = json.ok_or_else(|| IdentityError::NotEnrolled(state.as_path().display().to_string()))?;
    serde_json::from_slice(&json).map_err(|error| damaged(state, state::PROFILE, error))
}

/// Writes the profile, replacing the one before.
pub(crate) fn store_profile(state: &StateDir, profile: &ClientProfile) -> Result<(), IdentityError> {
    let json =
        serde_json::to_vec_pretty(profile).map_err(|error| IdentityError::Answer(error.to_string()))?;
    Ok(state.write(state::PROFILE, &Zeroizing::new(json))?)
}

fn damaged(state: &StateDir, name: &str, reason: impl std::fmt::Display) -> IdentityError {
    IdentityError::Damaged { path: state.path(name).display().to_string(), reason: reason.to_string() }
}

mod hex {
    use super::{from_hex, to_hex};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(pin: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(pin))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let octets = from_hex(&text).map_err(D::Error::custom)?;
        octets.try_into().map_err(|_| D::Error::custom("a pin is 64 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, StateDir) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::make(directory.path()).unwrap();
        (directory, state)
    }

    #[test]
    fn keys_are_made_once() {
        let (_directory, state) = directory();
        let first = Keys::load_or_make(&state).unwrap();
        let again = Keys::load_or_make(&state).unwrap();
        assert!(first.tunnel == again.tunnel);
        assert_eq!(first.device.fingerprint(), again.device.fingerprint());
        // As `wg genkey` makes them: clamped.
        assert_eq!(first.tunnel.expose()[0] & 7, 0);
        assert_eq!(first.tunnel.expose()[31] & 0xc0, 0x40);
    }

    #[test]
    fn a_damaged_key_is_named_and_not_replaced() {
        let (_directory, state) = directory();
        state.write(state::TUNNEL_KEY, b"AAAA").unwrap();
        let error = Keys::load_or_make(&state).err().unwrap();
        assert!(
            error
                .to_string()
                .ends_with("tunnel.key is damaged: a key is 32 octets in base64 (44 characters)")
        );
        assert_eq!(**state.read(state::TUNNEL_KEY).unwrap().unwrap(), *b"AAAA");
    }

    #[test]
    fn without_enrolment() {
        let (_directory, state) = directory();
        let error = Identity::load(&state).unwrap_err().to_string();
        assert!(error.starts_with("not enrolled: run `verona-client enroll CODE`"), "{error}");
        state.write(state::IDENTITY, b"{}").unwrap();
        let error = Identity::load(&state).unwrap_err().to_string();
        assert!(error.contains("identity.json is damaged: missing field"), "{error}");
    }

    #[test]
    fn renewal_after_two_thirds() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(renewal_time((at(1000), at(1900))), at(1600));
        assert_eq!(renewal_time((at(1000), at(900))), at(1000), "an end before the begin is over at once");
    }
}
