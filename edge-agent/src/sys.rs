//! System calls that Rust's libraries reach only by unsafe code.

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

/// The process that `command` starts gets `signal` when the thread that starts it ends: with this process, however that
/// ends.
pub fn end_with_parent(command: &mut Command, signal: Signal) {
    let set = move || set_pdeathsig(signal).map_err(io::Error::from);
    // SAFETY: between fork and exec only prctl(2) is called, a plain system call: nothing is allocated, no lock is
    // taken.
    unsafe { command.pre_exec(set) };
}

/// Sets an option of a socket that is a number.
///
/// # Errors
///
/// The kernel does not know it, or not here.
pub fn set_option(
    socket: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: the pointer is to a number of ours that lives through the call, of the length that is told.
    let done = unsafe { libc::setsockopt(socket, level, name, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `_IOWR('W', 6, int)` (linux/watchdog.h).
const WDIOC_SETTIMEOUT: libc::c_ulong = 0xc004_5706;

/// Sets how long a hardware watchdog waits for its feeding. Returns the seconds that it took.
///
/// # Errors
///
/// It is no watchdog, or has a fixed time.
pub fn set_watchdog_limit(device: RawFd, limit: Duration) -> io::Result<libc::c_int> {
    let mut seconds = libc::c_int::try_from(limit.as_secs()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the kernel reads and writes one number of ours, which lives through the call.
    let done = unsafe { libc::ioctl(device, WDIOC_SETTIMEOUT as _, &raw mut seconds) };
    if done == 0 { Ok(seconds) } else { Err(io::Error::last_os_error()) }
}

/// Octets of a TCP socket that the other side has not acknowledged (`SIOCOUTQ`, tcp(7)).
///
/// # Errors
///
/// The socket is none of TCP.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut octets: libc::c_int = 0;
    // SAFETY: the kernel writes one number of ours, which lives through the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ as _, &raw mut octets) };
    if done == 0 { Ok(usize::try_from(octets).unwrap_or(0)) } else { Err(io::Error::last_os_error()) }
}
