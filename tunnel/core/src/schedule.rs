//! When a session must be looked at again: retries, keepalives, revival, and our own clients' probing.
//!
//! boringtun does not tell its deadlines, so a live session is looked at once a second, and exactly at the
//! deadlines that are ours: a retry with jitter (whitepaper §6.4), a keepalive, a revival after the protocol
//! gave up. The two silences (10 s and 15 s) are timed here too: boringtun compares times of ticks, and never
//! ends a silence that began within one. A *brisk* session is one of a client that introduces itself: it notices after one
//! silent second that its edge has restarted, where plain WireGuard takes fifteen.

use crate::entropy::Entropy;
use std::time::{Duration, Instant};

/// boringtun's own timers are seconds long; a look a second keeps them within one.
const LOOK: Duration = Duration::from_secs(1);
/// Rekey-Timeout and its jitter (whitepaper §6.1, §6.4).
const RETRY: Duration = Duration::from_secs(5);
const RETRY_JITTER: Duration = Duration::from_millis(333);
/// A brisk session's first retries.
const BRISK_RETRY: Duration = Duration::from_millis(800);
const BRISK_ATTEMPTS: u32 = 6;
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a brisk session waits for an answer to its data; doubled by each probe that found the edge alive.
const PATIENCE: Duration = Duration::from_secs(1);
/// Keepalive-Timeout + Rekey-Timeout: how long plain WireGuard waits (whitepaper §6.4).
const MAX_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// The session's entry in [`crate::timers::Timers`].
    pub(crate) due: Instant,
    /// Last authenticated message in either direction.
    traversal: Instant,
    heard: Option<Instant>,
    /// First data sent since we heard of the peer.
    awaiting: Option<Instant>,
    /// First data received since we sent anything.
    owing: Option<Instant>,
    patience: Duration,
    retry_at: Option<Instant>,
    attempts: u32,
    /// Initiations since the last handshake that ended, over expiry and revival.
    unanswered: u32,
    revive_at: Option<Instant>,
}

impl Schedule {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            due: now,
            traversal: now,
            heard: None,
            awaiting: None,
            owing: None,
            patience: PATIENCE,
            retry_at: None,
            attempts: 0,
            unanswered: 0,
            revive_at: None,
        }
    }

    /// We sent an initiation.
    pub(crate) fn initiated(&mut self, now: Instant, brisk: bool, rng: &mut Entropy) {
        self.attempts = self.attempts.saturating_add(1);
        self.unanswered = self.unanswered.saturating_add(1);
        self.traversal = now;
        self.revive_at = None;
        let interval = if brisk && self.attempts <= BRISK_ATTEMPTS { BRISK_RETRY } else { RETRY };
        self.retry_at = Some(now + interval + rng.jitter(RETRY_JITTER));
    }

    /// The peer answered our initiation, or we answered the peer's.
    pub(crate) fn handshake_ended(&mut self) {
        if self.awaiting.take().is_some() {
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
        }
        self.attempts = 0;
        self.unanswered = 0;
        self.retry_at = None;
        self.revive_at = None;
    }

    /// We sent an authenticated message.
    pub(crate) fn sent(&mut self, now: Instant, data: bool) {
        self.traversal = now;
        self.owing = None;
        if data {
            self.awaiting.get_or_insert(now);
        }
    }

    /// The peer sent an authentic message.
    pub(crate) fn heard(&mut self, now: Instant, data: bool) {
        self.traversal = now;
        self.heard = Some(now);
        if data {
            self.owing.get_or_insert(now);
        }
        if self.awaiting.take().is_some_and(|since| now.saturating_duration_since(since) < PATIENCE) {
            self.patience = PATIENCE;
        }
    }

    /// Whether the peer spoke within the last Keepalive-Timeout + Rekey-Timeout, so that it surely lives.
    pub(crate) fn heard_lately(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now.saturating_duration_since(heard) < MAX_PATIENCE)
    }

    /// Whether this handshake is not the first attempt.
    pub(crate) const fn is_retrying(&self) -> bool {
        self.attempts > 0
    }

    /// Initiations that we sent since the last handshake that ended.
    pub(crate) const fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// The protocol gave up. With `revive` we begin again, spread over one Rekey-Timeout so that the peers of
    /// an edge that was away do not all come at once.
    pub(crate) fn expired(&mut self, now: Instant, revive: bool, rng: &mut Entropy) {
        self.attempts = 0;
        self.retry_at = None;
        self.awaiting = None;
        self.owing = None;
        self.revive_at = revive.then(|| now + rng.jitter(RETRY));
    }

    /// Whether we are going to begin again by ourselves.
    pub(crate) const fn is_reviving(&self) -> bool {
        self.revive_at.is_some()
    }

    /// Whether a brisk session must repeat its initiation now; for others boringtun's timer does it.
    pub(crate) fn brisk_retry_is_due(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|at| at <= now)
    }

    /// Whether a tick would repeat an initiation before its jitter has passed: boringtun's own retry has none.
    pub(crate) fn holds_retry(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|at| now < at && at < now + RETRY_JITTER)
    }

    /// Whether to begin a handshake now: a revival, or data stayed without an answer.
    pub(crate) fn handshake_is_due(&self, now: Instant, brisk: bool) -> bool {
        let revive = self.revive_at.is_some_and(|at| at <= now);
        self.retry_at.is_none() && (revive || self.probe_at(brisk).is_some_and(|at| at <= now))
    }

    /// When unanswered data makes us doubt the session.
    fn probe_at(&self, brisk: bool) -> Option<Instant> {
        let patience = if brisk { self.patience } else { MAX_PATIENCE };
        self.awaiting.map(|since| since + patience)
    }

    /// Whether a persistent keepalive is due: nothing went either way for `interval`.
    pub(crate) fn keepalive_is_due(&self, now: Instant, interval: Option<Duration>) -> bool {
        interval.is_some_and(|interval| now.saturating_duration_since(self.traversal) >= interval)
    }

    /// Whether the peer's data waits for an answer so long that a keepalive must be it (whitepaper §6.5).
    pub(crate) fn answer_is_due(&self, now: Instant) -> bool {
        self.owing.is_some_and(|since| now.saturating_duration_since(since) >= KEEPALIVE_TIMEOUT)
    }

    /// The next look, after everything that was due now is done.
    pub(crate) fn next(&self, now: Instant, keepalive: Option<Duration>, brisk: bool) -> Instant {
        let keepalive = keepalive.map(|interval| self.traversal + interval);
        let answer = self.owing.map(|since| since + KEEPALIVE_TIMEOUT);
        let wanted = [self.retry_at, self.revive_at, self.probe_at(brisk), keepalive, answer];
        let wanted = wanted.into_iter().flatten();
        // A deadline that passed and is still unmet has nowhere to go (no endpoint, no key): once a second.
        let next = wanted.filter(|at| *at > now).fold(now + LOOK, Instant::min);
        self.retry_at.filter(|_| self.holds_retry(next)).unwrap_or(next)
    }
}
