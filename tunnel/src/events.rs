//! Hands the engine's events to subscribers without ever waiting for one.
//!
//! Each subscriber has a bounded queue. What does not fit is dropped and counted: a slow reader costs
//! its own events, never a packet.

use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};

use verona_contract::control::Event;

/// Events that may wait for one subscriber.
const QUEUE: usize = 1024;

/// Subscribers at a time.
const SUBSCRIBERS: usize = 16;

/// The data plane's list of subscribers.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    queues: Vec<SyncSender<Event>>,
    dropped: u64,
}

impl Subscribers {
    /// Adds a subscriber; `None` when there are too many. It is removed when its receiver is dropped.
    pub(crate) fn add(&mut self) -> Option<Receiver<Event>> {
        if self.queues.len() >= SUBSCRIBERS {
            return None;
        }
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        self.queues.push(sender);
        Some(receiver)
    }

    pub(crate) fn publish(&mut self, event: &Event) {
        let dropped = &mut self.dropped;
        self.queues.retain(|queue| match queue.try_send(event.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                *dropped += 1;
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
    }

    /// Events that a full queue did not take, since start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}
