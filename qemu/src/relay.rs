//! A bad line as a process: forwards UDP datagrams late, out of order, and not all of them.
//!
//! The kernel's netem would do the same, but small kernels lack it. Each datagram is delayed on its own,
//! evenly distributed around the mean as netem's default, so jitter reorders. Which ones are lost follows from
//! a fixed seed: whoever sends the same number of datagrams loses the same ones.

use crate::{Error, Namespace, Process, Result, workspace};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Datagrams on their way, at most; more are lost, as on a line with that much room.
const ROOM: usize = 100_000;
/// The longest sleep: nothing is due before that, or a datagram wakes us.
const IDLE: Duration = Duration::from_secs(1);

/// What the line does to datagrams, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Mean delay.
    pub delay: Duration,
    /// Deviation from it, at most.
    pub jitter: Duration,
    /// Datagrams lost of a thousand.
    pub loss_per_mille: f64,
}

/// A datagram under way. Ordered by when it is due.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Parcel {
    due: Instant,
    number: u64,
    inward: bool,
    octets: Vec<u8>,
}

struct Relay {
    line: Line,
    near: UdpSocket,
    far: UdpSocket,
    /// Who sent to the near side last.
    client: Option<SocketAddr>,
    parcels: BinaryHeap<Reverse<Parcel>>,
    number: u64,
    random: u64,
}

/// Starts a relay inside `place` that forwards between whoever sends to `listen` and `to`.
///
/// # Errors
///
/// This program cannot be started again.
pub fn start(
    place: &Namespace,
    name: &str,
    listen: SocketAddr,
    to: SocketAddr,
    line: Line,
) -> Result<Process> {
    let mut command = place.command(workspace::binary("lab")?);
    command.args(["relay", &listen.to_string(), &to.to_string()]);
    command.args([line.delay, line.jitter].map(|time| time.as_micros().to_string()));
    command.arg(line.loss_per_mille.to_string());
    let mut process = place.run().start_process(name, command)?;
    process.wait_for_log("relaying", Duration::from_secs(5))?;
    Ok(process)
}

/// The relay itself: runs until it is killed.
///
/// # Errors
///
/// An address cannot be bound, or the kernel refuses to wait.
pub fn serve(listen: SocketAddr, to: SocketAddr, line: Line) -> Result<()> {
    let near = UdpSocket::bind(listen).map_err(Error::io(format!("bind {listen}")))?;
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let far = UdpSocket::bind(any).map_err(Error::io("open a socket"))?;
    far.connect(to).map_err(Error::io(format!("connect to {to}")))?;
    for socket in [&near, &far] {
        socket.set_nonblocking(true).map_err(Error::io("make a socket non-blocking"))?;
    }
    println!("relaying from {listen} to {to}");
    let parcels = BinaryHeap::new();
    let mut relay =
        Relay { line, near, far, client: None, parcels, number: 0, random: 0x9e37_79b9_7f4a_7c15 };
    loop {
        relay.wait()?;
        relay.collect(true);
        relay.collect(false);
        relay.deliver();
    }
}

impl Relay {
    fn wait(&self) -> Result<()> {
        let due = self.parcels.peek().map(|Reverse(parcel)| parcel.due);
        let pause = due.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()).min(IDLE));
        let mut sockets =
            [&self.near, &self.far].map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        match ppoll(&mut sockets, Some(TimeSpec::from_duration(pause)), None) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(Error::os("wait for datagrams")(errno)),
        }
    }

    /// Takes what has come to one side.
    fn collect(&mut self, inward: bool) {
        let mut octets = [0; 2048];
        loop {
            let socket = if inward { &self.near } else { &self.far };
            match socket.recv_from(&mut octets) {
                Ok((len, from)) => {
                    if inward {
                        self.client = Some(from);
                    }
                    self.accept(inward, &octets[..len]);
                }
                // A refusal that an earlier datagram met is read here; the line does not care.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    fn accept(&mut self, inward: bool, octets: &[u8]) {
        self.number += 1;
        let lost = self.draw() * 1000.0 < self.line.loss_per_mille;
        let early = self.line.delay.saturating_sub(self.line.jitter);
        let due = Instant::now() + early + (self.line.jitter * 2).mul_f64(self.draw());
        if !lost && self.parcels.len() < ROOM {
            self.parcels.push(Reverse(Parcel { due, number: self.number, inward, octets: octets.to_vec() }));
        }
    }

    fn deliver(&mut self) {
        let now = Instant::now();
        while self.parcels.peek().is_some_and(|Reverse(parcel)| parcel.due <= now) {
            let Some(Reverse(parcel)) = self.parcels.pop() else { return };
            // What cannot be sent is lost, as on any line.
            let _ = match (parcel.inward, self.client) {
                (true, _) => self.far.send(&parcel.octets),
                (false, Some(client)) => self.near.send_to(&parcel.octets, client),
                (false, None) => Ok(0),
            };
        }
    }

    /// Evenly distributed from 0 to 1: xorshift64*, which is random enough for weather.
    fn draw(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_late_both_ways_and_some_do_not_come() {
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (client, server) = (socket(), socket());
        let listen = { socket().local_addr().unwrap() };
        let line = Line {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            loss_per_mille: 250.0,
        };
        let to = server.local_addr().unwrap();
        std::thread::spawn(move || serve(listen, to, line));
        let limit = Some(Duration::from_millis(300));
        for socket in [&client, &server] {
            socket.set_read_timeout(limit).unwrap();
        }

        let mut octets = [0; 8];
        let (mut begin, mut from) = (Instant::now(), None);
        // The relay may not listen yet, and the first one may be lost.
        for _ in 0..20 {
            begin = Instant::now();
            let _ = client.send_to(b"hello", listen);
            from = server.recv_from(&mut octets).ok().map(|(_, from)| from);
            if from.is_some() {
                break;
            }
        }
        let from = from.expect("a datagram through the line");
        assert!(begin.elapsed() >= Duration::from_millis(15), "{:?}", begin.elapsed());
        for _ in 0..100 {
            server.send_to(b"back", from).unwrap();
        }
        let received = std::iter::from_fn(|| client.recv(&mut octets).ok()).count();
        assert!((55..95).contains(&received), "{received} of 100 came through a loss of 25 %");
    }
}
