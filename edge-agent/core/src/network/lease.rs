//! What a DHCP client of an uplink was given (RFC 2131), as the client's program tells it in its environment.
//!
//! Everything in it was chosen by a server that nobody vouches for. What is not an address, or is none that a host
//! may have, is refused; what is only an extra (name servers, MTU) is left out.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use verona_contract::ipnet::IpNet;

/// Most name servers that are taken over from a lease.
const MAX_SERVERS: usize = 3;

/// What was leased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// With the prefix of the line's network.
    pub address: IpNet,
    /// The provider's router; none = the line has none.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers, at most three.
    pub servers: Vec<IpAddr>,
    /// Octets, 1280 to 9000; none = not told.
    pub mtu: Option<u16>,
    /// How long it holds, seconds from when it was told.
    pub seconds: u32,
}

/// News of the client's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A lease is held: a new one or a renewed one.
    Held(Lease),
    /// The server took it back.
    Lost,
    /// Nothing new: the client begins, or begins again, or no server answers. A lease that is held still is, until its
    /// time is over.
    Nothing,
}

/// News that make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NewsError {
    /// Not one of the client's events.
    #[error("unknown event")]
    Event,
    /// A lease without an address for a host.
    #[error("the lease's address {0:?} is not a host's")]
    Address(String),
}

impl News {
    /// Reads the event's name and its variables (`udhcpc`'s).
    ///
    /// # Errors
    ///
    /// [`NewsError`].
    pub fn read(event: &str, variables: &BTreeMap<String, String>) -> Result<Self, NewsError> {
        match event {
            "bound" | "renew" => Lease::read(variables).map(Self::Held),
            "nak" => Ok(Self::Lost),
            "deconfig" | "leasefail" => Ok(Self::Nothing),
            _ => Err(NewsError::Event),
        }
    }
}

impl Lease {
    fn read(variables: &BTreeMap<String, String>) -> Result<Self, NewsError> {
        let text = |name: &str| variables.get(name).map_or("", String::as_str);
        let refused = || NewsError::Address(text("ip").chars().take(40).collect());
        let address: Ipv4Addr = text("ip").parse().map_err(|_| refused())?;
        let prefix: u8 = text("mask").parse().ok().filter(|prefix| (1..=32).contains(prefix)).unwrap_or(32);
        if !is_host(address) {
            return Err(refused());
        }
        let address = IpNet::new(address.into(), prefix).map_err(|_| refused())?;
        let first = |name: &str| text(name).split_ascii_whitespace().next().unwrap_or("");
        let gateway = first("router").parse().ok().filter(|router| is_host(*router));
        let servers = text("dns").split_ascii_whitespace().filter_map(|word| word.parse::<Ipv4Addr>().ok());
        let servers = servers.filter(|server| is_host(*server)).map(IpAddr::V4).take(MAX_SERVERS).collect();
        let mtu = text("mtu").parse().ok().filter(|mtu| (1280..=9000).contains(mtu));
        Ok(Self { address, gateway, servers, mtu, seconds: text("lease").parse().unwrap_or(3600) })
    }
}

pub(super) fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    (1..=223).contains(&first) && first != 127
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(event: &str, variables: &[(&str, &str)]) -> Result<News, NewsError> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        News::read(event, &variables)
    }

    #[test]
    fn a_lease() {
        let news = read(
            "bound",
            &[
                ("ip", "192.0.2.50"),
                ("mask", "24"),
                ("router", "192.0.2.1 192.0.2.2"),
                ("dns", "192.0.2.1 evil; 127.0.0.1 192.0.2.3"),
                ("mtu", "1454"),
                ("lease", "600"),
            ],
        );
        let lease = Lease {
            address: "192.0.2.50/24".parse().unwrap(),
            gateway: Some(Ipv4Addr::new(192, 0, 2, 1)),
            servers: vec![[192, 0, 2, 1].into(), [192, 0, 2, 3].into()],
            mtu: Some(1454),
            seconds: 600,
        };
        assert_eq!(news, Ok(News::Held(lease)));
        assert_eq!(read("nak", &[]), Ok(News::Lost));
        assert_eq!(read("leasefail", &[("ip", "")]), Ok(News::Nothing));
        assert_eq!(read("deconfig", &[("ip", "192.0.2.50")]), Ok(News::Nothing));
    }

    #[test]
    fn what_makes_no_sense_is_refused_or_left_out() {
        for address in ["", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "fe80::1", "1.2.3.4\n5"] {
            assert!(matches!(read("bound", &[("ip", address)]), Err(NewsError::Address(_))), "{address}");
        }
        assert_eq!(read("rm -rf /", &[]), Err(NewsError::Event));
        let Ok(News::Held(lease)) =
            read("renew", &[("ip", "10.0.0.2"), ("mask", "77"), ("mtu", "68"), ("router", "x")])
        else {
            panic!("a lease with an address is a lease");
        };
        assert_eq!((lease.address.prefix(), lease.mtu, lease.gateway), (32, None, None));
    }
}
