//! The syscall layer: what neither `std` nor `nix` covers of capabilities. Decides nothing.

use nix::errno::Errno;
use std::io;

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits, in two halves.
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    /// 0 = the calling thread.
    pid: i32,
}

/// `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The permitted set of the calling thread.
pub(crate) fn permitted() -> Result<u64, Errno> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: version 3 of capget(2) takes a header and writes two halves; both live for the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    Errno::result(result)?;
    Ok(u64::from(halves[0].permitted) | u64::from(halves[1].permitted) << 32)
}

/// Makes `set` the effective, permitted and inheritable set of the calling thread.
pub(crate) fn set_capabilities(set: u64) -> Result<(), Errno> {
    let half = |bits: u32| Half { effective: bits, permitted: bits, inheritable: bits };
    let mut header = Header { version: VERSION_3, pid: 0 };
    let halves = [half(set as u32), half((set >> 32) as u32)];
    // SAFETY: version 3 of capset(2) takes a header and reads two halves; both live for the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Whether the bounding set of the calling thread has it; none: the kernel knows no such capability.
pub(crate) fn in_bounding_set(number: u8) -> Option<bool> {
    // SAFETY: the option reads a bit and takes no pointers.
    match unsafe { libc::prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(number), 0, 0, 0) } {
        result if result < 0 => None,
        result => Some(result == 1),
    }
}

/// Takes it out of the bounding set of the calling thread.
pub(crate) fn drop_from_bounding_set(number: u8) -> Result<(), Errno> {
    // SAFETY: the option clears a bit and takes no pointers.
    Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) })
        .map(drop)
}

/// Lets the permitted set outlive a change of user.
pub(crate) fn keep_capabilities() -> Result<(), Errno> {
    // SAFETY: the option sets a flag and takes no pointers.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) }).map(drop)
}

/// Leaves it to programs that are started.
pub(crate) fn make_ambient(number: u8) -> Result<(), Errno> {
    let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
    // SAFETY: the option sets a bit and takes no pointers.
    let result = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, libc::c_ulong::from(number), 0, 0) };
    Errno::result(result).map(drop)
}

/// Whether the calling thread is the process's only one.
pub(crate) fn single_threaded() -> io::Result<bool> {
    Ok(std::fs::read_dir("/proc/self/task")?.count() == 1)
}
