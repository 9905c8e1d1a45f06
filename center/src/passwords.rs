//! Admin passwords: Argon2id (RFC 9106), hashed off the async threads and few at a time.

use crate::entropy;
use crate::http::failure::Failure;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Hashes at once. Each takes 19 MiB and some 30 ms of a core; more would let logins starve revocations.
const MAX_PARALLEL: usize = 2;

/// Password hashing with its limit.
pub(crate) struct Passwords(Semaphore);

impl Passwords {
    pub(crate) const fn new() -> Self {
        Self(Semaphore::const_new(MAX_PARALLEL))
    }

    /// The hash of a new password, in the PHC string format.
    ///
    /// # Errors
    ///
    /// [`Failure`] of our own.
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String, Failure> {
        let salt = entropy::octets::<16>()?;
        let allowed = || Ok(());
        self.run(allowed, move || {
            let salt = SaltString::encode_b64(&salt).ok()?;
            argon2().hash_password(password.as_bytes(), &salt).ok().map(|hash| hash.to_string())
        })
        .await?
        .ok_or_else(|| Failure::bad("password cannot be hashed"))
    }

    /// Whether `password` is the one that was hashed. `allowed` is asked when its turn has come: those who
    /// waited in the same queue may have failed too often by then.
    ///
    /// # Errors
    ///
    /// That of `allowed`, or [`Failure`] of our own.
    pub(crate) async fn verify(
        &self,
        password: Zeroizing<String>,
        hash: String,
        allowed: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        self.run(allowed, move || {
            PasswordHash::new(&hash)
                .is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        allowed: impl FnOnce() -> Result<(), Failure>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let busy = || Failure::unavailable("too many logins at once; try again", 1);
        let _permit = self.0.acquire().await.map_err(|_| busy())?;
        allowed()?;
        tokio::task::spawn_blocking(work).await.map_err(|_| busy())
    }
}

fn argon2() -> Argon2<'static> {
    // OWASP's first choice: 19 MiB, two passes, one lane.
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_right_password_only() {
        let passwords = Passwords::new();
        let text = |text: &str| Zeroizing::new(text.to_owned());
        let hash = passwords.hash(text("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let allowed = || Ok(());
        assert!(passwords.verify(text("correct horse"), hash.clone(), allowed).await.unwrap());
        assert!(!passwords.verify(text("correct hors"), hash.clone(), allowed).await.unwrap());
        assert!(!passwords.verify(text("x"), "not a hash".into(), allowed).await.unwrap());
        let refused = || Err(Failure::too_many("wait", 1));
        assert!(passwords.verify(text("correct horse"), hash, refused).await.is_err());
    }
}
