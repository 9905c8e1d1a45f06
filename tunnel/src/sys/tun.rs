//! The ioctls of Linux's TUN driver (`linux/if_tun.h`, Documentation/networking/tuntap.rst).
//!
//! Creates or attaches to an interface, asks a descriptor for its interface, sets the MTU. Reading
//! and writing packets is plain `read` and `write` and lives in `crate::tun`.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

/// Opens `device` (`/dev/net/tun`, as a file) for the layer-3 interface `name`, which the kernel
/// creates if it does not exist. One packet per read or write, without the 4-octet `tun_pi` header, and
/// with a `virtio_net_hdr` before each if `vnet_header` is set. With `multi_queue` each descriptor that is attached
/// to one interface is a queue of its own; all attach with the same flags.
/// Returns the name that the kernel chose: it may differ when `name` is a pattern such as `wg%d`.
pub(crate) fn attach(device: &File, name: &str, vnet_header: bool, multi_queue: bool) -> io::Result<String> {
    let mut request = request_for(name)?;
    let vnet = if vnet_header { libc::IFF_VNET_HDR } else { 0 };
    let multi = if multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
    // IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE is 0x5101 and fits the 16-bit field of the kernel's
    // structure.
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | vnet | multi) as libc::c_short;
    ioctl(device.as_raw_fd(), libc::TUNSETIFF, &mut request)?;
    Ok(name_in(&request))
}

/// The name of the interface behind a TUN descriptor, in whatever network namespace it is now.
pub(crate) fn interface_of(tun: BorrowedFd<'_>) -> io::Result<String> {
    let mut request = request_for("")?;
    ioctl(tun.as_raw_fd(), libc::TUNGETIFF, &mut request)?;
    Ok(name_in(&request))
}

/// Whether a TUN descriptor wants a `virtio_net_hdr` before each packet.
pub(crate) fn has_vnet_header(tun: BorrowedFd<'_>) -> io::Result<bool> {
    let mut request = request_for("")?;
    ioctl(tun.as_raw_fd(), libc::TUNGETIFF, &mut request)?;
    // SAFETY: TUNGETIFF succeeded, so the kernel wrote this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(libc::c_int::from(flags) & libc::IFF_VNET_HDR != 0)
}

/// Tells the kernel which packets it may leave unfinished (`TUN_F_*`): checksums, segmentation.
pub(crate) fn set_offload(tun: BorrowedFd<'_>, offload: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value; the descriptor is borrowed for the call.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offload)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the MTU of the interface `name` of the network namespace in which `socket` was opened.
pub(crate) fn set_mtu(socket: &OwnedFd, name: &str, mtu: u16) -> io::Result<()> {
    let mut request = request_for(name)?;
    request.ifr_ifru.ifru_mtu = libc::c_int::from(mtu);
    ioctl(socket.as_raw_fd(), libc::SIOCSIFMTU, &mut request)
}

/// The MTU of the interface `name` of the network namespace in which `socket` was opened.
pub(crate) fn mtu(socket: &OwnedFd, name: &str) -> io::Result<libc::c_int> {
    let mut request = request_for(name)?;
    ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: SIOCGIFMTU succeeded, so the kernel wrote this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_mtu })
}

/// Gives the point-to-point interface `name` the IPv4 address `here`, and a route to `beyond`.
pub(crate) fn set_addresses(
    socket: &OwnedFd,
    name: &str,
    here: Ipv4Addr,
    beyond: Ipv4Addr,
) -> io::Result<()> {
    for (number, address) in [(libc::SIOCSIFADDR, here), (libc::SIOCSIFDSTADDR, beyond)] {
        let mut request = request_for(name)?;
        let raw = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
            sin_zero: [0; 8],
        };
        // SAFETY: a `sockaddr_in` is as long as the union's `sockaddr` (16 octets), and aligned no stricter.
        unsafe { ptr::write(ptr::from_mut(&mut request.ifr_ifru).cast(), raw) };
        ioctl(socket.as_raw_fd(), number, &mut request)?;
    }
    Ok(())
}

/// Sets the interface `name` up.
pub(crate) fn set_up(socket: &OwnedFd, name: &str) -> io::Result<()> {
    let mut request = request_for(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &mut request)
}

fn request_for(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is a C structure of integers and a union of such; all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // One octet is kept for the terminating zero.
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn name_in(request: &libc::ifreq) -> String {
    let octets = request.ifr_name.map(|c| c as u8);
    CStr::from_bytes_until_nul(&octets).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn ioctl(fd: libc::c_int, number: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: each caller passes a request number whose argument is a `struct ifreq`, and `request`
    // is one that lives, exclusively borrowed, for the whole call. The descriptor is borrowed too.
    let result = unsafe { libc::ioctl(fd, number, ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
