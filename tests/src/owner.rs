//! An owner of the tests' making, with as many clients as wanted: the same keys in every process.
//!
//! The programs of a benchmark run apart from each other, so everything follows from small numbers: who made
//! the edge's policy, who plays its clients and who forges need not talk to each other.

use crate::gate;
use crate::pki::{Authority, LeafPlan};
use crate::swarm::{EdgeAddress, Identity};
use blake2::{Blake2s256, Digest};
use edge_tunnel_core::Introduction;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::SystemTime;
use verona_contract::base64::{Octets, encode};
use verona_contract::control::Policy;
use verona_contract::key::{PublicKey, Secret};
use verona_contract::psk;

/// The edge's address in the tunnel.
pub const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);
/// The first client's address in the tunnel, and the network of all.
const FIRST_CLIENT: u32 = u32::from_be_bytes([10, 128, 0, 0]);
/// The network of the clients' addresses in the tunnel.
pub const CLIENTS: &str = "10.128.0.0/9";
/// Clients whose certificates the policy pushes, for stock WireGuard; their addresses are 10.200.0.x.
const STOCK: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 200, 0, 1), Ipv4Addr::new(10, 200, 0, 3)];

/// The owner.
#[derive(Debug)]
pub struct Owner {
    authority: Authority,
    edge: Secret,
}

impl Default for Owner {
    fn default() -> Self {
        Self { authority: Authority::new(0x31, "Acme client CA"), edge: secret("edge", 0) }
    }
}

impl Owner {
    /// Its client CA.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The edge, reached at `at`.
    #[must_use]
    pub fn edge(&self, at: SocketAddr) -> EdgeAddress {
        EdgeAddress { key: public(&self.edge), at, inside: INSIDE }
    }

    /// The edge's policy: the stock clients pushed, up to `max_clients` introduced.
    #[must_use]
    pub fn policy(&self, max_clients: u32) -> Policy {
        let leaves: Vec<_> = (0..STOCK.len()).map(|number| self.stock_leaf(number)).collect();
        let mut policy = gate::policy(1, &self.edge, &self.authority, &leaves);
        policy.owners[0].max_clients = max_clients;
        policy
    }

    /// Adds the certificates of clients `numbers`, as the center pushes them.
    pub fn push(&self, policy: &mut Policy, numbers: Range<u32>) {
        policy.owners[0].clients.extend(numbers.map(|number| Octets(self.client_leaf(number))));
    }

    /// A list that revokes nobody.
    #[must_use]
    pub fn empty_list(&self) -> Vec<u8> {
        self.authority.crl(1, &[], SystemTime::now())
    }

    /// Client `number`, which introduces itself.
    #[must_use]
    pub fn client(&self, number: u32, keepalive: u16) -> Identity {
        let secret = secret("client", number);
        let address = Ipv4Addr::from(FIRST_CLIENT + number);
        let leaf = self.client_leaf(number);
        let introduction = Some(Introduction { leaf, intermediate: None, binding: None });
        let psk = Some(self.psk(&secret));
        Identity { secret, address, introduction, psk, keepalive }
    }

    /// The key and address of the first stock client, as a stranger knows it from its certificate.
    #[must_use]
    pub fn victim(&self) -> ([u8; 32], Ipv4Addr) {
        (*public(&secret("stock", 0)).as_bytes(), STOCK[0])
    }

    /// wg-quick's configuration of stock client `number` for the edge at `endpoint`.
    ///
    /// # Panics
    ///
    /// There are two of them, 0 and 1.
    #[must_use]
    pub fn stock_config(&self, number: usize, endpoint: SocketAddr) -> String {
        let secret = secret("stock", number as u32);
        format!(
            "[Interface]\nPrivateKey = {}\nAddress = {}/24\n\
             [Peer]\nPublicKey = {}\nPresharedKey = {}\nAllowedIPs = {INSIDE}/32\nEndpoint = {endpoint}\n",
            encode(secret.expose()),
            STOCK[number],
            public(&self.edge),
            encode(self.psk(&secret).expose()),
        )
    }

    /// The certificate of client `number`, serial number 1000 + `number`.
    #[must_use]
    pub fn client_leaf(&self, number: u32) -> Vec<u8> {
        let key = *public(&secret("client", number)).as_bytes();
        let (serial, address) = (1000 + u64::from(number), Ipv4Addr::from(FIRST_CLIENT + number));
        self.authority.leaf(&LeafPlan::new(key, serial, address.into(), SystemTime::now()))
    }

    fn stock_leaf(&self, number: usize) -> Vec<u8> {
        let key = *public(&secret("stock", number as u32)).as_bytes();
        self.authority.leaf(&LeafPlan::new(key, 1 + number as u64, STOCK[number].into(), SystemTime::now()))
    }

    fn psk(&self, client: &Secret) -> Secret {
        psk::derive(&gate::psk_root().secret, &public(client), &public(&self.edge))
    }
}

fn public(secret: &Secret) -> PublicKey {
    secret.x25519_public().unwrap()
}

fn secret(kind: &str, number: u32) -> Secret {
    let hash = Blake2s256::new().chain_update(kind).chain_update(number.to_le_bytes()).finalize();
    Secret::new(hash.into())
}
