//! Where the self-test plays: a network namespace of its thread, with loopback and TUN interfaces up.

use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Offload, Offloads, Switches, Trouble};
use crate::sys;
use crate::tun::{InterfaceName, Queues, Tun};
use crate::udp::{DatagramBatch, Sockets};

/// The thread's surroundings. To be dropped when nobody waits any more: closing takes longer than the test.
pub(super) struct Stage {
    deadline: Instant,
    pub(super) sender: Sockets,
    /// Gets datagrams as the kernel joins them.
    pub(super) joined: Sockets,
    /// Gets datagrams one by one.
    pub(super) single: Sockets,
    /// One that gives large UDP packets, and one that has the kernel cut them. None without a namespace of our
    /// own: other people's interfaces are not played with.
    pub(super) tuns: Option<[TunEnd; 2]>,
}

impl Stage {
    /// Gives the calling thread a network namespace of its own, if it may have one. It goes with the thread.
    pub(super) fn set(deadline: Instant) -> Result<Self, Trouble> {
        let own = unshare(CloneFlags::CLONE_NEWNET).is_ok();
        if own {
            sys::tun::set_up(&any_socket().map_err(untried)?, "lo").map_err(untried)?;
        }
        let sockets = |switches| {
            Sockets::open(1, 0, 0, &Offloads::new(switches)).map_err(untried)?.pop().ok_or_else(nothing)
        };
        let without = |offload| Switches::default().without(offload);
        let tuns = || Ok([TunEnd::open(1, Switches::default())?, TunEnd::open(2, without(Offload::TunUso))?]);
        Ok(Self {
            deadline,
            sender: sockets(Switches::default())?,
            joined: sockets(Switches::default())?,
            single: sockets(without(Offload::UdpGro))?,
            tuns: if own { Some(tuns()?) } else { None },
        })
    }

    /// Waits until there is something to read, or for the end of the test.
    pub(super) fn readable(&self, source: &impl AsFd) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        // Rounded up, so that it does not turn without waiting. At most 50 ms.
        let timeout = PollTimeout::from(u8::try_from(left.as_millis() + 1).unwrap_or(u8::MAX));
        let mut fds = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
        !left.is_zero() && poll(&mut fds, timeout).is_ok_and(|count| count > 0)
    }

    /// The next `count` datagrams, or what came of them in time.
    pub(super) fn receive(&self, sockets: &Sockets, count: usize) -> Result<Came, Trouble> {
        let [Some(socket), _] = sockets.by_family() else {
            return Err(Trouble::Untried("no IPv4".to_owned()));
        };
        let mut batch = DatagramBatch::new(0);
        let mut came = Came::default();
        while came.0.len() < count && self.readable(&socket) {
            batch.receive(socket, Instant::now()).map_err(untried)?;
            came.0.extend(batch.iter().map(|datagram| datagram.octets.to_vec()));
        }
        Ok(came)
    }

    /// The payloads of TCP packets from `source`, back to back, up to `length` octets.
    pub(super) fn receive_raw(
        &self,
        raw: &Socket,
        source: Ipv4Addr,
        length: usize,
    ) -> Result<Vec<u8>, Trouble> {
        let mut came = Vec::new();
        let mut room = vec![0; usize::from(u16::MAX)];
        while came.len() < length && self.readable(raw) {
            let mut raw = raw;
            let read = raw.read(&mut room).map_err(untried)?;
            // IPv4 and TCP headers without options, as we make them.
            if let Some((headers, payload)) = room[..read].split_at_checked(40)
                && headers[12..16] == source.octets()
            {
                came.extend_from_slice(payload);
            }
        }
        Ok(came)
    }
}

/// A TUN interface that is up, with an address beyond it.
pub(super) struct TunEnd {
    pub(super) tun: Tun,
    pub(super) here: Ipv4Addr,
    pub(super) beyond: Ipv4Addr,
}

impl TunEnd {
    fn open(number: u8, switches: Switches) -> Result<Self, Trouble> {
        let name: InterfaceName = "probe%d".parse().map_err(untried)?;
        let offloads = Arc::new(Offloads::new(switches));
        let tun = Queues::create(&name, 1500, 1, &offloads).map_err(untried)?.first;
        let (here, beyond) = (Ipv4Addr::new(10, 255, number, 1), Ipv4Addr::new(10, 255, number, 2));
        let socket = any_socket().map_err(untried)?;
        sys::tun::set_addresses(&socket, tun.name().as_str(), here, beyond).map_err(untried)?;
        sys::tun::set_up(&socket, tun.name().as_str()).map_err(untried)?;
        Ok(Self { tun, here, beyond })
    }
}

/// A socket that sees all TCP packets for this namespace.
pub(super) fn raw_tcp() -> Result<Socket, Trouble> {
    Socket::new(Domain::IPV4, Type::RAW.nonblocking(), Some(Protocol::TCP)).map_err(untried)
}

/// IPv4, since addresses are asked for by family.
fn any_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

pub(super) fn untried(error: impl std::error::Error) -> Trouble {
    Trouble::Untried(error.to_string())
}

fn nothing() -> Trouble {
    Trouble::Untried("nothing was opened".to_owned())
}

/// What came, in order.
#[derive(Default)]
pub(super) struct Came(pub(super) Vec<Vec<u8>>);

impl Came {
    /// Compares with what was sent. That nothing came at all may have any reason; that something is missing or
    /// altered on a way without loss has only one.
    pub(super) fn compare(&self, sent: &[Vec<u8>]) -> Result<(), Trouble> {
        if self.0.iter().all(Vec::is_empty) {
            return Err(Trouble::Untried("nothing came in time".to_owned()));
        }
        for (number, sent) in sent.iter().enumerate() {
            match self.0.get(number) {
                None => return Err(Trouble::Untried(format!("piece {number} did not come in time"))),
                Some(came) if came.len() != sent.len() => {
                    let (came, sent) = (came.len(), sent.len());
                    return Err(Trouble::Differs(format!("piece {number} has {came} octets, not {sent}")));
                }
                Some(came) => {
                    if let Some(at) = (0..sent.len()).find(|&at| came[at] != sent[at]) {
                        return Err(Trouble::Differs(format!("piece {number} differs at octet {at}")));
                    }
                }
            }
        }
        Ok(())
    }
}
