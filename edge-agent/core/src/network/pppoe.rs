//! A session of PPPoE (RFC 2516): what the program that keeps it is told, and what it says.
//!
//! The program is `pppd` with its PPPoE plugin. Every word of the options is fixed or quoted here. What it says was
//! said to it by a provider that nobody vouches for, before anybody was authenticated: a line counts only if it is one
//! of those below, and an address only if a host may have it.

use super::lease::{Lease, is_host};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use verona_contract::config::network::{PPPOE_MTU, Port, Pppoe, Wan, ZoneName};
use verona_contract::ipnet::IpNet;
use zeroize::Zeroizing;

/// Smallest MTU of a session: IPv6 needs no less.
const LEAST_MTU: u16 = 1280;

/// Most name servers of a session: IPCP tells two (RFC 1877).
const MAX_SERVERS: usize = 2;

/// A session that should be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The uplink's name; the link is `pp-` and this.
    pub line: ZoneName,
    /// Where it is plugged in.
    pub port: Port,
    /// As it is configured.
    pub pppoe: Pppoe,
    /// Octets, 1280 to 1492.
    pub mtu: u16,
}

impl Session {
    /// The one that `wan` asks for.
    #[must_use]
    pub fn of(wan: &Wan) -> Option<Self> {
        let (pppoe, mtu) = (wan.pppoe()?.clone(), wan.mtu.unwrap_or(PPPOE_MTU));
        Some(Self { line: wan.name.clone(), port: wan.port.clone(), pppoe, mtu })
    }

    /// The options of `pppd`, one a line. None for an MTU that a session cannot have: whoever sent the order was not
    /// the configuration's check.
    #[must_use]
    pub fn options(&self) -> Option<Zeroizing<String>> {
        if !(LEAST_MTU..=PPPOE_MTU).contains(&self.mtu) {
            return None;
        }
        // Nothing of the password is left behind by a text that grows.
        let mut text = Zeroizing::new(String::with_capacity(4096));
        text.push_str(FIXED);
        let Self { line, port, pppoe, mtu } = self;
        // Writing to a string does not fail.
        let _ = writeln!(text, "mtu {mtu}\nmru {mtu}\nifname pp-{line}");
        option(&mut text, "user", pppoe.user.as_str());
        option(&mut text, "password", pppoe.password.expose());
        if let Some(service) = &pppoe.service {
            option(&mut text, "pppoe-service", service.as_str());
        }
        if let Some(concentrator) = &pppoe.concentrator {
            option(&mut text, "pppoe-ac", concentrator.as_str());
        }
        // Last: the plugin looks for the port as soon as it is named.
        let _ = writeln!(text, "nic-{port}");
        Some(text)
    }
}

/// What is the same for every session. One attempt, since the agent decides about the next one; no route, no script and
/// no file of the program's own, since the agent keeps the network; discovery waits for 1, 2
/// and 4 s; three echoes without an answer end it.
const FIXED: &str = "\
plugin pppoe.so
pppoe-padi-timeout 1
pppoe-padi-attempts 3
nodetach
logfd 2
nopersist
maxfail 1
noauth
refuse-eap
noipdefault
ipcp-accept-local
ipcp-accept-remote
usepeerdns
nodefaultroute
noipv6
noproxyarp
nobsdcomp
nodeflate
novj
noaccomp
nopcomp
lcp-echo-interval 3
lcp-echo-failure 3
ip-up-script /nowhere
ip-down-script /nowhere
";

/// The contract's characters leave two that mean something between quotes.
fn option(text: &mut Zeroizing<String>, name: &str, value: &str) {
    text.push_str(name);
    text.push_str(" \"");
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push_str("\"\n");
}

/// What a line of the program says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The box's address: the session is up.
    Address(Ipv4Addr),
    /// A name server.
    Server(Ipv4Addr),
    /// Why it will end, or has not begun.
    Failed(Failure),
}

/// Why there is no session. A line tells at most one thing, and the first is the cause of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// No PADO (RFC 2516 §5.2).
    NoConcentrator,
    /// No PADS, or one with an error.
    NoSession,
    /// PAP or CHAP.
    Refused,
    /// The other end does not answer the negotiation.
    NoAgreement,
    /// Echoes went unanswered.
    Silent,
    /// The other end ended it.
    Ended,
    /// The address that was given is none for a host.
    Address,
    /// The kernel lacks what it needs.
    Kernel,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoConcentrator => "no PPPoE answer on the line: no access concentrator (PADO)",
            Self::NoSession => "the provider's concentrator gives no PPPoE session (PADS)",
            Self::Refused => "the provider refuses the PPPoE user name or password",
            Self::NoAgreement => "the provider's end does not agree to a PPP session",
            Self::Silent => "the provider's end of the PPPoE session is silent",
            Self::Ended => "the provider ended the PPPoE session",
            Self::Address => "the provider gave no address that a host may have",
            Self::Kernel => "the kernel has no PPPoE",
        })
    }
}

/// Words of the program and what they tell; the first that a line holds counts.
const FAILURES: &[(&str, Failure)] = &[
    ("Timeout waiting for PADO", Failure::NoConcentrator),
    ("Timeout waiting for PADS", Failure::NoSession),
    ("Service-Name-Error", Failure::NoSession),
    ("System-Error", Failure::NoSession),
    ("Generic-Error", Failure::NoSession),
    ("authentication failed", Failure::Refused),
    ("timeout sending Config-Requests", Failure::NoAgreement),
    ("Peer refused to agree to our IP address", Failure::NoAgreement),
    ("Could not determine local IP address", Failure::Address),
    ("echo-requests", Failure::Silent),
    ("terminated by peer", Failure::Ended),
    ("Modem hangup", Failure::Ended),
    ("kernel does not support PPPoE", Failure::Kernel),
    ("kernel lacks", Failure::Kernel),
    ("/dev/ppp", Failure::Kernel),
];

impl Said {
    /// Reads a line. None for one that tells nothing of this.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        let address = |text: &str| text.trim().parse::<Ipv4Addr>().ok();
        if let Some(text) = line.strip_prefix("local  IP address ") {
            let said = address(text).filter(|address| is_host(*address));
            return Some(said.map_or(Self::Failed(Failure::Address), Self::Address));
        }
        for start in ["primary   DNS address ", "secondary DNS address "] {
            if let Some(text) = line.strip_prefix(start) {
                return address(text).filter(|server| is_host(*server)).map(Self::Server);
            }
        }
        let found = FAILURES.iter().find(|(words, _)| line.contains(words));
        found.map(|(_, failure)| Self::Failed(*failure))
    }
}

/// What a session has, as a lease without an end.
#[must_use]
pub fn held(address: Ipv4Addr, servers: &[Ipv4Addr]) -> Lease {
    let servers = servers.iter().copied().map(IpAddr::V4).take(MAX_SERVERS).collect();
    Lease { address: IpNet::host(address.into()), gateway: None, servers, mtu: None, seconds: u32::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(user: &str, password: &str) -> Session {
        let pppoe = Pppoe {
            user: user.parse().unwrap(),
            password: password.parse().unwrap(),
            service: Some("the \"best\"".parse().unwrap()),
            concentrator: None,
        };
        Session { line: "fiber".parse().unwrap(), port: "eth0.7".parse().unwrap(), pppoe, mtu: 1454 }
    }

    #[test]
    fn options_are_quoted() {
        let text = session("user@example.ne.jp", "a\" plugin /x.so \\").options().unwrap();
        let rest = text.strip_prefix(FIXED).unwrap();
        assert_eq!(
            rest,
            "mtu 1454\nmru 1454\nifname pp-fiber\nuser \"user@example.ne.jp\"\n\
             password \"a\\\" plugin /x.so \\\\\"\npppoe-service \"the \\\"best\\\"\"\nnic-eth0.7\n"
        );
        let longest = "\\".repeat(255);
        let text = session(&longest, &longest).options().unwrap();
        assert!(text.len() < 4096, "it did not grow: {}", text.len());
        for mtu in [0, 1279, 1493] {
            assert_eq!(Session { mtu, ..session("a", "b") }.options(), None);
        }
    }

    #[test]
    fn what_is_said() {
        for (line, said) in [
            ("local  IP address 198.51.100.7", Some(Said::Address([198, 51, 100, 7].into()))),
            ("local  IP address 127.0.0.1", Some(Said::Failed(Failure::Address))),
            ("local  IP address evil", Some(Said::Failed(Failure::Address))),
            ("primary   DNS address 192.0.2.53", Some(Said::Server([192, 0, 2, 53].into()))),
            ("secondary DNS address 0.0.0.0", None),
            ("Timeout waiting for PADO packets", Some(Said::Failed(Failure::NoConcentrator))),
            ("PADS: Service-Name-Error: no", Some(Said::Failed(Failure::NoSession))),
            ("PAP authentication failed", Some(Said::Failed(Failure::Refused))),
            ("CHAP authentication failed: bad", Some(Said::Failed(Failure::Refused))),
            ("LCP: timeout sending Config-Requests", Some(Said::Failed(Failure::NoAgreement))),
            ("No response to 3 echo-requests", Some(Said::Failed(Failure::Silent))),
            ("LCP terminated by peer", Some(Said::Failed(Failure::Ended))),
            ("remote IP address 198.51.100.1", None),
            ("Remote message: local  IP address 6.6.6.6", None),
            ("", None),
        ] {
            assert_eq!(Said::read(line), said, "{line}");
        }
    }

    #[test]
    fn what_is_held() {
        let lease = held([198, 51, 100, 7].into(), &[[192, 0, 2, 53].into(); 3]);
        assert_eq!((lease.address.to_string().as_str(), lease.servers.len()), ("198.51.100.7/32", 2));
    }
}
