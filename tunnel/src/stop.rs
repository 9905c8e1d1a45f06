//! A flag, set once, that threads can wait for in `poll` beside their own descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Clones share the flag.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    set: AtomicBool,
    event: EventFd,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self(Arc::new(Inner { set: AtomicBool::new(false), event })))
    }

    /// Sets the flag for ever. The descriptor becomes readable and stays so: nobody reads it.
    pub(crate) fn set(&self) {
        self.0.set.store(true, Ordering::Release);
        // Fails only when the counter is at its maximum, and then it is readable already.
        let _ = self.0.event.write(1);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
