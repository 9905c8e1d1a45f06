//! Groups of clients and what each may reach: access control by tunnel address.
//!
//! A peer may use no inner source but the addresses in its certificate, so an address names a client. A client in
//! no group goes wherever the edge routes. One in a group may do only what a rule of its groups allows: the first
//! rule that matches counts, in the order of the groups and of their rules, and none means no.

use crate::config::ConfigError;
use crate::ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Most groups of an owner, and most rules of a group: each is a line that a packet may have to pass.
pub const MAX_GROUPS: usize = 256;
/// See [`MAX_GROUPS`].
pub const MAX_RULES: usize = 256;
/// Most networks, and most ranges of ports, in one rule.
pub const MAX_PARTS: usize = 64;

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// For people, 1 to 100 characters. Each once.
    pub name: String,
    /// The tunnel addresses of its clients.
    pub members: Vec<IpAddr>,
    /// What they may reach.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rule {
    /// What happens to a packet that matches.
    pub action: RuleAction,
    /// Destinations; empty = any.
    #[serde(default)]
    pub to: Vec<IpNet>,
    /// None = any.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// Destination ports, with TCP and UDP only; empty = any.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub ports: Vec<PortRange>,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RuleAction {
    /// It passes.
    Allow,
    /// It is dropped and counted.
    Deny,
}

/// A protocol above IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, or ICMPv6.
    Icmp,
}

/// Ports from the first to the last; `443` or `8000-8099` as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The first port, 1 to 65535.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port, not below the first.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }
}

/// Text that is no rule or range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(&'static str);

const PORTS: RuleError = RuleError("ports are 1 to 65535, or a range such as 8000-8099");

impl FromStr for PortRange {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
            text.parse::<u16>().ok().filter(|port| digits && *port > 0).ok_or(PORTS)
        };
        let range = Self { first: port(first)?, last: port(last)? };
        if range.first <= range.last { Ok(range) } else { Err(PORTS) }
    }
}

impl TryFrom<String> for PortRange {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// `allow tcp 192.168.77.0/24,10.0.0.0/8 443,8000-8099`: the action, a protocol or `any`, destinations or `any`,
/// ports or nothing.
impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let mut words = text.split_ascii_whitespace();
        let action = match words.next() {
            Some("allow") => RuleAction::Allow,
            Some("deny") => RuleAction::Deny,
            _ => return Err(RuleError("a rule begins with allow or deny")),
        };
        let protocol = match words.next() {
            None | Some("any") => None,
            Some("tcp") => Some(Protocol::Tcp),
            Some("udp") => Some(Protocol::Udp),
            Some("icmp") => Some(Protocol::Icmp),
            Some(_) => return Err(RuleError("a protocol is tcp, udp, icmp or any")),
        };
        let to = match words.next() {
            None | Some("any") => Vec::new(),
            Some(list) => {
                let nets: Result<_, _> = list.split(',').map(str::parse).collect();
                nets.map_err(|_| RuleError("destinations are IP networks such as 192.168.77.0/24, or any"))?
            }
        };
        let ports = words.next().map(|list| list.split(',').map(str::parse).collect::<Result<_, _>>());
        if words.next().is_some() {
            return Err(RuleError("a rule is: action, protocol, destinations, ports"));
        }
        let rule = Self { action, to, protocol, ports: ports.transpose()?.unwrap_or_default() };
        rule.check().map(|()| rule).map_err(|(_, rule)| RuleError(rule))
    }
}

impl Rule {
    /// The field that breaks a rule of the form, and that rule.
    ///
    /// # Errors
    ///
    /// The first one.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let with_ports = matches!(self.protocol, Some(Protocol::Tcp | Protocol::Udp));
        if !self.ports.is_empty() && !with_ports {
            return Err(("ports", "only tcp and udp have ports"));
        }
        if self.to.len() > MAX_PARTS {
            return Err(("to", "at most 64 networks"));
        }
        if self.ports.len() > MAX_PARTS {
            return Err(("ports", "at most 64 ranges"));
        }
        Ok(())
    }
}

/// Checks the groups of the owner at `path`.
///
/// # Errors
///
/// The first field that breaks a rule, by its path.
pub(crate) fn check(groups: &[Group], path: &str) -> Result<(), ConfigError> {
    let fail = |path: String, rule: &str| Err(ConfigError { path, rule: rule.to_owned() });
    if groups.len() > MAX_GROUPS {
        return fail(format!("{path}.groups"), "at most 256 groups");
    }
    let mut names = HashSet::new();
    for (index, group) in groups.iter().enumerate() {
        let path = format!("{path}.groups[{index}]");
        let long = !(1..=100).contains(&group.name.chars().count());
        if long || group.name.chars().any(char::is_control) {
            return fail(format!("{path}.name"), "1 to 100 characters without control characters");
        }
        if !names.insert(&group.name) {
            return fail(format!("{path}.name"), "each group once");
        }
        if group.rules.len() > MAX_RULES {
            return fail(format!("{path}.rules"), "at most 256 rules");
        }
        for (index, rule) in group.rules.iter().enumerate() {
            if let Err((field, broken)) = rule.check() {
                return fail(format!("{path}.rules[{index}].{field}"), broken);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_as_text() {
        let rule: Rule = "allow tcp 192.168.77.0/24,fd00::/8 443,8000-8099".parse().unwrap();
        assert_eq!((rule.action, rule.protocol, rule.to.len()), (RuleAction::Allow, Some(Protocol::Tcp), 2));
        assert_eq!(rule.ports.iter().map(ToString::to_string).collect::<Vec<_>>(), ["443", "8000-8099"]);
        let any: Rule = "deny".parse().unwrap();
        assert_eq!(any, Rule { action: RuleAction::Deny, to: vec![], protocol: None, ports: vec![] });
        assert_eq!("allow icmp any".parse::<Rule>().unwrap().protocol, Some(Protocol::Icmp));
        for (text, rule) in [
            ("", "begins with"),
            ("permit tcp", "begins with"),
            ("allow sctp", "a protocol is"),
            ("allow tcp 10.0.0.1", "IP networks"),
            ("allow tcp any 0", "ports are"),
            ("allow tcp any +1", "ports are"),
            ("allow tcp any 9-8", "ports are"),
            ("allow tcp any 65536", "ports are"),
            ("allow any any 80", "only tcp and udp"),
            ("allow icmp any 80", "only tcp and udp"),
            ("allow tcp any 80 90", "a rule is"),
        ] {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(rule), "{text}: {error}");
        }
    }
}
