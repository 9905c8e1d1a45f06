//! Initiations that came before the introduction of their sender: kept for a moment, and answered after it.
//!
//! A client sends both at once, but the public-key work for introductions waits behind that for handshakes, and the
//! network may swap them. Without this the client would come back after 5 s, its record often gone by then: a
//! thousand newcomers a second would keep each other out for minutes. What is kept has proven nothing, so room and
//! time are small, and the oldest gives way.

use crate::PublicKey;
use crate::message::INITIATION;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Initiations kept at once, some 120 kB: half a second of what is let through under load.
const ROOM: usize = 512;
/// How long one is kept: its sender begins anew after 5 s (whitepaper §6.1), and then this one is void.
const KEPT: Duration = Duration::from_secs(3);

struct Early {
    key: PublicKey,
    from: SocketAddr,
    until: Instant,
    datagram: [u8; INITIATION],
}

/// Oldest first, one of a key.
#[derive(Default)]
pub(crate) struct EarlyInitiations(VecDeque<Early>);

impl EarlyInitiations {
    /// Keeps an initiation that claims `key`, in place of an earlier one.
    pub(crate) fn keep(&mut self, key: PublicKey, from: SocketAddr, datagram: &[u8], now: Instant) {
        let Ok(datagram) = datagram.try_into() else { return };
        self.0.retain(|early| early.key != key && early.until > now);
        if self.0.len() >= ROOM {
            self.0.pop_front();
        }
        self.0.push_back(Early { key, from, until: now + KEPT, datagram });
    }

    /// Gives what is kept of `key`, and where it came from.
    pub(crate) fn take(&mut self, key: &PublicKey, now: Instant) -> Option<(SocketAddr, [u8; INITIATION])> {
        let found = self.0.iter().position(|early| early.key == *key)?;
        let early = self.0.remove(found).filter(|early| early.until > now)?;
        Some((early.from, early.datagram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_key_for_a_moment_and_the_oldest_gives_way() {
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let now = Instant::now();
        let mut kept = EarlyInitiations::default();
        let from: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let key = |number: usize| {
            let mut octets = [9; 32];
            octets[..8].copy_from_slice(&number.to_le_bytes());
            PublicKey::try_from(&octets[..]).unwrap()
        };
        let mut keep = |number: usize, octet, at| kept.keep(key(number), from, &[octet; INITIATION], at);
        keep(0, 1, now);
        keep(0, 2, now);
        (1..=ROOM).for_each(|number| keep(number, 3, now));
        assert_eq!(kept.0.len(), ROOM);
        assert_eq!(kept.take(&key(0), now), None, "the oldest");
        assert_eq!(kept.take(&key(1), now), Some((from, [3; INITIATION])));
        assert_eq!(kept.take(&key(1), now), None, "once");
        kept.keep(key(1), from, &[1; INITIATION], now);
        kept.keep(key(1), from, &[2; INITIATION], now);
        assert_eq!(kept.take(&key(1), now), Some((from, [2; INITIATION])));
        assert_eq!(kept.take(&key(2), now + KEPT), None, "too late");
        kept.keep(key(0), from, &[1; INITIATION - 1], now);
        assert_eq!(kept.take(&key(0), now), None, "no initiation");
        kept.keep(key(3), from, &[1; INITIATION], now + KEPT);
        assert_eq!(kept.0.len(), 1, "the expired ones are gone");
    }
}
