//! Which socket of a group on one port gets a datagram (SO_ATTACH_REUSEPORT_CBPF of socket(7)).
//!
//! A classic BPF program: a transport message goes to the socket whose number is that of the
//! shard of its receiver; the kernel spreads everything else by the flow.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The first octet of a transport message (WireGuard paper §5.4.6).
const TRANSPORT: u32 = 4;
/// Octet 5 of a transport message: bits 8 to 15 of the receiver's index. Its lowest bit tells two transports of a
/// peer apart, the seven above it are the lowest of the peer's number, which choose its shard.
const RECEIVER: u32 = 5;
/// No such socket, so the kernel chooses.
const NONE: u32 = u32::MAX;

/// Steers the datagrams of the group of `count` sockets that `socket` belongs to. Sockets are numbered in the
/// order in which they were bound.
pub(crate) fn by_receiver(socket: BorrowedFd<'_>, count: usize) -> io::Result<()> {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    // The data begin with the UDP payload. A load beyond its end ends the program with 0, the first socket.
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, 0, TRANSPORT),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, NONE),
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, RECEIVER),
        instruction(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 0, 0, 1),
        instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, count as u32),
        instruction(libc::BPF_RET | libc::BPF_A, 0, 0, 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
    // SAFETY: the option's value is a `struct sock_fprog`, whose pointer and length are those of `program`; the
    // kernel copies both before the call returns. The descriptor is borrowed for the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
