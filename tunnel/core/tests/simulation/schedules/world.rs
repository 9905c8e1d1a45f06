//! One edge, its clients, and the network between them, as a schedule plays them.

use super::actions::{self, Action};
use super::cast::{ATTEMPTS, Ca, Cast, EDGE, FRANK, ISSUERS};
use super::invariant;
use super::model::{List, Model, Rules};
use crate::dice::Dice;
use crate::harness::{Clock, Node, packet};
use edge_tunnel_core::CrlSet;
use mock_instant::MockClock;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;
use verona_tests::initiator::Transport;

/// Each step takes this long, so that timers move.
const STEP: Duration = Duration::from_millis(20);
const DAY: i64 = 24 * 3600;

/// Lists that were verified once: the same octets again give the same set.
pub(crate) type Verified = HashMap<List, CrlSet>;

/// A datagram that was sent to the edge.
#[derive(Clone)]
pub(crate) struct Recorded {
    from: SocketAddr,
    octets: Vec<u8>,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Introduction(usize),
    Initiation,
    Data,
}

/// A client as far as a schedule changes it.
pub(crate) struct State {
    address: SocketAddr,
    attempts: usize,
    response: Option<(usize, Vec<u8>)>,
    transport: Option<Transport>,
    sent: u64,
}

pub(crate) struct World<'a> {
    pub(crate) cast: &'a Cast,
    pub(crate) model: Model,
    pub(crate) edge: Node,
    pub(crate) clock: Clock,
    pub(super) verified: &'a mut Verified,
    clients: Vec<State>,
    recorded: Vec<Recorded>,
    /// All that the center has published, and what it holds disabled.
    pub(super) published: Vec<List>,
    pub(super) for_good: BTreeSet<(Ca, u64)>,
    pub(super) for_now: BTreeSet<(Ca, u64)>,
    pub(super) numbers: BTreeMap<Ca, u64>,
    /// The newest list that the edge accepted, kept by the agent.
    pub(super) kept: BTreeMap<Ca, List>,
    pub(super) policy_seq: u64,
    /// Seconds by which the box's clock is wrong, whether it is believed, and days that passed in its sleep.
    pub(super) off: i64,
    pub(super) trusted: bool,
    pub(super) slept: i64,
    /// Packets by client and number that were sent honestly, and not delivered yet.
    pub(crate) underway: HashSet<(usize, u64)>,
    pub(crate) delivered: u64,
    /// Each client's last initiation that this process has answered.
    pub(crate) answered: HashMap<usize, usize>,
}

impl<'a> World<'a> {
    pub(crate) fn new(cast: &'a Cast, verified: &'a mut Verified) -> Self {
        MockClock::set_time(Duration::ZERO);
        let clock = Clock::new();
        let clients = (0..cast.clients.len()).map(|number| State {
            address: address(number, 1000),
            attempts: 0,
            response: None,
            transport: None,
            sent: 0,
        });
        let mut world = Self {
            cast,
            model: Model::new(Rules { frank: false, ..Rules::FULL }),
            edge: Node::new(EDGE, "198.51.100.1:51820", &clock),
            clock,
            verified,
            clients: clients.collect(),
            recorded: Vec::new(),
            published: Vec::new(),
            for_good: BTreeSet::new(),
            for_now: BTreeSet::new(),
            numbers: BTreeMap::new(),
            kept: BTreeMap::new(),
            policy_seq: 0,
            off: 0,
            trusted: true,
            slept: 0,
            underway: HashSet::new(),
            delivered: 0,
            answered: HashMap::new(),
        };
        world.install_rules();
        world.tell_clock();
        for issuer in ISSUERS {
            let list = world.publish(issuer);
            if issuer != Ca::Regional {
                world.check_offer(&list).unwrap();
            }
        }
        world
    }

    /// Plays one step, and checks all that came out of the edge by it.
    pub(crate) fn play(&mut self, action: Action, dice: &mut Dice) -> Result<(), String> {
        match action {
            Action::Connect { client } => {
                if let Some(certificate) = self.cast.clients[client].certificates.last() {
                    self.introduce(*certificate, false, dice)?;
                }
                self.initiate(client, false)?;
                self.send(client, false, false)?;
            }
            Action::Introduce { certificate, late } => self.introduce(certificate, late, dice)?,
            Action::Initiate { client, late } => self.initiate(client, late)?,
            Action::Send { client, spoof, late } => self.send(client, spoof, late)?,
            Action::Replay { recorded, elsewhere } => self.replay(recorded, elsewhere)?,
            Action::Alter { recorded, bit } => self.alter(recorded, bit)?,
            Action::Forge { client } => {
                let forged = self.cast.clients[client].forged.clone();
                self.edge.receive(&self.clock, attacker(), &forged);
            }
            Action::Disable { certificate, for_good, late } => {
                let Some(entry) = actions::listed(self.cast, certificate, dice) else { return Ok(()) };
                if for_good {
                    self.for_good.insert(entry)
                } else {
                    self.for_now.insert(entry)
                };
                self.publish_and(entry.0, late)?;
            }
            Action::Enable { certificate, late } => {
                let Some(entry) = actions::listed(self.cast, certificate, dice) else { return Ok(()) };
                self.for_now.remove(&entry);
                self.publish_and(entry.0, late)?;
            }
            Action::OfferAgain { published } => self.offer_again(published)?,
            Action::OfferForged { number } => self.offer_forged(number)?,
            Action::SetClock { off, trusted } => {
                (self.off, self.trusted) = (off, trusted);
                self.tell_clock();
            }
            Action::Wait { time } => self.wait(Duration::from_millis(time))?,
            Action::Sleep => {
                self.slept = 9 * DAY;
                self.tell_clock();
            }
            Action::Restart { with_lists } => self.restart(with_lists)?,
            Action::Refill => self.refill()?,
            Action::Change { rules } => {
                self.model.new_rules(self.cast, rules);
                self.install_rules();
            }
            Action::Roam { client } => {
                let port = self.clients[client].address.port() + 1;
                self.clients[client].address = address(client, port);
            }
            Action::Outward { client } => {
                let outward = packet("10.9.255.1", self.cast.clients[client].inner, b"hello");
                self.edge.send(&self.clock, &outward);
            }
        }
        self.take_output()?;
        self.wait(STEP)
    }

    fn introduce(&mut self, certificate: usize, late: bool, dice: &mut Dice) -> Result<(), String> {
        let Some(datagram) = self.cast.certificates[certificate].introductions.get(dice.below(2) as usize)
        else {
            return Ok(());
        };
        let from = self.clients[self.cast.certificates[certificate].client].address;
        self.launch(Recorded { from, octets: datagram.clone(), what: What::Introduction(certificate) }, late)
    }

    fn initiate(&mut self, client: usize, late: bool) -> Result<(), String> {
        let state = &mut self.clients[client];
        let Some(attempt) = self.cast.clients[client].attempts.get(state.attempts) else { return Ok(()) };
        state.attempts += 1;
        let (from, octets) = (state.address, attempt.message.clone());
        self.launch(Recorded { from, octets, what: What::Initiation }, late)
    }

    fn send(&mut self, client: usize, spoof: bool, late: bool) -> Result<(), String> {
        let (known, state) = (&self.cast.clients[client], &mut self.clients[client]);
        if let Some((attempt, response)) = state.response.take() {
            let transport = known.initiator.finish(&known.attempts[attempt], &response);
            state.transport = Some(transport.ok_or("the edge's response is not one")?);
        }
        let Some(transport) = &mut state.transport else { return Ok(()) };
        let number = state.sent;
        state.sent += 1;
        let source = if spoof { "10.9.0.77" } else { known.inner };
        let payload = [&[client as u8][..], &number.to_be_bytes()].concat();
        let octets = transport.seal(&packet(source, "10.9.255.1", &payload));
        let from = state.address;
        if !spoof {
            self.underway.insert((client, number));
        }
        self.launch(Recorded { from, octets, what: What::Data }, late)
    }

    fn launch(&mut self, datagram: Recorded, late: bool) -> Result<(), String> {
        let arrived =
            if late { Ok(()) } else { self.arrive(datagram.from, &datagram.octets, Some(datagram.what)) };
        self.recorded.push(datagram);
        arrived
    }

    fn arrive(&mut self, from: SocketAddr, octets: &[u8], what: Option<What>) -> Result<(), String> {
        if let Some(What::Introduction(certificate)) = what {
            self.model.introduced(self.cast, certificate);
        }
        self.edge.receive(&self.clock, from, octets);
        self.take_output()
    }

    fn replay(&mut self, recorded: u64, elsewhere: bool) -> Result<(), String> {
        let Some(datagram) = pick(&self.recorded, recorded).cloned() else { return Ok(()) };
        // Data that was never delivered would make its client roam to whoever delivers it: that is WireGuard.
        let from = match datagram.what {
            What::Data => datagram.from,
            _ if elsewhere => attacker(),
            _ => datagram.from,
        };
        self.arrive(from, &datagram.octets, Some(datagram.what))
    }

    fn alter(&mut self, recorded: u64, bit: u64) -> Result<(), String> {
        let Some(mut datagram) = pick(&self.recorded, recorded).cloned() else { return Ok(()) };
        let at = bit as usize / 8 % datagram.octets.len();
        datagram.octets[at] ^= 1 << (bit % 8);
        // The model counts it as nothing: mac2 is the only part that may change unnoticed while all is calm.
        let covered = at < datagram.octets.len() - 16 || matches!(datagram.what, What::Data);
        self.arrive(attacker(), &datagram.octets, (!covered).then_some(datagram.what))
    }

    /// Lets time pass, timer by timer.
    fn wait(&mut self, time: Duration) -> Result<(), String> {
        let end = self.clock.passed() + time;
        let begin = self.clock.now().mono - self.clock.passed();
        while let Some((at, _)) = self.edge.engine.poll_timeout() {
            let at = at.saturating_duration_since(begin).max(self.clock.passed());
            if at > end {
                break;
            }
            self.turn(at);
            self.edge.run_timers(&self.clock);
            self.take_output()?;
        }
        self.turn(end);
        Ok(())
    }

    fn turn(&mut self, to: Duration) {
        self.clock.set(to);
        MockClock::set_time(to);
        self.look_at_clock();
    }

    /// What the edge's clock says now, for the model.
    pub(super) fn look_at_clock(&mut self) {
        let now = self.off + self.slept + self.clock.passed().as_secs() as i64;
        self.model.clock = self.trusted.then_some(now);
    }

    /// Takes what the edge wrote: packets are checked, responses go to whom they are for.
    fn take_output(&mut self) -> Result<(), String> {
        for packet in self.edge.take_packets() {
            invariant::check_delivery(self, &packet)?;
        }
        for (to, datagram) in self.edge.take_datagrams() {
            invariant::check_sending(self, to, &datagram)?;
            if let Some((client, attempt)) = answered(&datagram) {
                self.clients[client].response = Some((attempt, datagram));
            }
        }
        Ok(())
    }

    /// The faults end: right clock, full policy, fresh lists, nobody disabled but for good. Who may be in is
    /// in after at most three attempts, and who may not is not.
    pub(crate) fn check_liveness(&mut self, client: usize) -> Result<(), String> {
        (self.off, self.trusted) = (0, true);
        self.model.new_rules(self.cast, Rules { frank: client == FRANK, ..Rules::FULL });
        self.install_rules();
        self.tell_clock();
        self.for_now.clear();
        let Some(certificate) = self.cast.clients[client].certificates.last().copied() else { return Ok(()) };
        let before = self.delivered;
        for _ in 0..3 {
            // Its attempts are numbered on from the last of the schedule.
            self.clients[client].attempts = self.clients[client].attempts.clamp(0, ATTEMPTS - 3);
            if let Some(datagram) = self.cast.certificates[certificate].introductions.first() {
                let from = self.clients[client].address;
                self.arrive(from, datagram, Some(What::Introduction(certificate)))?;
            }
            for issuer in ISSUERS {
                let list = self.publish(issuer);
                self.offer_through_agent(&list)?;
            }
            self.initiate(client, false)?;
            self.send(client, false, false)?;
            // Whether it was allowed is for the invariant, which every delivery is held against.
            if self.delivered > before {
                return Ok(());
            }
            self.wait(Duration::from_secs(1))?;
        }
        if self.model.permits(self.cast, certificate, false) {
            let name = self.cast.certificates[certificate].name;
            return Err(format!("{name} may be in and is not: {:?}", self.edge.engine.counters().refused));
        }
        Ok(())
    }
}

pub(super) fn pick<T>(items: &[T], at: u64) -> Option<&T> {
    let len = items.len() as u64;
    if len == 0 { None } else { items.get((at % len) as usize) }
}

fn address(client: usize, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 10 + client as u8], port))
}

pub(crate) fn attacker() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 66], 666))
}

/// Whose attempt a response answers.
pub(crate) fn answered(datagram: &[u8]) -> Option<(usize, usize)> {
    if datagram.first() != Some(&2) {
        return None;
    }
    let index = u32::from_le_bytes(*datagram.get(8..)?.first_chunk()?);
    Some(((index >> 8) as usize, (index & 0xff) as usize))
}
