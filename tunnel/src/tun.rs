//! The TUN interface: creation, and packets read and written in batches.
//!
//! A batch interface on purpose: the callers hand over and take slices of packets and do not know
//! whether one system call moved one packet or many. What the packets say, and which of them may
//! pass, is the engine's business. The interface lives as long as its descriptor.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;

use edge_tunnel_core::offload::{Coalescer, MAX_PARTS, Segments, VNET_HEADER, VnetHeader};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::sys;

/// Packets per [`PacketBatch::read`].
pub(crate) const BATCH: usize = 64;

/// The largest IP packet there is, with its header of offloads; a slot of a batch, so that no MTU can make
/// the kernel cut one. Only the pages that packets reach become resident.
const SLOT: usize = 66_048;

/// Octets per [`PacketBatch::read`], about: large packets must not hold the thread for long.
const BATCH_OCTETS: usize = 512 * 1024;

/// The name of a network interface: 1 to 15 octets without `/`, white space or control characters,
/// not `.` or `..` (what Linux's `dev_valid_name` accepts). A `%d` in it is replaced by the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceName(String);

/// Text that cannot be the name of an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name an interface: 1 to 15 octets, no '/', ':', white space or control characters")]
pub struct InvalidInterfaceName(String);

impl InterfaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(text: &str) -> Result<Self, InvalidInterfaceName> {
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        let valid = (1..=15).contains(&text.len()) && !matches!(text, "." | "..") && !text.contains(bad);
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidInterfaceName(text.to_owned())) }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why there is no interface: the environment's fault, or a name in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunError {
    /// `/dev/net/tun` does not open: no TUN driver, or no right to use it.
    #[error("opening {TUN_DEVICE} failed (is the tun module loaded, and are we root?)")]
    Open(#[source] io::Error),
    /// Another process holds an interface of this name.
    #[error("creating interface {name} failed: the name is in use")]
    InUse {
        /// The name asked for.
        name: InterfaceName,
    },
    /// The kernel refused the interface otherwise.
    #[error("creating interface {name} failed")]
    Create {
        /// The name asked for.
        name: InterfaceName,
        /// What the kernel said.
        source: io::Error,
    },
    /// The MTU was refused.
    #[error("setting the MTU of {name} to {mtu} failed")]
    Mtu {
        /// The interface.
        name: InterfaceName,
        /// The MTU asked for, in octets.
        mtu: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// No socket for the ioctls.
    #[error("opening a socket to configure interfaces failed")]
    Socket(#[source] io::Error),
    /// A descriptor that was passed to us is not a TUN interface, or cannot be made non-blocking.
    #[error("the descriptor passed is not a usable TUN interface")]
    Descriptor(#[source] io::Error),
}

const TUN_DEVICE: &str = "/dev/net/tun";

/// A TUN interface without packet information headers, non-blocking.
#[derive(Debug)]
pub(crate) struct Tun {
    file: File,
    name: InterfaceName,
    /// Any socket, for the ioctls that name an interface. Bound to the namespace of creation.
    namespace: OwnedFd,
    /// Octets before each packet: that of a [`VnetHeader`], or 0 without offloads.
    header: usize,
    /// Whether the kernel takes large UDP packets (Linux 6.2 and later).
    large_udp: bool,
}

impl Tun {
    /// Creates interface `name` in the network namespace of the calling thread, with `mtu` octets.
    pub(crate) fn create(name: &InterfaceName, mtu: u16) -> Result<Self, TunError> {
        let file = OpenOptions::new().read(true).write(true).open(TUN_DEVICE).map_err(TunError::Open)?;
        let chosen =
            sys::tun::attach(&file, name.as_str(), true).map_err(|source| match source.raw_os_error() {
                Some(libc::EBUSY | libc::EEXIST) => TunError::InUse { name: name.clone() },
                _ => TunError::Create { name: name.clone(), source },
            })?;
        let (name, namespace) = (InterfaceName(chosen), any_socket()?);
        let mut tun = Self { file, name, namespace, header: VNET_HEADER, large_udp: false };
        tun.offload();
        tun.set_non_blocking().map_err(TunError::Descriptor)?;
        tun.set_mtu(mtu)?;
        Ok(tun)
    }

    /// Takes over an interface that another process opened, its MTU left as it is.
    pub(crate) fn from_fd(fd: OwnedFd) -> Result<Self, TunError> {
        let name = sys::tun::interface_of(fd.as_fd()).map_err(TunError::Descriptor)?;
        let vnet = sys::tun::has_vnet_header(fd.as_fd()).map_err(TunError::Descriptor)?;
        let (name, namespace) = (InterfaceName(name), any_socket()?);
        let header = if vnet { VNET_HEADER } else { 0 };
        let mut tun = Self { file: File::from(fd), name, namespace, header, large_udp: false };
        if vnet {
            tun.offload();
        }
        tun.set_non_blocking().map_err(TunError::Descriptor)?;
        Ok(tun)
    }

    /// The name at creation. It may be changed later (`ip link set … name`).
    pub(crate) fn name(&self) -> &InterfaceName {
        &self.name
    }

    /// Whether the interface is administratively up, in whatever network namespace it is now.
    ///
    /// The driver calls the descriptor writable exactly then, and wakes a waiting poll when the
    /// interface goes up. Netlink would tell too, but only about the namespace it was opened in.
    pub(crate) fn is_up(&self) -> bool {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        let ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        ready && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT))
    }

    /// The MTU now, octets; `None` if the interface was moved to another network namespace, where it
    /// cannot be asked.
    pub(crate) fn mtu(&self) -> Option<u16> {
        let name = sys::tun::interface_of(self.file.as_fd()).ok()?;
        let mtu = sys::tun::mtu(&self.namespace, &name).ok()?;
        u16::try_from(mtu).ok()
    }

    /// Writes one packet, given in parts that begin with the header of offloads if there is one.
    ///
    /// # Errors
    ///
    /// `EIO` while the interface is down, `EINVAL` for octets that are no IP packet: neither harms
    /// later packets. `EBADFD` when the interface is gone.
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        loop {
            match (&self.file).write_vectored(parts) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(drop),
            }
        }
    }

    /// Lets the kernel hand over large packets and unfinished checksums, as far as it knows how.
    fn offload(&mut self) {
        const TCP: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        const UDP: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;
        self.large_udp = sys::tun::set_offload(self.file.as_fd(), TCP | UDP).is_ok();
        if !self.large_udp {
            // Refused, too: then packets come one by one, each behind an empty header.
            let _ = sys::tun::set_offload(self.file.as_fd(), TCP);
        }
    }

    fn set_non_blocking(&self) -> io::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(&self.file, FcntlArg::F_GETFL)?);
        fcntl(&self.file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(())
    }

    fn set_mtu(&self, mtu: u16) -> Result<(), TunError> {
        sys::tun::set_mtu(&self.namespace, self.name.as_str(), mtu).map_err(|source| TunError::Mtu {
            name: self.name.clone(),
            mtu,
            source,
        })
    }
}

fn any_socket() -> Result<OwnedFd, TunError> {
    let open = |family| socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
    open(AddressFamily::Unix).map_err(|errno| TunError::Socket(errno.into()))
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether a TUN error means that the interface was deleted.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADFD | libc::ENODEV))
}

/// Packets of one turn, in a buffer that is allocated once.
pub(crate) struct PacketBatch {
    slots: Box<[u8]>,
    lengths: Vec<usize>,
    header: usize,
}

impl PacketBatch {
    pub(crate) fn new() -> Self {
        let slots = vec![0; BATCH * SLOT].into_boxed_slice();
        Self { slots, lengths: Vec::with_capacity(BATCH), header: 0 }
    }

    /// Replaces the batch by what the interface holds, up to [`BATCH`] packets, without blocking.
    ///
    /// # Errors
    ///
    /// Only if nothing was read and the interface reports more than "nothing there".
    pub(crate) fn read(&mut self, tun: &Tun) -> io::Result<()> {
        self.lengths.clear();
        self.header = tun.header;
        let mut octets = 0;
        for slot in self.slots.chunks_exact_mut(SLOT) {
            if octets >= BATCH_OCTETS {
                break;
            }
            match (&tun.file).read(slot) {
                Ok(length) => {
                    self.lengths.push(length);
                    octets += length;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => break,
                    _ if !self.lengths.is_empty() => break,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Gives each packet read to `take`, oldest first, large ones cut to the path's size. Returns how many
    /// could not be cut.
    pub(crate) fn for_each(&mut self, mut take: impl FnMut(&[u8])) -> u64 {
        let mut failed = 0;
        for (slot, &length) in self.slots.chunks_exact_mut(SLOT).zip(&self.lengths) {
            let Some((header, packet)) = slot[..length].split_at_mut_checked(self.header) else {
                failed += 1;
                continue;
            };
            let header = match header.first_chunk::<VNET_HEADER>() {
                Some(octets) => VnetHeader::parse(octets),
                None => Some(VnetHeader::default()),
            };
            let Some(Ok(mut segments)) = header.map(|header| Segments::new(header, packet)) else {
                failed += 1;
                continue;
            };
            while let Some(segment) = segments.next_segment() {
                take(segment);
            }
        }
        failed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }
}

/// Packets that wait for [`WriteQueue::flush`], back to back in one buffer.
pub(crate) struct WriteQueue {
    octets: Box<[u8]>,
    /// Length of each packet, oldest first.
    lengths: Vec<usize>,
    /// Where the next packet starts.
    end: usize,
    coalescer: Coalescer,
}

impl WriteQueue {
    /// Octets one queue holds: four packets of the largest size, some 180 of a usual one.
    const CAPACITY: usize = 4 * SLOT;

    pub(crate) fn new() -> Self {
        Self {
            octets: vec![0; Self::CAPACITY].into_boxed_slice(),
            lengths: Vec::with_capacity(256),
            end: 0,
            coalescer: Coalescer::default(),
        }
    }

    /// Whether a packet of up to `length` octets can be queued.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.lengths.len() < self.lengths.capacity() && self.octets.len() - self.end >= length
    }

    /// Space for a packet of `length` octets; empty if [`Self::has_room`] was not asked.
    pub(crate) fn space(&mut self, length: usize) -> &mut [u8] {
        self.octets.get_mut(self.end..self.end + length).unwrap_or_default()
    }

    /// Queues what was written into the first `length` octets of [`Self::space`].
    pub(crate) fn push(&mut self, length: usize) {
        self.lengths.push(length);
        self.end += length;
    }

    /// Writes what is queued to `tun`, each flow in its order and joined where `tun` takes it, and returns
    /// how many packets it did not take: the interface is down or gone, or they were no IP packets.
    pub(crate) fn flush(&mut self, tun: &Tun) -> u64 {
        let failed = if tun.header == 0 { self.write_single(tun) } else { self.write_joined(tun) };
        self.lengths.clear();
        self.end = 0;
        failed
    }

    fn write_single(&self, tun: &Tun) -> u64 {
        let mut failed = 0;
        let mut rest = &self.octets[..self.end];
        for &length in &self.lengths {
            let (packet, after) = rest.split_at(length);
            rest = after;
            failed += u64::from(tun.write(&[IoSlice::new(packet)]).is_err());
        }
        failed
    }

    fn write_joined(&mut self, tun: &Tun) -> u64 {
        let mut start = 0;
        for &length in &self.lengths {
            self.coalescer.push(&self.octets, start..start + length, tun.large_udp);
            start += length;
        }
        self.coalescer.seal(&mut self.octets);
        let mut failed = 0;
        for frame in self.coalescer.frames() {
            let header = frame.header.to_octets();
            let (header, head) = (IoSlice::new(&header), IoSlice::new(&self.octets[frame.head.clone()]));
            if frame.header.gso.is_none() {
                // Most frames of a flood of small packets: not worth the room for all the parts.
                failed += u64::from(tun.write(&[header, head]).is_err());
                continue;
            }
            let mut parts = [IoSlice::new(&[]); 2 + MAX_PARTS];
            parts[..2].copy_from_slice(&[header, head]);
            let mut count = 2;
            for range in frame {
                parts[count] = IoSlice::new(&self.octets[range]);
                count += 1;
            }
            failed += if tun.write(&parts[..count]).is_err() { count as u64 - 1 } else { 0 };
        }
        self.coalescer.clear();
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        for good in ["wg0", "a", "wg%d", "verona-client-0", "wg0.1"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a:b", "a b", "a\n", "sixteen-octets-x", "wg\0"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?}");
        }
    }
}
