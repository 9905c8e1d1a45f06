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

#[cfg(test)]
mod tests {
    use super::*;

    fn event(last: u8) -> Event {
        let mut key = [7; 32];
        key[0] = last;
        Event::Expired { key: verona_contract::key::PublicKey::new(key).unwrap() }
    }

    #[test]
    fn a_slow_reader_loses_its_own_events_and_nobody_waits() {
        let mut subscribers = Subscribers::default();
        let slow = subscribers.add().unwrap();
        let quick = subscribers.add().unwrap();
        for _ in 0..QUEUE + 5 {
            subscribers.publish(&event(1));
            assert_eq!(quick.try_recv(), Ok(event(1)));
        }
        assert_eq!(subscribers.dropped(), 5);
        assert_eq!(slow.try_iter().count(), QUEUE);
        subscribers.publish(&event(2));
        assert_eq!(slow.try_recv(), Ok(event(2)), "a reader that caught up is served again");
    }

    #[test]
    fn the_number_is_bounded_and_a_place_comes_free_when_a_reader_goes() {
        let mut subscribers = Subscribers::default();
        let mut readers: Vec<_> = (0..SUBSCRIBERS).map(|_| subscribers.add().unwrap()).collect();
        assert!(subscribers.add().is_none());
        readers.pop();
        subscribers.publish(&event(1));
        assert!(subscribers.add().is_some());
    }
}
