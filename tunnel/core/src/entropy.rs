//! The engine's own random numbers, seeded once by the shell.
//!
//! BLAKE2s in counter mode with fast key erasure: every draw replaces the key, so a later leak of the state
//! tells nothing about earlier draws. It serves ephemeral keys of introductions, cookie secrets, nonces and
//! jitter. boringtun draws the ephemeral keys of handshakes from the operating system itself.

use blake2::{Blake2s256, Digest};
use std::time::Duration;
use zeroize::{Zeroize, ZeroizeOnDrop};

#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Entropy {
    key: [u8; 32],
}

impl Entropy {
    pub(crate) const fn new(seed: [u8; 32]) -> Self {
        Self { key: seed }
    }

    /// 32 fresh octets.
    pub(crate) fn draw(&mut self) -> [u8; 32] {
        let output = self.derive(b"output");
        self.key = self.derive(b"key");
        output
    }

    fn derive(&self, label: &[u8]) -> [u8; 32] {
        Blake2s256::new()
            .chain_update(b"verona entropy")
            .chain_update(self.key)
            .chain_update(label)
            .finalize()
            .into()
    }

    /// A uniform duration below `limit`, in milliseconds; zero when `limit` is below one.
    pub(crate) fn jitter(&mut self, limit: Duration) -> Duration {
        let [a, b, c, d, ..] = self.draw();
        let millis = u64::from(u32::from_le_bytes([a, b, c, d]));
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(millis % limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ_and_replay_from_the_seed() {
        let mut one = Entropy::new([1; 32]);
        let mut other = Entropy::new([1; 32]);
        let first = one.draw();
        assert_eq!(first, other.draw());
        assert_ne!(first, one.draw());
        for _ in 0..100 {
            assert!(one.jitter(Duration::from_millis(333)) < Duration::from_millis(333));
        }
        assert_eq!(one.jitter(Duration::ZERO), Duration::ZERO);
    }
}
