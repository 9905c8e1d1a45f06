//! One simulated client: the engine that the Verona Client runs, without sockets and TUN device.
//!
//! Its tunnel address and its certificate come with it. What the engine writes is left in [`Client::out`]
//! for whoever owns the socket.

use crate::fuzz::data_plane::Sink;
use edge_tunnel_core::{AllowedIpUpdate, DeviceUpdate, Engine, Introduction, Now, PeerUpdate};
use std::net::{Ipv4Addr, SocketAddr};
use verona_contract::key::{PublicKey, Secret};

/// What a client knows of the edge it talks to.
#[derive(Clone, Copy, Debug)]
pub struct EdgeAddress {
    /// The edge's WireGuard key.
    pub key: PublicKey,
    /// Where it listens.
    pub at: SocketAddr,
    /// Its address in the tunnel.
    pub inside: Ipv4Addr,
}

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its WireGuard key.
    pub secret: Secret,
    /// Its address in the tunnel.
    pub address: Ipv4Addr,
    /// The certificates that it shows; none when the center pushed them to the edge.
    pub introduction: Option<Introduction>,
    /// The preshared key, if the edge wants one.
    pub psk: Option<Secret>,
    /// Seconds between keepalives, 0 for none.
    pub keepalive: u16,
}

/// A client's state.
pub struct Client {
    pub(crate) engine: Engine,
    pub(crate) out: Sink,
    address: Ipv4Addr,
    inside: Ipv4Addr,
}

impl Client {
    /// A client that has not said anything yet.
    ///
    /// # Panics
    ///
    /// The engine refuses the configuration.
    #[must_use]
    pub fn new(identity: Identity, edge: &EdgeAddress, now: Now) -> Self {
        let mut engine = Engine::new(*identity.secret.expose(), now);
        let mut out = Sink::default();
        let peer = PeerUpdate {
            endpoint: Some(edge.at),
            allowed_ips: vec![AllowedIpUpdate::Add("0.0.0.0/0".parse().unwrap())],
            introduction: identity.introduction,
            preshared_key: identity.psk.map(Some),
            persistent_keepalive: Some(identity.keepalive),
            ..PeerUpdate::new(edge.key)
        };
        let private_key = Some(Some(identity.secret));
        let update = DeviceUpdate { private_key, peers: vec![peer], ..DeviceUpdate::default() };
        engine.configure(now, update, &mut out).unwrap();
        Self { engine, out, address: identity.address, inside: edge.inside }
    }

    /// Sends an echo request to the edge's address in the tunnel, which makes a session if there is none.
    pub fn ping(&mut self, sequence: u16, now: Now) {
        let packet = echo_request(self.address, self.inside, sequence);
        self.engine.handle_packets(now, std::iter::once(packet.as_slice()), &mut self.out);
    }

    /// Takes a datagram that came from the edge.
    pub fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: Now) {
        self.engine.handle_datagrams(now, std::iter::once((from, datagram)), &mut self.out);
    }

    /// What it wants to send, oldest first.
    pub fn take_datagrams(&mut self) -> Vec<Vec<u8>> {
        self.out.datagrams.drain(..).map(|(_, octets)| octets).collect()
    }

    /// The datagram in which a new client with these certificates introduces itself.
    ///
    /// # Panics
    ///
    /// The identity has no certificates.
    #[must_use]
    pub fn introduction(identity: Identity, edge: &EdgeAddress, now: Now) -> Vec<u8> {
        let mut client = Self::new(identity, edge, now);
        client.ping(0, now);
        let datagrams = client.out.datagrams.into_iter();
        datagrams.map(|(_, octets)| octets).find(|octets| octets[0] == 0x10).expect("an introduction")
    }
}

/// ICMP echo request (RFC 792) without data.
fn echo_request(from: Ipv4Addr, to: Ipv4Addr, sequence: u16) -> [u8; 28] {
    let mut packet = [0; 28];
    packet[..10].copy_from_slice(&[0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1]);
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    let checksum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&checksum);
    packet[20] = 8;
    packet[26..28].copy_from_slice(&sequence.to_be_bytes());
    let checksum = self::checksum(&packet[20..]);
    packet[22..24].copy_from_slice(&checksum);
    packet
}

/// The internet checksum (RFC 1071) of an even number of octets.
fn checksum(octets: &[u8]) -> [u8; 2] {
    let words = octets.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    (!(folded as u16)).to_be_bytes()
}
