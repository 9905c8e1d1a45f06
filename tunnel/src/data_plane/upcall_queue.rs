//! The way from the workers up to the engine's thread: a bounded queue for each class of upcalls.
//!
//! A worker never waits: what finds no room is dropped, and the lane counts it. Each class has its own queue, so a
//! flood of introductions fills theirs and nobody else's. The engine is woken once a batch, not once an upcall.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use edge_tunnel_core::{Class, Upcall, Upcalls};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::sys::ancillary::Local;

/// Upcalls that wait, at most, of each class in its order: some 0.1 s of work each.
const ROOM: [usize; 4] = [4096, 512, 512, 256];

/// An upcall, and for a datagram the address of ours that it was sent to.
pub(super) struct Raised {
    pub(super) upcall: Upcall<Box<[u8]>>,
    pub(super) arrival: Option<(SocketAddr, Local)>,
}

/// A worker's end.
pub(super) struct Raiser {
    queues: [SyncSender<Raised>; 4],
    shared: Arc<Shared>,
    /// Where the datagrams of this batch came from and to.
    arrivals: Vec<(SocketAddr, Local)>,
    raised: bool,
}

/// The engine's end.
pub(super) struct UpcallQueue {
    queues: [Receiver<Raised>; 4],
    senders: [SyncSender<Raised>; 4],
    shared: Arc<Shared>,
}

struct Shared {
    wake: EventFd,
    /// Why a worker has ended, the first of them.
    failure: Mutex<Option<io::Error>>,
}

impl UpcallQueue {
    pub(super) fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let [(line, a), (answer, b), (initiation, c), (introduction, d)] = ROOM.map(mpsc::sync_channel);
        let shared = Arc::new(Shared { wake, failure: Mutex::new(None) });
        Ok(Self { queues: [a, b, c, d], senders: [line, answer, initiation, introduction], shared })
    }

    pub(super) fn raiser(&self) -> Raiser {
        let (queues, shared) = (self.senders.clone(), Arc::clone(&self.shared));
        Raiser { queues, shared, arrivals: Vec::with_capacity(64), raised: false }
    }

    /// The next upcall of a class.
    pub(super) fn next(&self, class: Class) -> Option<Raised> {
        self.queues[class as usize].try_recv().ok()
    }

    /// Takes back the wake-up: to be called before the queues are looked at.
    pub(super) fn clear_wake_up(&self) {
        let _ = self.shared.wake.read();
    }

    /// The error with which a worker has ended.
    pub(super) fn take_failure(&self) -> Option<io::Error> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl AsFd for UpcallQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

impl Raiser {
    /// To be called before a batch of datagrams is handled: which of them came to which address of ours.
    pub(super) fn begin_batch(&mut self, arrivals: impl Iterator<Item = (SocketAddr, Local)>) {
        self.arrivals.clear();
        self.arrivals.extend(arrivals);
    }

    /// Wakes the engine if anything was raised since the last time.
    pub(super) fn wake(&mut self) {
        if std::mem::take(&mut self.raised) {
            // Fails only when the counter is at its maximum, and then the engine is awake already.
            let _ = self.shared.wake.write(1);
        }
    }

    /// Tells that this worker has ended.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.raised = true;
        self.wake();
    }
}

impl Drop for Raiser {
    /// A worker that panics must not go unnoticed: the kernel would give it packets for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail(io::Error::other("a worker panicked"));
        }
    }
}

impl Upcalls for Raiser {
    fn push(&mut self, upcall: Upcall<&[u8]>) -> bool {
        let arrival = match &upcall {
            // The last one, if a peer wrote to several addresses: its newest wish.
            Upcall::Datagram(from, _) => {
                self.arrivals.iter().rev().find(|(source, _)| source == from).copied()
            }
            _ => None,
        };
        let queue = &self.queues[upcall.class() as usize];
        self.raised = true;
        queue.try_send(Raised { upcall: upcall.to_owned(), arrival }).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(kind: u8, length: usize) -> Vec<u8> {
        let mut octets = vec![0; length];
        octets[0] = kind;
        octets[1] = u8::from(kind == 0x10);
        octets
    }

    #[test]
    fn a_flood_of_introductions_leaves_room_for_the_others() {
        let queue = UpcallQueue::new().unwrap();
        let mut raiser = queue.raiser();
        let from = "192.0.2.1:1".parse().unwrap();
        let local = Local { address: [203, 0, 113, 1].into(), interface: 1 };
        raiser.begin_batch(std::iter::once((from, local)));
        let (introduction, initiation) = (datagram(0x10, 640), datagram(1, 148));
        let taken = (0..2 * ROOM[3]).filter(|_| raiser.push(Upcall::Datagram(from, &introduction))).count();
        assert_eq!(taken, ROOM[3], "bounded");
        assert!(raiser.push(Upcall::Datagram(from, &initiation)));
        assert!(raiser.push(Upcall::Datagram(from, &datagram(2, 92))));
        let next = queue.next(Class::Initiation).unwrap();
        assert_eq!(next.arrival, Some((from, local)));
        assert!(matches!(next.upcall, Upcall::Datagram(_, octets) if *octets == *initiation));
        assert!(queue.next(Class::Initiation).is_none());
        assert!(queue.next(Class::Answer).is_some(), "a response");
        assert_eq!((0..).map_while(|_: u32| queue.next(Class::Introduction)).count(), ROOM[3]);
    }

    #[test]
    fn a_worker_that_panics_is_a_failure() {
        let queue = UpcallQueue::new().unwrap();
        let mut raiser = queue.raiser();
        assert!(queue.take_failure().is_none());
        let worker = std::thread::spawn(move || {
            raiser.begin_batch(std::iter::empty());
            panic!("on purpose");
        });
        assert!(worker.join().is_err());
        assert!(queue.take_failure().is_some());
    }
}
