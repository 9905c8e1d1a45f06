//! The engine's half of a live peer: handshakes under way and its place in the timers. The other half, the
//! keys, is the peer's line, which a session opens when it is made and closes when it goes, whatever the way.

use crate::forwarder::Forwarder;
use crate::line::{Line, Site};
use crate::peers::PeerId;
use crate::schedule::Attempts;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

pub(crate) struct Session {
    pub(crate) attempts: Attempts,
    /// Until when the last proven keys serve. The line knows it exactly; here no lock is needed.
    pub(crate) keys_until: Option<Instant>,
    /// Whether any session of this peer was proven.
    pub(crate) proven: bool,
    /// The timestamp of our last initiation: the next one must be later, whichever transport makes it.
    pub(crate) last_stamp: Option<SystemTime>,
    forwarder: Arc<Forwarder>,
    id: PeerId,
}

impl Session {
    /// Opens the line of an admitted peer.
    pub(crate) fn new(forwarder: &Arc<Forwarder>, id: PeerId, site: Site, now: Instant) -> Self {
        forwarder.open_line(id, site, now);
        Self {
            attempts: Attempts::new(now),
            keys_until: None,
            proven: false,
            last_stamp: None,
            forwarder: forwarder.clone(),
            id,
        }
    }

    /// Whether there are proven keys.
    pub(crate) fn has_keys(&self, now: Instant) -> bool {
        self.keys_until.is_some_and(|until| now < until)
    }

    /// Closes the line and gives what is left of it.
    pub(crate) fn close(self) -> Option<Box<Line>> {
        self.forwarder.close_line(self.id)
        // Dropping `self` finds no line any more.
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.forwarder.close_line(self.id);
    }
}
