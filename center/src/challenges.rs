//! One-use ephemeral keys for proofs of possession ([`verona_contract::pop`]).

use crate::entropy;
use crate::http::connection::Source;
use crate::http::failure::Failure;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;
use verona_contract::api::Challenge;
use verona_contract::key::Secret;

/// From the question to the answer.
const LIFE: Duration = Duration::from_secs(60);

/// Open challenges in all: some 2 MB.
const MAX_OPEN: usize = 10_000;

/// Open challenges of one source. A whole site behind one address enrols in a few rounds.
const MAX_OPEN_PER_SOURCE: usize = 256;

/// The open challenges.
#[derive(Default)]
pub(crate) struct Challenges(Mutex<HashMap<Uuid, Open>>);

struct Open {
    private: Secret,
    source: Source,
    until: Instant,
}

impl Challenges {
    /// Makes a challenge for `source`.
    ///
    /// # Errors
    ///
    /// 429 or 503 when there are too many open ones.
    pub(crate) fn open(&self, source: Source) -> Result<Challenge, Failure> {
        let now = Instant::now();
        let private = Secret::new(entropy::octets::<32>()?);
        // A random key has a low-order public half for a handful of its 2^255 values only.
        let public_key =
            private.x25519_public().map_err(|_| Failure::unavailable("no challenge; try again", 1))?;
        let id = Uuid::from_bytes(entropy::octets::<16>()?);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, challenge| challenge.until > now);
        if open.len() >= MAX_OPEN {
            return Err(Failure::unavailable("too many open challenges; try again", 10));
        }
        if open.values().filter(|challenge| challenge.source == source).count() >= MAX_OPEN_PER_SOURCE {
            return Err(Failure::too_many("too many open challenges from this address", 10));
        }
        open.insert(id, Open { private, source, until: now + LIFE });
        Ok(Challenge { id, public_key, expires_in_s: LIFE.as_secs() })
    }

    /// Takes a challenge's private half. It serves for this one attempt, whatever comes of it.
    ///
    /// # Errors
    ///
    /// 400 when it was used, has ended or never was.
    pub(crate) fn take(&self, id: Uuid) -> Result<Secret, Failure> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        open.filter(|challenge| challenge.until > Instant::now())
            .map(|challenge| challenge.private)
            .ok_or_else(|| Failure::bad(format!("challenge {id} was used, has ended or never was")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_once_and_is_bounded_by_source() {
        let challenges = Challenges::default();
        let source = Source::of(std::net::Ipv4Addr::LOCALHOST.into());
        let challenge = challenges.open(source).unwrap();
        let private = challenges.take(challenge.id).unwrap();
        assert_eq!(private.x25519_public().unwrap(), challenge.public_key);
        assert!(challenges.take(challenge.id).is_err());
        for _ in 0..MAX_OPEN_PER_SOURCE {
            challenges.open(source).unwrap();
        }
        assert!(challenges.open(source).is_err());
        assert!(challenges.open(Source::of(std::net::Ipv4Addr::BROADCAST.into())).is_ok());
    }
}
