//! Waiting until every worker has finished what it was at.
//!
//! A packet that was opened just before its peer was cut may still be in a worker's buffer. So whoever is told of
//! a cut waits here first, in the thread that asked: neither the engine nor a worker ever waits for it.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::Duration;

/// A worker's turn takes milliseconds. One that takes so long has died, and the data plane ends.
const PATIENCE: Duration = Duration::from_secs(1);

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

    /// Waits until each worker has passed, or is gone.
    pub(crate) fn wait(self) {
        for _ in 0..self.workers {
            if self.done.recv_timeout(PATIENCE).is_err() {
                return;
            }
        }
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
        passage.wait();
        assert_eq!(written.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn workers_that_are_gone_are_not_waited_for() {
        let (passage, sender) = Passage::of(2);
        drop(sender);
        passage.wait();
    }
}
