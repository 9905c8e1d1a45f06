//! Process-level calls: fork and taking over descriptors that a parent process passed by number, both before any
//! thread exists; and who the process at the other end of a socket is.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

/// The supplementary groups that the process at the other end had when it connected (SO_PEERGROUPS, unix(7)).
///
/// # Errors
///
/// `ERANGE` if it has more than fit; `stream` is no Unix socket.
pub(crate) fn peer_groups(stream: BorrowedFd<'_>) -> io::Result<Vec<libc::gid_t>> {
    // Users of a box are in one or two.
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    let mut octets = libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or(0);
    // SAFETY: both pointers are to memory of ours that lives through the call; the kernel writes at most as many
    // octets to the first as the second tells, and there how many they are.
    let done = unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERGROUPS);
        libc::getsockopt(stream.as_raw_fd(), level, option, groups.as_mut_ptr().cast(), &raw mut octets)
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(octets as usize / size_of::<libc::gid_t>());
    Ok(groups)
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
