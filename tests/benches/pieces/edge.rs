//! An edge without sockets, whose clock runs as fast as the benchmark wants.

use edge_tunnel_core::{CrlSet, Engine, Now, Output, VerifiedPolicy};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};
use verona_tests::owner::Owner;

/// Takes what the engine writes, and keeps the last datagram.
#[derive(Debug)]
pub(crate) struct Out {
    buffer: Vec<u8>,
    pub(crate) datagrams: u64,
    pub(crate) packets: u64,
    last: usize,
}

impl Out {
    pub(crate) fn last(&self) -> &[u8] {
        &self.buffer[..self.last]
    }
}

impl Default for Out {
    fn default() -> Self {
        Self { buffer: vec![0; 1 << 17], datagrams: 0, packets: 0, last: 0 }
    }
}

impl Output for Out {
    fn datagram_buffer(&mut self, _: SocketAddr, len: usize) -> &mut [u8] {
        &mut self.buffer[..len]
    }

    fn commit_datagram(&mut self, len: usize) {
        self.datagrams += 1;
        self.last = len;
    }

    fn packet_buffer(&mut self, len: usize) -> &mut [u8] {
        &mut self.buffer[..len]
    }

    fn commit_packet(&mut self, _: usize) {
        self.packets += 1;
    }
}

/// An edge that serves the tests' owner.
pub(crate) struct Edge {
    pub(crate) engine: Engine,
    pub(crate) out: Out,
    pub(crate) owner: Owner,
    passed: Duration,
    begin: Instant,
}

impl Edge {
    pub(crate) fn new() -> Self {
        let (begin, owner) = (Instant::now(), Owner::default());
        let now = Now { mono: begin, wall: SystemTime::now() };
        let mut engine = Engine::new([7; 32], now);
        engine.set_clock(now, true);
        engine.install_policy(now, VerifiedPolicy::new(owner.policy(1_000_000)).unwrap());
        let list = CrlSet::load(&owner.empty_list(), &engine.issuers()).unwrap();
        assert!(engine.install_crl(now, list).is_ok());
        Self { engine, out: Out::default(), owner, passed: Duration::ZERO, begin }
    }

    /// Moves the edge's clock on, so that its limits on strangers never bind.
    pub(crate) fn rest(&mut self, time: Duration) {
        self.passed += time;
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.begin + self.passed, wall: SystemTime::now() }
    }

    pub(crate) fn receive(&mut self, datagram: &[u8]) {
        let from = SocketAddr::from(([192, 0, 2, 9], 9));
        let now = self.now();
        self.engine.handle_datagrams(now, std::iter::once((from, datagram)), &mut self.out);
    }

    pub(crate) fn total(&self, name: &str) -> u64 {
        self.engine.counters().totals.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn refused(&self, name: &str) -> u64 {
        self.engine.counters().refused.get(name).copied().unwrap_or(0)
    }
}
