//! Many clients as one process: their handshakes and packets are real datagrams, from an address each.
//!
//! Each client is the engine that the Verona Client runs, with its certificate, its cookies, its retries and
//! rekeys. A [`Swarm`] moves their datagrams and their time; a client is *live* when the edge's side has
//! answered an echo request through its tunnel.

mod client;
mod wire;

pub use client::{Client, EdgeAddress, Identity};
pub use wire::{ADDRESSES, own_addresses};

use edge_tunnel_core::Now;
use lab::{Error, Namespace, Result};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::time::{Duration, Instant, SystemTime};
use wire::Wire;

/// A client that got no answer asks again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A live client asks now and then, as a machine behind it would.
const ASK: Duration = Duration::from_secs(20);
/// The longest a turn waits.
const TURN: Duration = Duration::from_millis(50);
/// Datagrams taken before the timers get their turn.
const BATCH: usize = 256;

/// What is due for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Duty {
    /// An echo request.
    Ask,
    /// The engine's timers.
    Timers,
}

struct Member {
    client: Client,
    /// The earliest entry for its timers in the heap.
    timers: Option<Instant>,
    /// When it sent its first datagram, for the first time or again ([`Swarm::forget_answers`]).
    begun: Option<Instant>,
    answered: Option<Instant>,
    /// Packets that came out of its tunnel.
    answers: u64,
    asked: u64,
    /// When it asks next; entries of the heap with another time are void.
    ask_at: Instant,
}

impl Member {
    fn ask(&mut self, now: Now) {
        self.asked += 1;
        self.client.ping(self.asked as u16, now);
    }
}

/// What one client saw while it asked without a break ([`Swarm::pulse`]).
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// Echo requests.
    pub asked: u64,
    /// Answers to them.
    pub answered: u64,
    /// The longest time between two answers.
    pub longest: Duration,
}

impl fmt::Display for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, answered, longest } = self;
        write!(f, "{answered} of {asked} answers meanwhile, {longest:?} without one at most")
    }
}

/// The clients, and the socket that they share.
pub struct Swarm {
    wire: Wire,
    members: Vec<Member>,
    due: BinaryHeap<Reverse<(Instant, u16, Duty)>>,
    live: usize,
}

impl Swarm {
    /// A silent swarm in `place`, which must own its addresses ([`own_addresses`]).
    ///
    /// # Errors
    ///
    /// No socket can be opened there.
    pub fn inside(place: &Namespace) -> Result<Self> {
        place.enter(Self::here)?
    }

    /// A silent swarm in the namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// No socket can be opened.
    pub fn here() -> Result<Self> {
        Ok(Self { wire: Wire::open()?, members: Vec::new(), due: BinaryHeap::new(), live: 0 })
    }

    /// Adds a client that begins at `at`.
    ///
    /// # Panics
    ///
    /// There are 65,536 already.
    pub fn add(&mut self, identity: Identity, edge: &EdgeAddress, at: Instant) {
        let number = u16::try_from(self.members.len()).expect("no more than 65,536 clients");
        let client = Client::new(identity, edge, now());
        self.members.push(Member {
            client,
            timers: None,
            begun: None,
            answered: None,
            answers: 0,
            asked: 0,
            ask_at: at,
        });
        self.due.push(Reverse((at, number, Duty::Ask)));
    }

    /// How many clients are live.
    #[must_use]
    pub const fn live(&self) -> usize {
        self.live
    }

    /// From its first datagram to the first answer through the tunnel, for every client that is live.
    #[must_use]
    pub fn times(&self) -> Vec<Duration> {
        self.members.iter().filter_map(|member| Some(member.answered? - member.begun?)).collect()
    }

    /// From here on only a new answer makes a client live: for an edge that restarts. All ask within `spread`.
    pub fn forget_answers(&mut self, spread: Duration) {
        self.live = 0;
        let (begin, count) = (Instant::now(), self.members.len().max(1));
        for (number, member) in self.members.iter_mut().enumerate() {
            (member.begun, member.answered) = (None, None);
            let at = begin + spread.mul_f64(number as f64 / count as f64);
            member.ask_at = at;
            self.due.push(Reverse((at, number as u16, Duty::Ask)));
        }
    }

    /// Moves datagrams and time until `enough` says so or `limit` has passed. Gives the last word of `enough`.
    ///
    /// # Errors
    ///
    /// The kernel refuses to wait.
    pub fn run(&mut self, limit: Duration, enough: impl Fn(&Self) -> bool) -> Result<bool> {
        let end = Instant::now() + limit;
        let mut octets = [0; 2048];
        while !enough(self) && Instant::now() < end {
            self.wait(limit.min(TURN))?;
            for _ in 0..BATCH {
                let Some((number, from, len)) = self.wire.receive(&mut octets) else { break };
                self.turn(number, |member, now| {
                    let datagram = (from, &octets[..len]);
                    member.client.engine.handle_datagrams(
                        now,
                        std::iter::once(datagram),
                        &mut member.client.out,
                    );
                });
            }
            self.perform();
        }
        Ok(enough(self))
    }

    /// From here on nobody asks by itself; whoever has a session keeps it as WireGuard says.
    pub fn fall_silent(&mut self) {
        self.due.retain(|Reverse((_, _, duty))| *duty != Duty::Ask);
    }

    /// Lets one client ask every `pause` until `enough` says so, and everybody else go on.
    ///
    /// # Errors
    ///
    /// The kernel refuses to wait.
    pub fn pulse(&mut self, number: u16, pause: Duration, enough: impl Fn() -> bool) -> Result<Pulse> {
        let mut pulse = Pulse { asked: 0, answered: 0, longest: Duration::ZERO };
        let before = self.count(number);
        let (mut last, mut next) = (Instant::now(), Instant::now());
        let mut end: Option<Instant> = None;
        while end.is_none_or(|end| Instant::now() < end) {
            if end.is_none() && Instant::now() >= next {
                self.turn(number, Member::ask);
                next += pause;
            }
            self.run(pause.min(Duration::from_micros(200)), |_| false)?;
            let (asked, answered) = self.count(number);
            let answered = answered - before.1;
            pulse.asked = asked - before.0;
            if answered > pulse.answered {
                pulse.longest = pulse.longest.max(last.elapsed());
                (pulse.answered, last) = (answered, Instant::now());
            }
            if end.is_none() && enough() {
                // What is under way may still arrive.
                end = Some(Instant::now() + Duration::from_millis(500));
            }
        }
        Ok(pulse)
    }

    /// A client's requests and the answers to them.
    fn count(&self, number: u16) -> (u64, u64) {
        self.members.get(usize::from(number)).map_or((0, 0), |member| (member.asked, member.answers))
    }

    fn wait(&self, limit: Duration) -> Result<()> {
        let due = self.due.peek().map(|Reverse((at, ..))| *at);
        let pause = due.map_or(limit, |at| at.saturating_duration_since(Instant::now()).min(limit));
        let mut sockets = [PollFd::new(self.wire.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut sockets, Some(TimeSpec::from_duration(pause)), None) {
            Ok(_) | Err(nix::Error::EINTR) => Ok(()),
            Err(errno) => Err(Error::os("wait for datagrams")(errno)),
        }
    }

    /// Does what is due, at most a batch of it.
    fn perform(&mut self) {
        for _ in 0..BATCH {
            let Some(Reverse((at, number, duty))) = self.due.peek().copied() else { return };
            if at > Instant::now() {
                return;
            }
            self.due.pop();
            match duty {
                Duty::Ask => self.ask(number, at),
                Duty::Timers => self.turn(number, |member, now| {
                    member.timers = None;
                    member.client.engine.handle_timeout(now, &mut member.client.out);
                }),
            }
        }
    }

    fn ask(&mut self, number: u16, at: Instant) {
        let Some(member) = self.members.get_mut(usize::from(number)).filter(|member| member.ask_at == at)
        else {
            return;
        };
        member.ask_at = Instant::now() + if member.answered.is_some() { ASK } else { ASK_AGAIN };
        self.due.push(Reverse((member.ask_at, number, Duty::Ask)));
        self.turn(number, |member, now| {
            member.begun.get_or_insert(now.mono);
            member.ask(now);
        });
    }

    /// Lets a client work, sends what it says, and notes when it wants to be called next.
    fn turn(&mut self, number: u16, work: impl FnOnce(&mut Member, Now)) {
        let Some(member) = self.members.get_mut(usize::from(number)) else { return };
        work(member, now());
        for (to, octets) in member.client.out.datagrams.drain(..) {
            self.wire.send(number, to, &octets);
        }
        if !member.client.out.packets.is_empty() {
            member.answers += member.client.out.packets.len() as u64;
            member.client.out.packets.clear();
            if member.begun.is_some() && member.answered.replace(Instant::now()).is_none() {
                self.live += 1;
            }
        }
        while member.client.engine.poll_event().is_some() {}
        if let Some((at, _)) = member.client.engine.poll_timeout()
            && member.timers.is_none_or(|known| at < known)
        {
            member.timers = Some(at);
            self.due.push(Reverse((at, number, Duty::Timers)));
        }
    }
}

fn now() -> Now {
    Now { mono: Instant::now(), wall: SystemTime::now() }
}
