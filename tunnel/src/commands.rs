//! The way into the data-plane thread: a bounded queue of jobs and an eventfd that wakes it.
//!
//! Control threads do what takes long (parsing, signatures) themselves and send only the finished
//! change. The data plane runs the jobs first on each turn, so a revocation waits for one batch of
//! packets at most; packets never wait for a control thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::data_plane::DataPlane;

/// Jobs that may wait. A sender blocks beyond that, which is right for a control thread.
const QUEUE: usize = 64;

/// Something to do in the data-plane thread, between two batches. It must not block.
type Job = Box<dyn FnOnce(&mut DataPlane) + Send>;

/// The data plane has ended: the interface was deleted, or the device shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device has stopped")]
pub struct Stopped;

/// Sends jobs to the data plane. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Commands {
    jobs: SyncSender<Job>,
    wake: Arc<EventFd>,
}

impl Commands {
    /// Runs `job` in the data-plane thread and returns what it returned.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut DataPlane) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |data_plane| {
            // The receiver waits below, so this fails only if that thread died.
            let _ = answer.send(job(data_plane));
        });
        self.jobs.send(job).map_err(|_| Stopped)?;
        self.wake();
        result.recv().map_err(|_| Stopped)
    }

    fn wake(&self) {
        // Fails only when the counter is at its maximum, and then the data plane is awake already.
        let _ = self.wake.write(1);
    }
}

/// The data plane's end of the queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    jobs: Receiver<Job>,
    wake: Arc<EventFd>,
}

impl Inbox {
    /// The next job, if one waits.
    pub(crate) fn next(&self) -> Option<Job> {
        self.jobs.try_recv().ok()
    }

    /// Takes back the wake-up: to be called before the queue is looked at.
    pub(crate) fn clear_wake_up(&self) {
        let _ = self.wake.read();
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Makes both ends.
pub(crate) fn channel() -> io::Result<(Commands, Inbox)> {
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
    let (sender, receiver) = mpsc::sync_channel(QUEUE);
    Ok((Commands { jobs: sender, wake: Arc::clone(&wake) }, Inbox { jobs: receiver, wake }))
}
