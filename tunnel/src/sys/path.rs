//! What a UDP socket does about the path: the "don't fragment" flag, and what it had to drop.
//!
//! The flag is a state of the socket (IP_MTU_DISCOVER of ip(7)), not a property of a message, so who sends
//! changes it between messages. The kernel's own record of path MTUs is left out of it: anybody who can guess
//! our port could write there.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// What happens to a datagram that is larger than a link on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooLarge {
    /// It is dropped, and we are told where routers are allowed to tell.
    Drop,
    /// It goes on in fragments: made by routers in IPv4, by our host in IPv6.
    Fragment,
}

/// Sets what becomes of datagrams sent from now on.
pub(crate) fn set_too_large(socket: BorrowedFd<'_>, v6: bool, too_large: TooLarge) -> io::Result<()> {
    let (level, name, value) = match (v6, too_large) {
        // The flag is set, and only the device's MTU is asked.
        (false, TooLarge::Drop) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        // With IP_PMTUDISC_DONT a router's answer to an earlier probe would be kept from us.
        (false, TooLarge::Fragment) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT),
        (true, TooLarge::Drop) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
        (true, TooLarge::Fragment) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
    };
    // SAFETY: the option takes an int, which lives over the call; the descriptor is borrowed for it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Datagrams that the socket had no room for since it was opened; counts up to 2³² and begins again.
pub(crate) fn receive_dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the option fills an array of u32 up to the given length, and says in `length` how far; both live
    // over the call. The descriptor is borrowed for it.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            ptr::from_mut(&mut info).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(info[libc::SK_MEMINFO_DROPS as usize]) }
}
