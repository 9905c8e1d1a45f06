//! Process-level calls that must happen before any thread exists: fork, and taking over descriptors
//! that a parent process passed by number.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::unistd::ForkResult;

/// Forks the process.
///
/// # Errors
///
/// `EBUSY` if the process already has more than one thread: only the calling one would live on in
/// the child, and a lock held by another would stay locked for ever.
pub(crate) fn fork() -> io::Result<ForkResult> {
    if thread_count()? != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: the process has one thread (checked above), so the child is a full copy of it and may
    // call anything, not only async-signal-safe functions.
    unsafe { nix::unistd::fork() }.map_err(io::Error::from)
}

/// Takes ownership of descriptor `number`, which the parent process passed on purpose.
///
/// # Errors
///
/// `EBADF` if no such descriptor is open; `EINVAL` for the three standard streams.
pub(crate) fn inherited_fd(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: F_GETFD reads a flag of a descriptor and touches no memory; a wrong number is an error.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open (checked above). The parent gave its number to us by name
    // (WG_TUN_FD, WG_UAPI_FD) and nothing else in this process was told it, so it has one owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}
