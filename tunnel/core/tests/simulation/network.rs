//! Nodes on a network that loses, doubles, delays and reorders, with a clock that is turned by hand.

use crate::dice::Dice;
use crate::harness::{Clock, Node};
use mock_instant::MockClock;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

/// What the network does to datagrams.
#[derive(Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    /// Milliseconds; each datagram gets its own, so they overtake each other.
    pub(crate) delay: u64,
}

pub(crate) const CALM: Weather = Weather { loss: 0, duplication: 0, delay: 1 };
pub(crate) const STORM: Weather = Weather { loss: 20, duplication: 10, delay: 300 };
pub(crate) const CUT_OFF: Weather = Weather { loss: 100, duplication: 0, delay: 1 };

/// Arrival, order of sending, from, to, octets.
pub(crate) type Flight = Reverse<(Duration, u64, SocketAddr, SocketAddr, Vec<u8>)>;

/// Delivered inner packets: when, to which node, octets.
pub(crate) type Delivery = (Duration, usize, Vec<u8>);

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) dice: Dice,
    pub(crate) weather: Weather,
    pub(crate) nodes: Vec<Node>,
    pub(crate) flights: BinaryHeap<Flight>,
    pub(crate) sent: u64,
    pub(crate) delivered: Vec<Delivery>,
    /// When, from whom, and the first octet and length of every datagram.
    pub(crate) trace: Vec<(Duration, SocketAddr, u8, usize)>,
}

impl World {
    pub(crate) fn new(clock: Clock, seed: u64, nodes: Vec<Node>) -> Self {
        println!("VERONA_SEED={seed}");
        MockClock::set_time(clock.passed());
        Self {
            clock,
            dice: Dice(seed),
            weather: CALM,
            nodes,
            flights: BinaryHeap::new(),
            sent: 0,
            delivered: Vec::new(),
            trace: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.passed()
    }

    pub(crate) fn turn(&mut self, to: Duration) {
        self.clock.set(to);
        MockClock::set_time(to);
    }

    /// Takes what every node wrote.
    pub(crate) fn collect(&mut self) {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            let from = node.address;
            let (datagrams, packets) = (node.take_datagrams(), node.take_packets());
            self.delivered.extend(packets.into_iter().map(|packet| (self.clock.passed(), index, packet)));
            for (to, datagram) in datagrams {
                self.trace.push((self.clock.passed(), from, datagram[0], datagram.len()));
                self.launch(from, to, &datagram);
            }
        }
    }

    fn launch(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if self.dice.chance(self.weather.loss) {
            return;
        }
        let copies = 1 + u64::from(self.dice.chance(self.weather.duplication));
        for _ in 0..copies {
            let delay = Duration::from_millis(1 + self.dice.below(self.weather.delay));
            self.sent += 1;
            self.flights.push(Reverse((self.now() + delay, self.sent, from, to, datagram.to_vec())));
        }
    }

    pub(crate) fn next_timer(&self) -> Option<Duration> {
        let begin = self.clock.now().mono - self.now();
        let timer =
            |node: &Node| node.engine.poll_timeout().map(|(at, _)| at.saturating_duration_since(begin));
        self.nodes.iter().filter_map(timer).min()
    }

    /// Lets `time` pass, event by event.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now() + time;
        self.collect();
        loop {
            let arrival = self.flights.peek().map(|Reverse(flight)| flight.0);
            // A deadline that is due is served at once, and never earlier than now.
            let timer = self.next_timer().map(|at| at.max(self.now()));
            let Some(next) = arrival.into_iter().chain(timer).min().filter(|next| *next <= end) else {
                break;
            };
            self.turn(next);
            if arrival == Some(next) {
                if let Some(Reverse((_, _, from, to, datagram))) = self.flights.pop()
                    && let Some(node) = self.nodes.iter_mut().find(|node| node.address == to)
                {
                    node.receive(&self.clock, from, &datagram);
                }
            } else {
                for node in &mut self.nodes {
                    node.run_timers(&self.clock);
                }
            }
            self.collect();
        }
        self.turn(end);
    }

    pub(crate) fn send(&mut self, node: usize, packet: &[u8]) {
        self.nodes[node].send(&self.clock, packet);
        self.collect();
    }

    /// Times of datagrams of one type from one node.
    pub(crate) fn times(&self, node: usize, kind: u8) -> Vec<Duration> {
        let from = self.nodes[node].address;
        self.trace.iter().filter(|entry| entry.1 == from && entry.2 == kind).map(|entry| entry.0).collect()
    }
}

pub(crate) const INITIATION: u8 = 1;
pub(crate) const RESPONSE: u8 = 2;
pub(crate) const DATA: u8 = 4;
