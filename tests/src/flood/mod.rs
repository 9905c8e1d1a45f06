//! Floods of forged handshakes, at a rate, from one source address or from thousands.
//!
//! [`Kind::datagrams`] makes a pool of what a stranger can send who holds no admitted key; [`Flood`] repeats
//! such a pool. How an edge stands it is for the tests and for `cargo lab bench --floods` to say.

mod kind;

pub use kind::{Kind, Stranger};

use lab::{Error, Namespace, Result};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Datagrams a system call. All of one call have one source address.
const BATCH: usize = 32;
/// Where the source addresses of a flood begin: 10.64.0.0/16 (RFC 1918). The namespace that sends needs
/// [`own_sources`], the one that answers a route.
pub const SOURCES: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);

/// Where a flood goes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The edge.
    pub to: SocketAddrV4,
    /// Datagrams a second; as far as the machine can when it is more than that.
    pub per_second: u32,
    /// Source addresses, up to 65,536; 0 leaves the choice of the one address to the kernel.
    pub sources: u16,
}

/// What was sent, and in what time.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Datagrams that the kernel took.
    pub datagrams: u64,
    /// Since the start.
    pub time: Duration,
}

impl Sent {
    /// Datagrams a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.datagrams as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

/// A flood under way, on a thread of its own. Dropping it ends it.
#[derive(Debug)]
pub struct Flood {
    sent: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    begin: Instant,
    thread: Option<JoinHandle<()>>,
}

/// Makes all of [`SOURCES`] addresses of `place`.
///
/// # Errors
///
/// `ip` refuses.
pub fn own_sources(place: &Namespace) -> Result<()> {
    place.ip(&format!("route replace local {SOURCES}/16 dev lo"))
}

impl Flood {
    /// Begins to send `pool`, over and over, from inside `place`.
    ///
    /// # Errors
    ///
    /// No socket can be opened there.
    pub fn start(place: &Namespace, plan: Plan, pool: Vec<Vec<u8>>) -> Result<Self> {
        let socket = place.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        Ok(Self::from_socket(socket.map_err(Error::io("open a socket for a flood"))?, plan, pool))
    }

    /// As [`Self::start`], from a socket of the caller's.
    #[must_use]
    pub fn from_socket(socket: UdpSocket, plan: Plan, pool: Vec<Vec<u8>>) -> Self {
        let (sent, end, begin) = (Arc::default(), Arc::default(), Instant::now());
        let (counter, ended) = (Arc::clone(&sent), Arc::clone(&end));
        let thread = std::thread::spawn(move || send(&socket, plan, &pool, &counter, &ended));
        Self { sent, end, begin, thread: Some(thread) }
    }

    /// What was sent so far.
    #[must_use]
    pub fn sent(&self) -> Sent {
        Sent { datagrams: self.sent.load(Ordering::Relaxed), time: self.begin.elapsed() }
    }

    /// Ends it.
    #[must_use]
    pub fn stop(mut self) -> Sent {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.end();
    }
}

fn send(socket: &UdpSocket, plan: Plan, pool: &[Vec<u8>], sent: &AtomicU64, end: &AtomicBool) {
    let (begin, to) = (Instant::now(), SockaddrIn::from(plan.to));
    let mut headers = MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(libc::in_pktinfo)));
    let mut from = 0_u16;
    for batch in pool.chunks(BATCH).cycle() {
        if end.load(Ordering::Relaxed) {
            return;
        }
        let due = sent.load(Ordering::Relaxed) as f64 / f64::from(plan.per_second.max(1));
        std::thread::sleep(Duration::from_secs_f64(due).saturating_sub(begin.elapsed()));
        from = if from + 1 < plan.sources { from + 1 } else { 0 };
        let source = source(from);
        let control: &[_] = if plan.sources == 0 { &[] } else { &[ControlMessage::Ipv4PacketInfo(&source)] };
        let slices: Vec<_> = batch.iter().map(|datagram| [IoSlice::new(datagram)]).collect();
        let addresses = vec![Some(to); batch.len()];
        // A full queue on the way is part of a flood; what the kernel did not take is not counted.
        let taken =
            sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &addresses, control, MsgFlags::empty())
                .map_or(0, Iterator::count);
        sent.fetch_add(taken as u64, Ordering::Relaxed);
    }
}

/// The control message that chooses a datagram's source address (ip(7), `IP_PKTINFO`).
fn source(number: u16) -> libc::in_pktinfo {
    let address = u32::from(SOURCES) + u32::from(number);
    libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: address.to_be() },
        ipi_addr: libc::in_addr { s_addr: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lab::{Run, alone, wait};
    use std::collections::HashSet;

    #[test]
    fn a_flood_comes_from_its_sources_at_its_rate() {
        let _turn = alone().unwrap();
        let run = Run::start().unwrap();
        let place = run.namespace("flood").unwrap();
        own_sources(&place).unwrap();
        let edge = place.enter(|| UdpSocket::bind("127.0.0.1:9").unwrap()).unwrap();
        edge.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let plan = Plan { to: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9), per_second: 3200, sources: 5 };
        let flood = Flood::start(&place, plan, vec![b"one".to_vec(), b"other".to_vec()]).unwrap();

        let mut seen = HashSet::new();
        let mut octets = [0; 8];
        wait::until("datagrams from five addresses", Duration::from_secs(5), || {
            let (len, from) = edge.recv_from(&mut octets).unwrap();
            seen.insert((from.ip(), octets[..len].to_vec()));
            seen.len() == 10
        })
        .unwrap();
        let sent = flood.stop();
        let expected = 3200.0 * sent.time.as_secs_f64();
        assert!(sent.datagrams as f64 <= expected + 2.0 * BATCH as f64, "{sent:?}");
    }
}
