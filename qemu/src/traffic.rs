//! Traffic with a clock: what arrived last and when, what was lost, how long nothing came.

use crate::{Error, Namespace, Result};
use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a blocked reader looks whether it should end.
const LOOK: Duration = Duration::from_millis(50);

/// When data came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrivals {
    /// Octets so far.
    pub octets: u64,
    /// Reads or datagrams so far.
    pub count: u64,
    /// The first one.
    pub first: Option<Instant>,
    /// The last one.
    pub last: Option<Instant>,
    /// Longest time between two.
    pub longest_gap: Duration,
}

impl Arrivals {
    const NONE: Self = Self { octets: 0, count: 0, first: None, last: None, longest_gap: Duration::ZERO };

    fn note(&mut self, octets: usize) {
        let now = Instant::now();
        if let Some(last) = self.last {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.octets += octets as u64;
        self.count += 1;
    }
}

/// Shared between a reader's thread and who asks it.
#[derive(Debug)]
struct Reader {
    arrivals: Mutex<Arrivals>,
    end: AtomicBool,
}

impl Reader {
    fn new() -> Arc<Self> {
        Arc::new(Self { arrivals: Mutex::new(Arrivals::NONE), end: AtomicBool::new(false) })
    }

    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A download over TCP that notes when each piece arrived.
#[derive(Debug)]
pub struct Download {
    reader: Arc<Reader>,
    thread: Option<JoinHandle<()>>,
}

impl Download {
    /// Starts `GET /download` from inside `namespace`.
    ///
    /// # Errors
    ///
    /// The server cannot be reached within three seconds.
    pub fn start(namespace: &Namespace, server: SocketAddr) -> Result<Self> {
        let connect = || TcpStream::connect_timeout(&server, Duration::from_secs(3));
        let mut stream = namespace.enter(connect)?.map_err(Error::io(format!("connect to {server}")))?;
        let doing = || format!("ask {server} for a download");
        stream.set_read_timeout(Some(LOOK)).map_err(Error::io(doing()))?;
        stream.write_all(b"GET /download HTTP/1.0\r\n\r\n").map_err(Error::io(doing()))?;
        let reader = Reader::new();
        let shared = Arc::clone(&reader);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while !shared.end.load(Ordering::Relaxed) {
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(octets) => shared.arrivals().note(octets),
                    Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(_) => break,
                }
            }
        });
        Ok(Self { reader, thread: Some(thread) })
    }

    /// What has arrived so far.
    #[must_use]
    pub fn arrivals(&self) -> Arrivals {
        *self.reader.arrivals()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.reader.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Numbered datagrams at a steady pace from one namespace to another.
#[derive(Debug)]
pub struct Flow {
    reader: Arc<Reader>,
    sent: Arc<AtomicU64>,
    sender_end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// The balance of a [`Flow`].
#[derive(Clone, Copy, Debug)]
pub struct Balance {
    /// Datagrams sent.
    pub sent: u64,
    /// What arrived of them.
    pub arrivals: Arrivals,
}

impl Balance {
    /// Datagrams that did not arrive.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.arrivals.count)
    }
}

impl Flow {
    /// Sends 200-octet datagrams from `from` to a receiver that listens at `to` inside `at`, one each `pace`.
    ///
    /// # Errors
    ///
    /// A socket cannot be opened.
    pub fn start(from: &Namespace, at: &Namespace, to: SocketAddr, pace: Duration) -> Result<Self> {
        let receiver = at.enter(|| UdpSocket::bind(to))?.map_err(Error::io(format!("bind {to}")))?;
        receiver.set_read_timeout(Some(LOOK)).map_err(Error::io("set a timeout"))?;
        let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let sender = from.enter(|| UdpSocket::bind(any))?.map_err(Error::io("open a sender"))?;
        let reader = Reader::new();
        let sent = Arc::new(AtomicU64::new(0));
        let sender_end = Arc::new(AtomicBool::new(false));
        let receiving = {
            let reader = Arc::clone(&reader);
            std::thread::spawn(move || {
                let mut datagram = [0; 200];
                let mut seen = HashSet::new();
                while !reader.end.load(Ordering::Relaxed) {
                    // A duplicate must not make up for a loss.
                    if receiver.recv(&mut datagram).is_ok() && seen.insert(datagram[..8].to_vec()) {
                        reader.arrivals().note(datagram.len());
                    }
                }
            })
        };
        let sending = {
            let (sent, end) = (Arc::clone(&sent), Arc::clone(&sender_end));
            std::thread::spawn(move || {
                let mut next = Instant::now();
                while !end.load(Ordering::Relaxed) {
                    let mut datagram = [0; 200];
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    datagram[..8].copy_from_slice(&number.to_be_bytes());
                    // A refusal on the way is a loss, and counted as one.
                    let _ = sender.send_to(&datagram, to);
                    next += pace;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            })
        };
        Ok(Self { reader, sent, sender_end, threads: vec![receiving, sending] })
    }

    /// How it stands; datagrams on their way count as lost here.
    #[must_use]
    pub fn balance(&self) -> Balance {
        Balance { sent: self.sent.load(Ordering::Relaxed), arrivals: *self.reader.arrivals() }
    }

    /// Ends the sending, gives what is on its way up to `patience` to arrive, and draws the balance.
    #[must_use]
    pub fn finish(self, patience: Duration) -> Balance {
        self.sender_end.store(true, Ordering::Relaxed);
        let _ = crate::wait::until("the last datagrams", patience, || {
            self.threads[1].is_finished() && self.balance().lost() == 0
        });
        self.balance()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.sender_end.store(true, Ordering::Relaxed);
        self.reader.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
