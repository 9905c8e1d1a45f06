//! What the tunnel interface should look like, and the changes that bring it there.
//!
//! The kernel's state is read, compared and only the difference applied. What the agent installed carries its
//! protocol number, so it removes its own addresses and routes when they are no longer wanted, also after a
//! restart, and never touches what someone else put there.

pub mod dhcp6;
pub mod firewall;
pub mod health;
pub mod icmp;
pub mod kernel;
pub mod lease;
pub mod plan;
pub mod pppoe;
pub mod services;

use std::collections::BTreeSet;
use verona_contract::config::TunnelConfig;
use verona_contract::ipnet::IpNet;

/// Marks routes (`rtm_protocol`) and addresses (`IFA_PROTO`) of the agent. Not assigned in
/// `/etc/iproute2/rt_protos`.
pub const PROTOCOL: u8 = 118;

/// What the configuration asks of the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Octets.
    pub mtu: u32,
    /// With the prefix of the network: the kernel routes it by itself.
    pub addresses: BTreeSet<IpNet>,
    /// Host bits clear.
    pub routes: BTreeSet<IpNet>,
}

impl Desired {
    /// Nothing of ours, as before the first configuration.
    pub const NOTHING: Self = Self { mtu: 1420, addresses: BTreeSet::new(), routes: BTreeSet::new() };

    /// From a configuration.
    #[must_use]
    pub fn of(config: &TunnelConfig) -> Self {
        let addresses: BTreeSet<IpNet> = config.addresses.iter().copied().collect();
        let connected: BTreeSet<IpNet> = addresses.iter().map(IpNet::network).collect();
        let sites = config.owners.iter().flat_map(|owner| &owner.sites).flat_map(|site| &site.subnets);
        let routes =
            config.routes.iter().chain(sites).map(IpNet::network).filter(|net| !connected.contains(net));
        Self { mtu: u32::from(config.mtu), routes: routes.collect(), addresses }
    }
}

/// What the kernel reports of the interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Whether it is administratively up.
    pub up: bool,
    /// Octets.
    pub mtu: u32,
    /// All its addresses.
    pub addresses: Vec<Installed>,
    /// The routes of the main table that lead out of it.
    pub routes: Vec<Installed>,
}

/// One address or route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Which.
    pub net: IpNet,
    /// Whether it carries [`PROTOCOL`].
    pub ours: bool,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes a route of ours away.
    RemoveRoute(IpNet),
    /// Takes an address of ours away.
    RemoveAddress(IpNet),
    /// In octets.
    SetMtu(u32),
    /// Adds an address.
    AddAddress(IpNet),
    /// Routes need it up.
    SetUp,
    /// Adds a route into the tunnel.
    AddRoute(IpNet),
}

/// The steps from `actual` to `desired`, in the order in which the kernel accepts them. None when they agree.
#[must_use]
pub fn changes(desired: &Desired, actual: &Actual) -> Vec<Change> {
    let unwanted = |installed: &[Installed], wanted: &BTreeSet<IpNet>| -> Vec<IpNet> {
        installed.iter().filter(|one| one.ours && !wanted.contains(&one.net)).map(|one| one.net).collect()
    };
    let missing = |installed: &[Installed], wanted: &BTreeSet<IpNet>| -> Vec<IpNet> {
        wanted.iter().filter(|net| !installed.iter().any(|one| one.net == **net)).copied().collect()
    };
    let mut steps = Vec::new();
    steps.extend(unwanted(&actual.routes, &desired.routes).into_iter().map(Change::RemoveRoute));
    steps.extend(unwanted(&actual.addresses, &desired.addresses).into_iter().map(Change::RemoveAddress));
    if actual.mtu != desired.mtu {
        steps.push(Change::SetMtu(desired.mtu));
    }
    steps.extend(missing(&actual.addresses, &desired.addresses).into_iter().map(Change::AddAddress));
    if !actual.up {
        steps.push(Change::SetUp);
    }
    steps.extend(missing(&actual.routes, &desired.routes).into_iter().map(Change::AddRoute));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ours(text: &str) -> Installed {
        Installed { net: net(text), ours: true }
    }

    fn foreign(text: &str) -> Installed {
        Installed { net: net(text), ours: false }
    }

    fn desired(addresses: &[&str], routes: &[&str]) -> Desired {
        Desired::of(&TunnelConfig {
            addresses: addresses.iter().map(|text| net(text)).collect(),
            listen_port: 51820,
            mtu: 1420,
            routes: routes.iter().map(|text| net(text)).collect(),
            owners: vec![],
        })
    }

    #[test]
    fn from_nothing() {
        let wanted = desired(&["10.8.0.1/16", "fd00:8::1/64"], &["10.9.0.5/24", "10.8.0.0/16"]);
        assert_eq!(
            changes(&wanted, &Actual { mtu: 1500, ..Actual::default() }),
            [
                Change::SetMtu(1420),
                Change::AddAddress(net("10.8.0.1/16")),
                Change::AddAddress(net("fd00:8::1/64")),
                Change::SetUp,
                Change::AddRoute(net("10.9.0.0/24")),
            ],
            "host bits are cleared, and the connected network is the kernel's"
        );
    }

    #[test]
    fn nothing_to_do_when_they_agree() {
        let wanted = desired(&["10.8.0.1/16"], &["10.9.0.0/24"]);
        let actual = Actual {
            up: true,
            mtu: 1420,
            addresses: vec![ours("10.8.0.1/16"), foreign("fe80::1/64")],
            routes: vec![foreign("10.8.0.0/16"), ours("10.9.0.0/24")],
        };
        assert_eq!(changes(&wanted, &actual), []);
        let by_hand = Actual { addresses: vec![foreign("10.8.0.1/16")], ..actual };
        assert_eq!(changes(&wanted, &by_hand), [], "a foreign one that fits is as good");
    }

    #[test]
    fn removes_its_own_and_never_foreign_ones() {
        let wanted = desired(&["10.8.0.1/16"], &[]);
        let actual = Actual {
            up: true,
            mtu: 1420,
            addresses: vec![ours("10.7.0.1/16"), foreign("192.0.2.1/32"), ours("10.8.0.1/16")],
            routes: vec![ours("10.9.0.0/24"), foreign("10.10.0.0/24")],
        };
        assert_eq!(
            changes(&wanted, &actual),
            [Change::RemoveRoute(net("10.9.0.0/24")), Change::RemoveAddress(net("10.7.0.1/16"))]
        );
    }

    #[test]
    fn a_changed_prefix_is_another_address() {
        let wanted = desired(&["10.8.0.1/24"], &[]);
        let actual = Actual { up: true, mtu: 1420, addresses: vec![ours("10.8.0.1/16")], routes: vec![] };
        assert_eq!(
            changes(&wanted, &actual),
            [Change::RemoveAddress(net("10.8.0.1/16")), Change::AddAddress(net("10.8.0.1/24"))]
        );
    }
}
