//! Waiting until every worker has finished what it was at.
//!
//! A packet that was opened just before its peer was cut may still be in a worker's buffer. So whoever is told of
//! a cut waits here first, in the thread that asked: neither the engine nor a worker ever waits for it.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

/// A worker's turn takes milliseconds, on a machine that is busy elsewhere perhaps a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// A worker has not been seen to finish: what was to be told must not be told.
#[derive(Debug, thiserror::Error)]
#[error("it is done, but a worker has not finished its turn, so a packet may be on its way yet")]
pub struct Unfinished;

/// What must be waited for before something is told.
#[derive(Debug)]
#[must_use]
pub(crate) struct Passage {
    done: Receiver<()>,
    workers: usize,
}

impl Passage {
    /// A passage of `workers`, and what each gets to say that it has passed.
    pub(super) fn of(workers: usize) -> (Self, SyncSender<()>) {
        let (sender, done) = mpsc::sync_channel(workers);
        (Self { done, workers }, sender)
    }

    /// Waits until each worker has passed. One that is gone writes no more.
    ///
    /// # Errors
    ///
    /// One has not, within 10 s.
    pub(crate) fn wait(self) -> Result<(), Unfinished> {
        self.wait_until(Instant::now() + PATIENCE)
    }

    pub(super) fn wait_until(self, deadline: Instant) -> Result<(), Unfinished> {
        for _ in 0..self.workers {
            match self.done.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => return Err(Unfinished),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn it_is_over_when_the_last_worker_has_passed() {
        let (passage, sender) = Passage::of(3);
        let written = Arc::new(AtomicUsize::new(0));
        for delay in [0, 20, 60] {
            let (sender, written) = (sender.clone(), Arc::clone(&written));
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(delay));
                written.fetch_add(1, Ordering::SeqCst);
                sender.send(()).unwrap();
            });
        }
        drop(sender);
        passage.wait().unwrap();
        assert_eq!(written.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn workers_that_are_gone_are_not_waited_for() {
        let (passage, sender) = Passage::of(2);
        drop(sender);
        passage.wait().unwrap();
    }

    #[test]
    fn a_worker_that_does_not_finish_is_told_of() {
        let (passage, sender) = Passage::of(2);
        sender.send(()).unwrap();
        assert!(passage.wait_until(Instant::now() + Duration::from_millis(5)).is_err());
    }
}
