//! Takes a cut client's connections out of the kernel's table, by ctnetlink.
//!
//! The whole table is read once and the entries are removed one by one: that takes milliseconds, works on every
//! kernel, and costs the same for one client and for a thousand. The octets are `edge_agent_core::conntrack`.

use edge_agent_core::conntrack::{Entry, Message, dump, messages};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use verona_contract::control::Cut;

/// The kernel fills at most this much into one datagram of a dump.
const BUFFER: usize = 65_536;

/// Why entries may be left.
#[derive(Debug, thiserror::Error)]
#[error("connection table: cannot {step}")]
pub struct ConntrackError {
    step: &'static str,
    #[source]
    source: Errno,
}

/// Removes the connections of the clients in `cuts`, beside the caller. A failure is traced: the sessions are gone
/// all the same, so no packet passes.
pub async fn forget(cuts: &[Cut]) {
    let addresses: HashSet<IpAddr> = cuts.iter().flat_map(|cut| cut.addresses.iter().copied()).collect();
    if addresses.is_empty() {
        return;
    }
    match tokio::task::spawn_blocking(move || remove(&addresses)).await {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(removed)) => tracing::info!(removed, "connections of cut clients removed"),
        Ok(Err(error)) => tracing::error!(error = crate::center::chain(&error), "connections of cut clients"),
    }
}

/// Removes every connection in which one of `addresses` sends, and tells how many there were. Blocks.
///
/// # Errors
///
/// [`ConntrackError`]: the kernel has no ctnetlink, or we lack CAP_NET_ADMIN.
pub fn remove(addresses: &HashSet<IpAddr>) -> Result<usize, ConntrackError> {
    let kernel = Kernel::open()?;
    let entries = kernel.entries(addresses)?;
    let mut removed = 0;
    for entry in entries {
        removed += usize::from(kernel.remove(&entry)?);
    }
    Ok(removed)
}

struct Kernel(OwnedFd);

impl Kernel {
    fn open() -> Result<Self, ConntrackError> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )
        .map_err(failed("open a netfilter socket"))?;
        // The kernel answers at once; a lost answer must not hold a thread for ever.
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(2)).map_err(failed("set a timeout"))?;
        Ok(Self(fd))
    }

    /// Those in which one of `addresses` sends.
    fn entries(&self, addresses: &HashSet<IpAddr>) -> Result<Vec<Entry>, ConntrackError> {
        self.send(&dump())?;
        let mut entries = Vec::new();
        loop {
            for message in self.receive()? {
                match message {
                    Message::Entry(entry) if entry.is_of(addresses) => entries.push(entry),
                    Message::Entry(_) | Message::Outcome(0) => {}
                    Message::Done => return Ok(entries),
                    Message::Outcome(errno) => return Err(failed("list it")(Errno::from_raw(-errno))),
                }
            }
        }
    }

    /// False when it has ended by itself meanwhile.
    fn remove(&self, entry: &Entry) -> Result<bool, ConntrackError> {
        self.send(&entry.removal())?;
        loop {
            for message in self.receive()? {
                match message {
                    Message::Outcome(0) => return Ok(true),
                    Message::Outcome(errno) if Errno::from_raw(-errno) == Errno::ENOENT => return Ok(false),
                    Message::Outcome(errno) => {
                        return Err(failed("remove an entry")(Errno::from_raw(-errno)));
                    }
                    Message::Entry(_) | Message::Done => {}
                }
            }
        }
    }

    fn send(&self, request: &[u8]) -> Result<(), ConntrackError> {
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.0.as_raw_fd(), request, &kernel, MsgFlags::empty()).map_err(failed("ask"))?;
        Ok(())
    }

    fn receive(&self) -> Result<Vec<Message>, ConntrackError> {
        let mut buffer = vec![0; BUFFER];
        let length =
            recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(failed("read the answer"))?;
        Ok(messages(&buffer[..length]))
    }
}

fn failed(step: &'static str) -> impl Fn(Errno) -> ConntrackError {
    move |source| ConntrackError { step, source }
}
