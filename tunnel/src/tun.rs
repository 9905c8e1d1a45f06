//! The TUN interface: creation, its offloads, and whether it is up.
//!
//! Packets are read and written in batches by [`read`] and [`write`]; what they say, and which of them may
//! pass, is the engine's business. The interface lives as long as its descriptor.

mod name;
mod queues;
mod read;
mod write;

pub use name::{InterfaceName, InvalidInterfaceName};
pub(crate) use queues::Queues;
pub(crate) use read::PacketBatch;
pub(crate) use write::WriteQueue;

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use edge_tunnel_core::offload::VNET_HEADER;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use verona_contract::control::OffCause;

use crate::offloads::{Offload, Offloads};
use crate::sys;

/// The largest IP packet there is, with its header of offloads; a slot of a batch, so that no MTU can make
/// the kernel cut one. Only the pages that packets reach become resident.
const SLOT: usize = 66_048;

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
    offloads: Arc<Offloads>,
}

/// The offloads that the interface has a part in.
const OF_TUN: [Offload; 4] = [Offload::TunTso, Offload::TunUso, Offload::TunTcpGro, Offload::TunUdpGro];

impl Tun {
    fn attached(
        file: File,
        name: InterfaceName,
        vnet: bool,
        offloads: &Arc<Offloads>,
    ) -> Result<Self, TunError> {
        let header = if vnet { VNET_HEADER } else { 0 };
        let tun = Self { file, name, namespace: any_socket()?, header, offloads: Arc::clone(offloads) };
        tun.negotiate();
        tun.set_non_blocking().map_err(TunError::Descriptor)?;
        Ok(tun)
    }

    /// Takes over an interface that another process opened, its MTU left as it is.
    fn from_fd(fd: OwnedFd, offloads: &Arc<Offloads>) -> Result<Self, TunError> {
        let name = sys::tun::interface_of(fd.as_fd()).map_err(TunError::Descriptor)?;
        let vnet = sys::tun::has_vnet_header(fd.as_fd()).map_err(TunError::Descriptor)?;
        Self::attached(File::from(fd), InterfaceName::of_kernel(name), vnet, offloads)
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

    /// What is shared of batches with the kernel.
    pub(crate) fn offloads(&self) -> &Arc<Offloads> {
        &self.offloads
    }

    /// Finds out what the kernel knows, and lets it hand over large packets and unfinished checksums as far as
    /// that is wanted. Without, packets come and go one by one.
    fn negotiate(&self) {
        const CHECKSUM: libc::c_uint = libc::TUN_F_CSUM;
        const TCP: libc::c_uint = CHECKSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        const UDP: libc::c_uint = CHECKSUM | libc::TUN_F_USO4 | libc::TUN_F_USO6;
        let offloads = &self.offloads;
        if self.header == 0 {
            for offload in OF_TUN {
                offloads.turn_off(offload, OffCause::Kernel, "the descriptor has no IFF_VNET_HDR");
            }
            return;
        }
        // Joined UDP packets may be written where they may be read: both came with Linux 6.2. Joined TCP is as
        // old as the header.
        for (flags, needed) in [(TCP, &[Offload::TunTso][..]), (UDP, &[Offload::TunUso, Offload::TunUdpGro])]
        {
            if let Err(error) = sys::tun::set_offload(self.file.as_fd(), flags) {
                for &offload in needed {
                    offloads.turn_off(offload, OffCause::Kernel, &format!("TUNSETOFFLOAD: {error}"));
                }
            }
        }
        let wanted = |offload, flags| if offloads.is_on(offload) { flags } else { 0 };
        let flags = wanted(Offload::TunTso, TCP) | wanted(Offload::TunUso, UDP);
        if let Err(error) = sys::tun::set_offload(self.file.as_fd(), flags) {
            for offload in [Offload::TunTso, Offload::TunUso] {
                offloads.turn_off(offload, OffCause::Kernel, &format!("TUNSETOFFLOAD: {error}"));
            }
            // 0 is what a new descriptor has; there is nothing less to ask for.
            let _ = sys::tun::set_offload(self.file.as_fd(), 0);
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

#[cfg(test)]
mod kernel_tests;
