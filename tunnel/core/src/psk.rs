//! Which preshared key a handshake takes while an owner's root is rotated.
//!
//! During the overlap a peer holds a key of the new root or still of the one before, and its initiation does not
//! tell which: the preshared key enters with the response (whitepaper §5.4.3). So it is answered with the root that
//! it used last, and when it comes again without having used the answer, with the other. Proven keys carry data
//! meanwhile, so no packet waits. Derivation is the contract's; when the overlap ends, the configuration says.

use crate::Secret;
use std::time::Duration;
use verona_contract::config::PskRoot;

/// How long an answer may stay unused before the other root is tried: a round trip of a satellite link with room
/// to spare, and less than WireGuard's own 5 s between two initiations. A client that introduces itself repeats
/// after 0.8 s; turning at each of these would put its answers out of step with its questions.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a handshake of ours is tried with one root before the other: the second of WireGuard's initiations
/// is in it, so a peer that has both roots has turned to ours by then.
const TURN: Duration = Duration::from_secs(7);

/// The key that a protocol state is made with.
#[derive(Debug)]
pub(crate) struct Psk {
    /// The root's id; of a configured key, how often it was changed.
    pub(crate) id: u32,
    pub(crate) secret: Option<Secret>,
}

/// What is known of the root that a peer holds a key of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Evidence {
    /// The root of the last session that the peer proved.
    pub(crate) proven: Option<u32>,
    /// The root of an answer that the peer has not used, and for how long answers with it were not.
    pub(crate) unused: Option<(u32, Duration)>,
}

/// The roots of an owner that are in force.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) current: PskRoot,
    /// While a rotation's overlap lasts.
    pub(crate) previous: Option<PskRoot>,
}

impl Roots {
    /// For the answer to an initiation.
    pub(crate) fn for_response(&self, known: Evidence) -> &PskRoot {
        match known.unused {
            Some((id, age)) => self.with(id, age >= PATIENCE),
            None => self.with(known.proven.unwrap_or(self.current.id), false),
        }
    }

    /// For an initiation of ours in a handshake that was `tried` for so long. With keys there is time to try the new root first,
    /// so that two edges that both have it leave the old one; without, what the peer used last is likelier.
    pub(crate) fn for_initiation(&self, known: Evidence, has_keys: bool, tried: Duration) -> &PskRoot {
        let first = known.proven.filter(|_| !has_keys).unwrap_or(self.current.id);
        self.with(first, tried.as_secs() / TURN.as_secs() % 2 == 1)
    }

    /// The root of this id, or with `other` the other one; the current one where there is no such.
    fn with(&self, id: u32, other: bool) -> &PskRoot {
        match &self.previous {
            Some(previous) if (previous.id == id) != other => previous,
            _ => &self.current,
        }
    }

    /// The ids of the roots that were in force `before` and are no more.
    pub(crate) fn gone_since(&self, before: &Self) -> Vec<u32> {
        before.iter().filter(|root| !self.iter().any(|other| other == *root)).map(|root| root.id).collect()
    }

    fn iter(&self) -> impl Iterator<Item = &PskRoot> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(id: u32, octet: u8) -> PskRoot {
        PskRoot { id, secret: Secret::new([octet; 32]) }
    }

    #[test]
    fn response_table() {
        let (alone, both) = (
            Roots { current: root(2, 2), previous: None },
            Roots { current: root(2, 2), previous: Some(root(1, 1)) },
        );
        let short = PATIENCE - Duration::from_millis(1);
        for (proven, unused, in_overlap) in [
            (None, None, 2),
            (Some(1), None, 1),
            (Some(2), None, 2),
            (Some(1), Some((1, short)), 1),
            (Some(1), Some((1, PATIENCE)), 2),
            // Once turned, the answer stays the same for its time, whatever was proven before.
            (Some(1), Some((2, short)), 2),
            (Some(1), Some((2, PATIENCE)), 1),
            (None, Some((2, PATIENCE)), 1),
            // A root that is in force no more.
            (Some(7), None, 2),
            (Some(7), Some((7, short)), 2),
        ] {
            let known = Evidence { proven, unused };
            assert_eq!(both.for_response(known).id, in_overlap, "{known:?}");
            assert_eq!(alone.for_response(known).id, 2, "{known:?}");
        }
    }

    #[test]
    fn initiations_turn_by_time() {
        let roots = Roots { current: root(2, 2), previous: Some(root(1, 1)) };
        let ids = |proven, has_keys| {
            let known = Evidence { proven, unused: None };
            [0, 6, 7, 13, 14]
                .map(|tried| roots.for_initiation(known, has_keys, Duration::from_secs(tried)).id)
        };
        assert_eq!(ids(None, false), [2, 2, 1, 1, 2]);
        assert_eq!(ids(Some(1), false), [1, 1, 2, 2, 1]);
        assert_eq!(ids(Some(1), true), [2, 2, 1, 1, 2]);
    }

    #[test]
    fn a_root_is_gone_when_its_id_or_its_secret_is() {
        let before = Roots { current: root(2, 2), previous: Some(root(1, 1)) };
        let gone = |current, previous| Roots { current, previous }.gone_since(&before);
        assert!(gone(root(2, 2), Some(root(1, 1))).is_empty());
        assert_eq!(gone(root(2, 2), None), [1]);
        assert_eq!(gone(root(3, 3), Some(root(2, 2))), [1]);
        assert_eq!(gone(root(3, 3), None), [2, 1]);
        assert_eq!(gone(root(2, 9), None), [2, 1]);
    }
}
