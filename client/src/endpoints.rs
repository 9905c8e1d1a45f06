//! The addresses under which one edge may be reached, tried in turn.
//!
//! Endpoints come as `host:port`. A name is looked up again each time its turn comes, so an edge that moved
//! is found; all its addresses are tried before the next endpoint. The lookup itself is the caller's.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// See the module's head.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    names: Vec<String>,
    turn: usize,
    addresses: VecDeque<SocketAddr>,
}

/// What to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This address.
    Address(SocketAddr),
    /// Look this name up and tell [`Endpoints::resolved`].
    Resolve(String),
    /// The edge has no endpoint: it has to call us.
    Nothing,
}

impl Endpoints {
    pub(crate) const fn new(names: Vec<String>) -> Self {
        Self { names, turn: 0, addresses: VecDeque::new() }
    }

    /// As the profile lists them.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The next one in turn, round and round.
    pub(crate) fn next(&mut self) -> Next {
        if let Some(address) = self.addresses.pop_front() {
            return Next::Address(address);
        }
        let Some(name) = self.names.get(self.turn) else { return Next::Nothing };
        self.turn = (self.turn + 1) % self.names.len();
        match name.parse() {
            Ok(address) => Next::Address(address),
            Err(_) => Next::Resolve(name.clone()),
        }
    }

    /// The addresses of a name; the first of them is next. None: the next endpoint is.
    pub(crate) fn resolved(&mut self, addresses: Vec<SocketAddr>) {
        self.addresses = addresses.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_of_each_name_in_turn() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mut endpoints = Endpoints::new(vec!["edge.example:51820".into(), "[2001:db8::1]:51820".into()]);
        let resolve = Next::Resolve("edge.example:51820".into());
        assert_eq!(endpoints.next(), resolve);
        endpoints.resolved(vec![address("192.0.2.1:51820"), address("[2001:db8::9]:51820")]);
        assert_eq!(endpoints.next(), Next::Address(address("192.0.2.1:51820")));
        assert_eq!(endpoints.next(), Next::Address(address("[2001:db8::9]:51820")));
        assert_eq!(endpoints.next(), Next::Address(address("[2001:db8::1]:51820")));
        assert_eq!(endpoints.next(), resolve, "looked up again");
        endpoints.resolved(Vec::new());
        assert_eq!(endpoints.next(), Next::Address(address("[2001:db8::1]:51820")), "no address, no stop");
        assert_eq!(Endpoints::new(Vec::new()).next(), Next::Nothing);
    }
}
