//! A DHCPv6 client (RFC 8415) that asks for an address, a prefix for the local networks, name servers and the
//! tunnel's end of DS-Lite.
//!
//! [`Client::poll`] gives what to send, [`Client::handle`] takes what came, [`Client::deadline`] is when to poll again.
//! Times are milliseconds of any clock that does not jump. The first server that offers something is taken: a line
//! has one. What it says is checked as what a stranger says.

mod message;

pub use message::{Lease, Option6};

use message::{Kind, Message};

/// Retransmission times in milliseconds, RFC 8415 §7.6: the first, the longest.
const SOLICIT: (u64, u64) = (1_000, 120_000);
const REQUEST: (u64, u64) = (1_000, 30_000);
const RENEW: (u64, u64) = (10_000, 600_000);

/// How often a server is asked for what it has offered.
const MAX_REQUESTS: u32 = 10;

/// What the client does now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Looks for a server.
    Soliciting,
    /// Asks one for what it offered.
    Requesting { offer: Lease },
    /// Has a lease.
    Bound,
    /// Asks its server for more time.
    Renewing,
    /// Asks any server.
    Rebinding,
}

/// The client of one line.
#[derive(Clone, Debug)]
pub struct Client {
    duid: Vec<u8>,
    state: State,
    /// The exchange: its number, when it began, how often it was sent, the last pause.
    transaction: [u8; 3],
    begun: u64,
    sent: u32,
    pause: u64,
    due: u64,
    lease: Option<Held>,
}

/// A lease and when it was given.
#[derive(Clone, Debug)]
struct Held {
    lease: Lease,
    since: u64,
}

impl Held {
    fn at(&self, seconds: u32) -> u64 {
        self.since.saturating_add(u64::from(seconds) * 1000)
    }
}

impl Client {
    /// Will ask as the client of this identity (RFC 8415 §11, at most 130 octets).
    #[must_use]
    pub fn new(duid: Vec<u8>, now: u64) -> Self {
        let state = State::Soliciting;
        Self { duid, state, transaction: [0; 3], begun: now, sent: 0, pause: 0, due: now, lease: None }
    }

    /// What is held.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref().map(|held| &held.lease)
    }

    /// When [`Self::poll`] has something to do.
    #[must_use]
    pub const fn deadline(&self) -> u64 {
        self.due
    }

    /// What to send now, if anything. `entropy` is 32 random bits.
    pub fn poll(&mut self, now: u64, entropy: u32) -> Option<Vec<u8>> {
        if now < self.due {
            return None;
        }
        self.advance(now);
        if matches!(self.state, State::Bound) {
            return None;
        }
        let (first, longest) = match self.state {
            State::Soliciting => SOLICIT,
            State::Requesting { .. } => REQUEST,
            State::Bound | State::Renewing | State::Rebinding => RENEW,
        };
        if self.sent == 0 {
            let [a, b, c, _] = entropy.to_be_bytes();
            (self.transaction, self.begun, self.pause) = ([a, b, c], now, first);
        } else {
            self.pause = (self.pause * 2).min(longest);
        }
        self.sent += 1;
        // A tenth more or less, so that a street whose power comes back does not ask in step.
        let jitter = u64::from(entropy >> 8) % (self.pause / 5 + 1);
        self.due = now + self.pause - self.pause / 10 + jitter;
        if let Some(held) = &self.lease {
            let ends = [held.at(held.lease.rebind), held.at(held.lease.valid())];
            self.due = ends.into_iter().filter(|end| *end > now).fold(self.due, u64::min);
        }
        Some(self.message(now))
    }

    /// The next state, when the time of this one is over.
    fn advance(&mut self, now: u64) {
        let ends = |held: &Held| held.at(held.lease.valid());
        if self.lease.as_ref().is_some_and(|held| now >= ends(held)) {
            self.lease = None;
            self.enter(State::Soliciting, now);
        }
        let Some(held) = &self.lease else {
            if matches!(self.state, State::Requesting { .. }) && self.sent >= MAX_REQUESTS {
                self.enter(State::Soliciting, now);
            }
            return;
        };
        let (renew, rebind) = (held.at(held.lease.renew), held.at(held.lease.rebind));
        match self.state {
            State::Bound if now >= renew => self.enter(State::Renewing, now),
            State::Renewing if now >= rebind => self.enter(State::Rebinding, now),
            _ => {}
        }
    }

    fn enter(&mut self, state: State, now: u64) {
        (self.state, self.sent, self.due) = (state, 0, now);
    }

    fn message(&self, now: u64) -> Vec<u8> {
        let elapsed = u16::try_from(now.saturating_sub(self.begun) / 10).unwrap_or(u16::MAX);
        let lease = self.lease();
        let (kind, server, asked) = match &self.state {
            State::Requesting { offer } => (Kind::Request, Some(offer.server.as_slice()), Some(offer)),
            State::Renewing => (Kind::Renew, lease.map(|lease| lease.server.as_slice()), lease),
            State::Rebinding => (Kind::Rebind, None, lease),
            State::Soliciting | State::Bound => (Kind::Solicit, None, None),
        };
        message::write(kind, self.transaction, &self.duid, server, elapsed, asked)
    }

    /// Takes a datagram of the line. Returns whether the lease changed.
    pub fn handle(&mut self, datagram: &[u8], now: u64) -> bool {
        let Some(Message { kind, lease }) = message::read(datagram, self.transaction, &self.duid) else {
            return false;
        };
        match (&self.state, kind) {
            (State::Soliciting, Kind::Advertise) if self.sent > 0 => {
                if let Some(offer) = lease {
                    self.enter(State::Requesting { offer }, now);
                }
                false
            }
            (State::Requesting { .. } | State::Renewing | State::Rebinding, Kind::Reply) if self.sent > 0 => {
                let Some(lease) = lease else {
                    // It has nothing for us any more: from the beginning.
                    self.enter(State::Soliciting, now);
                    return self.lease.take().is_some();
                };
                let changed = self.lease().is_none_or(|before| !before.gives_the_same(&lease));
                let held = Held { lease, since: now };
                self.due = held.at(held.lease.renew);
                (self.state, self.lease) = (State::Bound, Some(held));
                changed
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
