//! When a live peer must be looked at again: retries, keepalives, revival, and our own clients' probing.
//!
//! boringtun's timers are not used: they have no jitter, do not revive, and would begin handshakes in the
//! middle of the data. [`Activity`] is what the data path notes as it goes; [`Attempts`] is what the engine
//! knows of handshakes under way. A live peer is looked at once a second, and exactly at a retry with jitter
//! (whitepaper §6.4), a keepalive, a revival. A *brisk* peer is that of a client which introduces itself: it
//! notices after one silent second that its edge has restarted, where plain WireGuard takes fifteen.

use crate::entropy::Entropy;
use std::time::{Duration, Instant};

/// Between two looks at a live peer without a deadline: the certificate is checked again at each.
const LOOK: Duration = Duration::from_secs(1);
/// Rekey-Timeout and its jitter (whitepaper §6.1, §6.4).
const RETRY: Duration = Duration::from_secs(5);
const RETRY_JITTER: Duration = Duration::from_millis(333);
/// Rekey-Attempt-Time: how long a handshake is tried.
const GIVE_UP: Duration = Duration::from_secs(90);
/// Three times Reject-After-Time: without new keys for so long, everything secret goes.
const FORGET: Duration = Duration::from_secs(540);
/// A brisk peer's first retries.
const BRISK_RETRY: Duration = Duration::from_millis(800);
const BRISK_ATTEMPTS: u32 = 6;
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a brisk peer waits for an answer to its data; doubled by each probe that found the edge alive.
const PATIENCE: Duration = Duration::from_secs(1);
/// Keepalive-Timeout + Rekey-Timeout: how long plain WireGuard waits (whitepaper §6.4).
const MAX_PATIENCE: Duration = Duration::from_secs(15);

/// What passes over a line, as far as timers care.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activity {
    /// Last authenticated message in either direction.
    traversal: Instant,
    heard: Option<Instant>,
    /// First data sent since we heard of the peer.
    awaiting: Option<Instant>,
    /// First data received since we sent anything.
    owing: Option<Instant>,
    patience: Duration,
}

impl Activity {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { traversal: now, heard: None, awaiting: None, owing: None, patience: PATIENCE }
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

    /// We sent an initiation.
    pub(crate) const fn initiated(&mut self, now: Instant) {
        self.traversal = now;
    }

    /// The peer answered our initiation, or we answered the peer's.
    pub(crate) fn handshake_ended(&mut self) {
        if self.awaiting.take().is_some() {
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
        }
    }

    /// The protocol gave up: nothing is waited for any more.
    pub(crate) const fn expired(&mut self) {
        self.awaiting = None;
        self.owing = None;
    }

    /// Whether the peer spoke within the last Keepalive-Timeout + Rekey-Timeout, so that it surely lives.
    pub(crate) fn heard_lately(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now.saturating_duration_since(heard) < MAX_PATIENCE)
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
}

/// The handshakes that we begin with one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempts {
    /// The peer's entry in [`crate::timers::Timers`].
    pub(crate) due: Instant,
    /// When the state was made, or the last handshake ended.
    renewed: Instant,
    began: Option<Instant>,
    retry_at: Option<Instant>,
    attempts: u32,
    /// Initiations since the last handshake that ended, over expiry and revival.
    unanswered: u32,
    revive_at: Option<Instant>,
    expired: bool,
}

impl Attempts {
    pub(crate) const fn new(now: Instant) -> Self {
        Self {
            due: now,
            renewed: now,
            began: None,
            retry_at: None,
            attempts: 0,
            unanswered: 0,
            revive_at: None,
            expired: false,
        }
    }

    /// We sent an initiation.
    pub(crate) fn initiated(&mut self, now: Instant, brisk: bool, rng: &mut Entropy) {
        self.attempts = self.attempts.saturating_add(1);
        self.unanswered = self.unanswered.saturating_add(1);
        self.began.get_or_insert(now);
        self.revive_at = None;
        self.expired = false;
        let interval = if brisk && self.attempts <= BRISK_ATTEMPTS { BRISK_RETRY } else { RETRY };
        self.retry_at = Some(now + interval + rng.jitter(RETRY_JITTER));
    }

    /// The peer answered our initiation, or we answered the peer's.
    pub(crate) const fn handshake_ended(&mut self, now: Instant) {
        *self = Self { due: self.due, ..Self::new(now) };
    }

    /// Whether a handshake of ours waits for its answer.
    pub(crate) const fn is_under_way(&self) -> bool {
        self.retry_at.is_some()
    }

    /// For how long the handshake that waits for its answer was tried; zero without one.
    pub(crate) fn tried(&self, now: Instant) -> Duration {
        self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began))
    }

    /// Whether an initiation must be repeated now.
    pub(crate) fn retry_is_due(&self, now: Instant) -> bool {
        self.retry_at.is_some_and(|at| at <= now)
    }

    /// Initiations that we sent since the last handshake that ended.
    pub(crate) const fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Whether the protocol gives up now: a handshake was tried for too long, or the last one is too old.
    pub(crate) fn gives_up(&self, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        let tried = self.retry_is_due(now) && self.began.is_some_and(|began| since(began) >= GIVE_UP);
        !self.expired && (tried || since(self.renewed) >= FORGET)
    }

    /// The protocol gave up. With `revive` we begin again, spread over one Rekey-Timeout so that the peers of
    /// an edge that was away do not all come at once.
    pub(crate) fn expired(&mut self, now: Instant, revive: bool, rng: &mut Entropy) {
        self.attempts = 0;
        self.began = None;
        self.retry_at = None;
        self.renewed = now;
        self.expired = true;
        self.revive_at = revive.then(|| now + rng.jitter(RETRY));
    }

    /// Whether nothing will happen until somebody uses the peer: the protocol gave up, and nobody asked to
    /// revive.
    pub(crate) const fn is_asleep(&self) -> bool {
        self.expired && self.revive_at.is_none()
    }

    /// Whether to begin a handshake now: a revival, or data stayed without an answer.
    pub(crate) fn handshake_is_due(&self, now: Instant, activity: &Activity, brisk: bool) -> bool {
        let revive = self.revive_at.is_some_and(|at| at <= now);
        self.retry_at.is_none() && (revive || activity.probe_at(brisk).is_some_and(|at| at <= now))
    }

    /// The next look, after everything that was due now is done.
    pub(crate) fn next(
        &self,
        now: Instant,
        activity: &Activity,
        keepalive: Option<Duration>,
        brisk: bool,
    ) -> Instant {
        let keepalive = keepalive.map(|interval| activity.traversal + interval);
        let answer = activity.owing.map(|since| since + KEEPALIVE_TIMEOUT);
        let wanted = [self.retry_at, self.revive_at, activity.probe_at(brisk), keepalive, answer];
        // A deadline that passed and is still unmet has nowhere to go (no endpoint, no key): once a second.
        wanted.into_iter().flatten().filter(|at| *at > now).fold(now + LOOK, Instant::min)
    }
}
