//! `recvmmsg(2)` and `sendmmsg(2)` over buffers that are allocated once and reused.
//!
//! The `mmsghdr` array, its `iovec`s and socket addresses are filled anew for each call, so no
//! structure here points into itself between calls. A call moves up to [`BATCH`] datagrams.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::ancillary::{self, Departure, Local, Witness};

/// Datagrams per system call. More amortises the call better but lets one socket hold the thread
/// longer; wireguard-go and the kernel's NAPI budget are of the same order.
pub(crate) const BATCH: usize = 64;

/// What `recvmmsg` filled: how long each slot is and from whom. The octets are in the caller's
/// buffer, slot by slot; with UDP_GRO a slot may hold several datagrams of one sender.
pub(crate) struct Received {
    from: Box<[Address]>,
    /// Control messages, and how much of each was filled.
    control: Box<[Control]>,
    control_lengths: Box<[usize]>,
    lengths: Box<[usize]>,
}

/// What one slot of the last batch holds.
pub(crate) struct Slot {
    /// The source; none if it is no IP address.
    pub(crate) from: Option<SocketAddr>,
    /// Octets in the slot.
    pub(crate) length: usize,
    /// Octets of each datagram in it but the last one, at least 1.
    pub(crate) segment: usize,
    /// ToS or traffic class of all of them, if the socket has IP_RECVTOS or IPV6_RECVTCLASS on: the kernel
    /// joins none that differ in it.
    pub(crate) tos: u8,
}

impl Received {
    /// For a buffer of `slots` slots.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            from: vec![Address::empty(); slots].into_boxed_slice(),
            control: vec![Control::EMPTY; slots].into_boxed_slice(),
            control_lengths: vec![0; slots].into_boxed_slice(),
            lengths: vec![0; slots].into_boxed_slice(),
        }
    }

    /// What the last call that was given slot `number` put there; none if there is no such slot.
    pub(crate) fn slot(&self, number: usize) -> Option<Slot> {
        let (from, length) = (self.from.get(number)?.ip(), *self.lengths.get(number)?);
        let arrival = self.control(number).map(ancillary::arrival).unwrap_or_default();
        Some(Slot { from, length, segment: arrival.segment.unwrap_or(length.max(1)), tos: arrival.tos })
    }

    /// The local address and interface that datagram `slot` came to, if the socket has IP_PKTINFO or
    /// IPV6_RECVPKTINFO on.
    pub(crate) fn local(&self, slot: usize) -> Option<Local> {
        ancillary::local(self.control(slot)?)
    }

    /// What the error in `slot` says about size, after [`receive_errors`].
    pub(crate) fn too_big(&self, slot: usize) -> Option<(Witness, u16)> {
        ancillary::too_big(self.control(slot)?)
    }

    fn control(&self, slot: usize) -> Option<&[u8]> {
        self.control.get(slot)?.0.get(..*self.control_lengths.get(slot)?)
    }
}

/// Receives up to [`BATCH`] datagrams without blocking, each into one of the slots of `size` octets of
/// `buffer` that are free. Appends the numbers of the slots filled to `filled`, oldest datagram first. A datagram
/// longer than a slot is cut; callers use slots of the largest size there is.
///
/// # Errors
///
/// `WouldBlock` when nothing is there; else what the kernel reports for the socket.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    size: usize,
    free: impl Fn(usize) -> bool,
    into: &mut Received,
    filled: &mut Vec<usize>,
) -> io::Result<usize> {
    receive_flagged(socket, (buffer, size), free, (into, filled), 0)
}

/// Receives what waits in the socket's error queue, without blocking, as [`receive`] does: of each error the
/// destination of the datagram that caused it, in the place of the source, and of its octets as many as were
/// quoted.
///
/// # Errors
///
/// As [`receive`].
pub(crate) fn receive_errors(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    size: usize,
    into: &mut Received,
    filled: &mut Vec<usize>,
) -> io::Result<usize> {
    receive_flagged(socket, (buffer, size), |_| true, (into, filled), libc::MSG_ERRQUEUE)
}

fn receive_flagged(
    socket: BorrowedFd<'_>,
    (buffer, size): (&mut [u8], usize),
    free: impl Fn(usize) -> bool,
    (into, filled): (&mut Received, &mut Vec<usize>),
    flags: libc::c_int,
) -> io::Result<usize> {
    let mut iovecs = [EMPTY_IOVEC; BATCH];
    let mut headers = empty_headers();
    let mut numbers = [0; BATCH];
    let sources = into.from.iter_mut().zip(&mut into.control);
    let slots = buffer.chunks_exact_mut(size).zip(sources).enumerate().filter(|(number, _)| free(*number));
    let mut count: libc::c_uint = 0;
    for ((((number, (octets, (from, control))), chosen), iovec), header) in
        slots.zip(&mut numbers).zip(&mut iovecs).zip(&mut headers)
    {
        *chosen = number;
        *iovec = libc::iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: octets.len() };
        // What an earlier batch left in the address is unreadable with length 0 and overwritten below.
        from.length = 0;
        header.msg_hdr.msg_name = ptr::from_mut(&mut from.storage).cast();
        header.msg_hdr.msg_namelen = Address::CAPACITY;
        header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
        header.msg_hdr.msg_controllen = control.0.len() as _;
        header.msg_hdr.msg_iov = iovec;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    // SAFETY: `headers[..count]` point at `iovecs`, `into.from`, `into.control` and distinct slots of
    // `buffer`, all of which outlive the call and are borrowed by nobody else; each length is that of
    // its object. A null timeout is allowed.
    let result = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            (libc::MSG_DONTWAIT | flags) as _,
            ptr::null_mut(),
        )
    };
    // A negative result is the only one that does not fit.
    let Ok(received) = usize::try_from(result) else { return Err(io::Error::last_os_error()) };
    for (&number, header) in numbers.iter().zip(&headers).take(received) {
        into.from[number].length = header.msg_hdr.msg_namelen;
        #[allow(clippy::unnecessary_cast)] // size_t in glibc, socklen_t in musl
        let control_length = header.msg_hdr.msg_controllen as usize;
        into.control_lengths[number] = control_length;
        into.lengths[number] = header.msg_len as usize;
        filled.push(number);
    }
    Ok(received)
}

/// Room for the addresses of one [`send`] call, reused from call to call.
pub(crate) struct Names {
    to: Box<[Address]>,
    control: Box<[Control]>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            to: vec![Address::empty(); BATCH].into_boxed_slice(),
            control: vec![Control::EMPTY; BATCH].into_boxed_slice(),
        }
    }
}

/// One message of a [`send`] call: a datagram, or several of one length for the kernel to cut.
pub(crate) struct Outgoing<'a> {
    pub(crate) to: SocketAddr,
    /// The local address and interface to send from; the kernel chooses if there is none.
    pub(crate) from: Option<Local>,
    pub(crate) octets: &'a [u8],
    /// Octets of each datagram but the last one (UDP_SEGMENT); none = one datagram.
    pub(crate) segment: Option<u16>,
    /// ToS or traffic class.
    pub(crate) tos: u8,
}

/// Sends the first [`BATCH`] of `datagrams` without blocking and returns how many the kernel took,
/// at least one.
///
/// # Errors
///
/// What the kernel reports for the *first* datagram; none was sent then.
pub(crate) fn send<'a>(
    socket: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = Outgoing<'a>>,
    names: &mut Names,
) -> io::Result<usize> {
    let mut iovecs = [EMPTY_IOVEC; BATCH];
    let mut headers = empty_headers();
    let mut count: libc::c_uint = 0;
    let names = names.to.iter_mut().zip(&mut names.control);
    for (((datagram, (name, control)), iovec), header) in
        datagrams.zip(names).zip(&mut iovecs).zip(&mut headers)
    {
        *name = Address::from(datagram.to);
        // The kernel only reads through this pointer: sendmmsg takes no mutable data.
        *iovec = libc::iovec {
            iov_base: datagram.octets.as_ptr().cast_mut().cast(),
            iov_len: datagram.octets.len(),
        };
        header.msg_hdr.msg_name = ptr::from_mut(&mut name.storage).cast();
        header.msg_hdr.msg_namelen = name.length;
        let Outgoing { to, from, segment, tos, .. } = datagram;
        let length = ancillary::write(Departure { from, segment, tos, v6: to.is_ipv6() }, &mut control.0);
        if length > 0 {
            header.msg_hdr.msg_controllen = length as _;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
        }
        header.msg_hdr.msg_iov = iovec;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    // SAFETY: `headers[..count]` point at `iovecs`, `names` and the callers' octets ('a), all of
    // which outlive the call; the kernel writes nothing but `msg_len`.
    let result =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Has the kernel send without UDP checksums (SO_NO_CHECK), for which it refuses UDP_SEGMENT.
#[cfg(test)]
pub(crate) fn without_checksums(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the option's value is an `int`, which lives for the call and has the length that is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            ptr::from_ref(&on).cast(),
            length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const EMPTY_IOVEC: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

fn empty_headers() -> [libc::mmsghdr; BATCH] {
    // SAFETY: `mmsghdr` is a C structure of integers and pointers; all zeroes is a valid value.
    unsafe { mem::zeroed() }
}

/// Room for the control messages of one datagram, aligned as the kernel reads them.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; ancillary::ROOM]);

impl Control {
    const EMPTY: Self = Self([0; ancillary::ROOM]);
}

/// A socket address in the kernel's form.
#[derive(Clone, Copy)]
struct Address {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl Address {
    const CAPACITY: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

    fn empty() -> Self {
        // SAFETY: `sockaddr_storage` is a C structure of integers; all zeroes is a valid value.
        Self { storage: unsafe { mem::zeroed() }, length: 0 }
    }

    /// The address if it is an IP one. An IPv6 scope is kept, the flow label is not: it is not part
    /// of the identity of a peer's endpoint.
    fn ip(&self) -> Option<SocketAddr> {
        match libc::c_int::from(self.storage.ss_family) {
            libc::AF_INET if self.length as usize >= size_of::<libc::sockaddr_in>() => {
                // SAFETY: the kernel wrote a `sockaddr_in` (family and length say so) into storage
                // that is large enough and aligned for every socket address.
                let v4: libc::sockaddr_in = unsafe { ptr::read(ptr::from_ref(&self.storage).cast()) };
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 if self.length as usize >= size_of::<libc::sockaddr_in6>() => {
                // SAFETY: as above, with a `sockaddr_in6`.
                let v6: libc::sockaddr_in6 = unsafe { ptr::read(ptr::from_ref(&self.storage).cast()) };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let mut this = Self::empty();
        match address {
            SocketAddr::V4(v4) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                // SAFETY: `sockaddr_storage` is at least as large and as strictly aligned as any
                // socket address, and is exclusively ours here.
                unsafe { ptr::write(ptr::from_mut(&mut this.storage).cast(), raw) };
                this.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: as above.
                unsafe { ptr::write(ptr::from_mut(&mut this.storage).cast(), raw) };
                this.length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernel_form() {
        for text in
            ["192.0.2.1:1", "255.255.255.255:65535", "[::]:0", "[fe80::1%7]:51820", "[2001:db8::2]:53"]
        {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Address::from(address).ip(), Some(address), "{text}");
        }
    }

    #[test]
    fn an_address_of_another_family_is_none() {
        assert_eq!(Address::empty().ip(), None);
        let mut short = Address::from("192.0.2.1:1".parse::<SocketAddr>().unwrap());
        short.length = 4;
        assert_eq!(short.ip(), None);
    }
}
