//! Who appears in the schedules, made once: authorities, clients, certificates, and every datagram that needs
//! an expensive signature or key agreement. A schedule only chooses among them.

use crate::harness::{Clock, Node, packet, peer, secret, wall};
use edge_tunnel_core::{Introduction, PeerUpdate, PublicKey, Secret};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use verona_contract::key::KeyId;
use verona_contract::psk;
use verona_tests::forgery::Initiation;
use verona_tests::initiator::{Attempt, Initiator};
use verona_tests::pki::{Authority, LeafPlan};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// Handshakes that one client can begin in one schedule.
pub(crate) const ATTEMPTS: usize = 24;
pub(crate) const EDGE: u8 = 200;

/// The certificate authorities. The first four have lists; nobody trusts the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Ca {
    Acme,
    /// The key that follows Acme's first one; both are anchors for a while.
    AcmeNext,
    /// An intermediate below `Acme`, which comes from the wire.
    Regional,
    Beta,
    Stranger,
    /// Another key under Acme's name.
    Twin,
}

pub(crate) const ISSUERS: [Ca; 4] = [Ca::Acme, Ca::AcmeNext, Ca::Regional, Ca::Beta];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Acme,
    Beta,
}

impl Owner {
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Acme => "acme",
            Self::Beta => "beta",
        }
    }

    pub(crate) const fn psk_root(self) -> [u8; 32] {
        match self {
            Self::Acme => [0x77; 32],
            Self::Beta => [0x78; 32],
        }
    }
}

/// One certificate, and what the model has to know of it.
pub(crate) struct Certificate {
    pub(crate) name: &'static str,
    /// Who shows it, by number.
    pub(crate) client: usize,
    /// Whose anchor it leads to by a sound path that keeps to the profile; none: it must never count.
    pub(crate) leads_to: Option<(Owner, Ca)>,
    /// Issuer and serial number of the leaf, and of each CA below the anchor.
    pub(crate) chain: Vec<(Ca, u64)>,
    /// Seconds from the schedule's beginning.
    pub(crate) valid: (i64, i64),
    pub(crate) leaf: Vec<u8>,
    /// The datagrams that introduce it, sealed by the client's own key.
    pub(crate) introductions: Vec<Vec<u8>>,
}

pub(crate) struct Client {
    pub(crate) key: PublicKey,
    pub(crate) inner: &'static str,
    pub(crate) initiator: Initiator,
    pub(crate) attempts: Vec<Attempt>,
    /// Initiations that claim this client's key, made without its private key.
    pub(crate) forged: Vec<u8>,
    /// The certificates that it uses, oldest first.
    pub(crate) certificates: Vec<usize>,
}

pub(crate) struct Cast {
    authorities: Vec<Authority>,
    pub(crate) clients: Vec<Client>,
    pub(crate) certificates: Vec<Certificate>,
}

pub(crate) const FRANK: usize = 4;

/// Name, inner address, whose preshared key.
const CLIENTS: [(&str, &str, Owner); 8] = [
    ("alice", "10.9.0.11", Owner::Acme),
    ("bob", "10.9.0.12", Owner::Acme),
    ("carol", "10.8.0.11", Owner::Beta),
    ("dave", "10.9.0.14", Owner::Acme),
    ("frank", "10.9.0.15", Owner::Acme),
    ("grace", "10.9.0.18", Owner::Acme),
    ("eve", "10.9.0.16", Owner::Acme),
    ("mallory", "10.9.0.11", Owner::Acme),
];

/// Name, client, chain, where it leads, validity. Carol's serial number is Alice's: only the issuer tells them
/// apart. Mallory's last but one is Alice's own certificate.
type Row = (&'static str, usize, &'static [(Ca, u64)], Option<(Owner, Ca)>, (i64, i64));
const CERTIFICATES: [Row; 10] = [
    ("alice", 0, &[(Ca::Acme, 11)], Some((Owner::Acme, Ca::Acme)), (-HOUR, 10 * DAY)),
    ("alice-renewed", 0, &[(Ca::AcmeNext, 31)], Some((Owner::Acme, Ca::AcmeNext)), (-HOUR, 30 * DAY)),
    ("bob", 1, &[(Ca::Regional, 12), (Ca::Acme, 0x99)], Some((Owner::Acme, Ca::Acme)), (-HOUR, 30 * DAY)),
    ("carol", 2, &[(Ca::Beta, 11)], Some((Owner::Beta, Ca::Beta)), (-HOUR, 30 * DAY)),
    ("dave, short", 3, &[(Ca::Acme, 14)], Some((Owner::Acme, Ca::Acme)), (-HOUR, 60)),
    ("frank, pushed", FRANK, &[(Ca::Acme, 15)], Some((Owner::Acme, Ca::Acme)), (-HOUR, 30 * DAY)),
    ("grace, from tomorrow", 5, &[(Ca::Acme, 18)], Some((Owner::Acme, Ca::Acme)), (DAY, 30 * DAY)),
    ("eve, of a stranger", 6, &[(Ca::Stranger, 16)], None, (-HOUR, 30 * DAY)),
    ("mallory, of the twin", 7, &[(Ca::Twin, 17)], None, (-HOUR, 30 * DAY)),
    ("mallory, without purpose", 7, &[(Ca::Acme, 19)], None, (-HOUR, 30 * DAY)),
];

impl Cast {
    pub(crate) fn new() -> Self {
        let authorities = vec![
            Authority::new(7, "Acme clients"),
            Authority::new(8, "Acme clients 2"),
            Authority::new(9, "Acme regional"),
            Authority::new(10, "Beta clients"),
            Authority::new(11, "Nobody"),
            Authority::new(12, "Acme clients"),
        ];
        let mut cast = Self { authorities, clients: Vec::new(), certificates: Vec::new() };
        cast.clients = (0..CLIENTS.len()).map(|number| cast.client(number)).collect();
        for row in CERTIFICATES {
            let made = cast.certificate(row);
            cast.clients[row.1].certificates.push(cast.certificates.len());
            cast.certificates.push(made);
        }
        let stolen = cast.stolen();
        cast.certificates.push(stolen);
        cast
    }

    pub(crate) fn authority(&self, ca: Ca) -> &Authority {
        &self.authorities[ca as usize]
    }

    pub(crate) fn key_id(&self, ca: Ca) -> KeyId {
        self.authority(ca).key_id()
    }

    fn client(&self, number: usize) -> Client {
        let private = Self::private(number);
        let (_, inner, owner) = CLIENTS[number];
        let (key, edge) = (private.x25519_public().unwrap(), Self::edge());
        let psk = psk::derive(&Secret::new(owner.psk_root()), &key, &edge);
        let initiator = Initiator::new(&private, edge, psk);
        let attempt = |attempt: usize| {
            let ephemeral = Secret::new(std::array::from_fn(|at| match at {
                0 => number as u8,
                1 => attempt as u8,
                _ => 0x5c,
            }));
            // Its own clock only has to go on.
            let at = wall() + Duration::from_secs(attempt as u64);
            initiator.initiate(ephemeral, Self::index(number, attempt), at)
        };
        let attempts = (0..ATTEMPTS).map(attempt).collect();
        let forged = Initiation::forged(edge, *key.as_bytes()).message();
        Client { key, inner, initiator, attempts, forged, certificates: Vec::new() }
    }

    fn certificate(&self, (name, client, chain, leads_to, valid): Row) -> Certificate {
        let (issuer, serial) = chain[0];
        let authority = self.authority(issuer);
        let address: IpAddr = CLIENTS[client].1.parse().unwrap();
        let key = *self.clients[client].key.as_bytes();
        let mut plan = LeafPlan::new(key, serial, address, wall());
        // One subject for both of Alice's certificates.
        plan.subject = format!("urn:verona:client:00000000-0000-4000-8000-{client:012x}");
        plan.not_before = moment(valid.0);
        plan.not_after = moment(valid.1);
        if serial == 19 {
            plan.extended_key_usage = None;
        }
        let leaf = authority.leaf(&plan);
        let intermediate =
            chain.get(1).map(|(above, serial)| self.authority(*above).certify(authority, *serial));
        let introduction = Introduction { leaf: leaf.clone(), intermediate, binding: None };
        let introductions = introductions(client, &introduction);
        Certificate { name, client, leads_to, chain: chain.to_vec(), valid, leaf, introductions }
    }

    /// Alice's certificate, introduced by Mallory's key.
    fn stolen(&self) -> Certificate {
        let alice = &self.certificates[0];
        let introduction = Introduction { leaf: alice.leaf.clone(), ..Introduction::default() };
        Certificate {
            name: "mallory, with alice's",
            client: 7,
            leads_to: None,
            chain: alice.chain.clone(),
            valid: alice.valid,
            leaf: alice.leaf.clone(),
            introductions: introductions(7, &introduction),
        }
    }

    pub(crate) fn private(client: usize) -> Secret {
        secret(10 + client as u8)
    }

    pub(crate) fn edge() -> PublicKey {
        secret(EDGE).x25519_public().unwrap()
    }

    /// The session index of a client's attempt.
    pub(crate) fn index(client: usize, attempt: usize) -> u32 {
        (client << 8 | attempt) as u32
    }
}

/// So many seconds from the beginning.
pub(crate) fn moment(seconds: i64) -> std::time::SystemTime {
    let off = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { wall() - off } else { wall() + off }
}

/// Two datagrams that introduce the same.
fn introductions(client: usize, introduction: &Introduction) -> Vec<Vec<u8>> {
    let clock = Clock::new();
    let once = |_| {
        let mut node = Node::new(10 + client as u8, "192.0.2.1:1", &clock);
        let edge: SocketAddr = "198.51.100.1:51820".parse().unwrap();
        let update = PeerUpdate {
            introduction: Some(introduction.clone()),
            ..peer(Cast::edge(), Some(edge), &["0.0.0.0/0"])
        };
        node.update_peer(&clock, update);
        node.send(&clock, &packet("10.9.0.1", "10.9.255.1", b"x"));
        node.take_datagrams().remove(0).1
    };
    (0..2).map(once).collect()
}
