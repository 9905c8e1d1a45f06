//! The groups of a configuration as one transaction of nftables.
//!
//! A table of ours is replaced as a whole: the kernel swaps it between two packets, and connections live on as far
//! as the new rules let them. Each packet that a client begins is judged anew, so a right that is taken away
//! ends a connection at once; answers to what others began pass. Everything in the text is a number, an
//! address or a name of ours: nothing that an administrator typed reaches the parser.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use verona_contract::config::TunnelConfig;
use verona_contract::groups::{Group, PortRange, Protocol, Rule, RuleAction};
use verona_contract::ipnet::IpNet;

/// The table, of family inet.
pub const TABLE: &str = "verona_groups";

/// Takes the table away, whether or not it is there.
pub const NONE: &str = "table inet verona_groups\ndelete table inet verona_groups\n";

/// The transaction that puts the groups of `config` in force for packets from `interface`. None for an interface
/// whose name cannot be written.
#[must_use]
pub fn ruleset(interface: &str, config: &TunnelConfig) -> Option<String> {
    let groups: Vec<&Group> = config.owners.iter().flat_map(|owner| &owner.groups).collect();
    if groups.is_empty() {
        return Some(NONE.to_owned());
    }
    if !is_plain(interface) {
        return None;
    }
    let mut text = format!("{NONE}table inet {TABLE} {{\n");
    let everyone: Vec<IpAddr> = groups.iter().flat_map(|group| group.members.iter().copied()).collect();
    sets(&mut text, "members", &everyone);
    for (index, group) in groups.iter().enumerate() {
        sets(&mut text, &format!("group{index}"), &group.members);
        let _ = writeln!(text, "chain group{index} {{");
        group.rules.iter().for_each(|rule| lines(&mut text, rule));
        text.push_str("}\n");
    }
    text.push_str("chain clients {\nct direction reply accept\nct state related accept\n");
    for index in 0..groups.len() {
        let _ = writeln!(text, "ip saddr @group{index}_4 jump group{index}");
        let _ = writeln!(text, "ip6 saddr @group{index}_6 jump group{index}");
    }
    text.push_str("ip saddr @members_4 counter drop\nip6 saddr @members_6 counter drop\n}\n");
    for hook in ["forward", "input"] {
        let _ = writeln!(
            text,
            "chain {hook} {{\ntype filter hook {hook} priority filter; policy accept;\n\
             iifname \"{interface}\" jump clients\n}}"
        );
    }
    text.push_str("}\n");
    Some(text)
}

fn sets(text: &mut String, name: &str, members: &[IpAddr]) {
    for (suffix, kind, v4) in [("4", "ipv4_addr", true), ("6", "ipv6_addr", false)] {
        let members: BTreeSet<&IpAddr> = members.iter().filter(|member| member.is_ipv4() == v4).collect();
        let _ = writeln!(text, "set {name}_{suffix} {{\ntype {kind}");
        if !members.is_empty() {
            let members: Vec<String> = members.into_iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "elements = {{ {} }}", members.join(", "));
        }
        text.push_str("}\n");
    }
}

fn lines(text: &mut String, rule: &Rule) {
    let what = protocol(rule.protocol, &rule.ports);
    let verdict = match rule.action {
        RuleAction::Allow => "accept",
        RuleAction::Deny => "drop",
    };
    if rule.to.is_empty() {
        let _ = writeln!(text, "{what}counter {verdict}");
    }
    // A line for each: networks in one set must not overlap.
    for net in rule.to.iter().map(IpNet::network) {
        let family = if net.address().is_ipv4() { "ip" } else { "ip6" };
        let _ = writeln!(text, "{family} daddr {net} {what}counter {verdict}");
    }
}

/// Whether an interface's name can be written in a rule. The tunnel names its own.
pub(crate) fn is_plain(interface: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
    !interface.is_empty() && interface.bytes().all(plain)
}

/// What a rule says about the protocol, and nothing for any.
pub(crate) fn protocol(protocol: Option<Protocol>, ranges: &[PortRange]) -> String {
    match (protocol, ports(ranges)) {
        (None, _) => String::new(),
        (Some(Protocol::Icmp), _) => "meta l4proto { icmp, ipv6-icmp } ".to_owned(),
        (Some(Protocol::Tcp), None) => "meta l4proto tcp ".to_owned(),
        (Some(Protocol::Udp), None) => "meta l4proto udp ".to_owned(),
        (Some(Protocol::Tcp), Some(ports)) => format!("tcp dport {{ {ports} }} "),
        (Some(Protocol::Udp), Some(ports)) => format!("udp dport {{ {ports} }} "),
    }
}

/// Ranges in one set must not overlap.
fn ports(ranges: &[PortRange]) -> Option<String> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some((_, last)) if range.first() <= last.saturating_add(1) => *last = range.last().max(*last),
            _ => merged.push((range.first(), range.last())),
        }
    }
    let text: Vec<String> = merged.iter().map(|(first, last)| format!("{first}-{last}")).collect();
    (!text.is_empty()).then(|| text.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use verona_contract::config::EdgeConfig;

    fn config(groups: Vec<Group>) -> TunnelConfig {
        let golden = include_bytes!("../../../contract/tests/golden/edge-config.json");
        let mut config = EdgeConfig::parse(golden).unwrap().tunnel;
        config.owners[0].groups = groups;
        config
    }

    fn group(members: &[&str], rules: &[&str]) -> Group {
        Group {
            name: "\" ; flush ruleset".into(),
            members: members.iter().map(|text| text.parse().unwrap()).collect(),
            rules: rules.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn no_groups_no_table() {
        assert_eq!(ruleset("wg0", &config(vec![])).as_deref(), Some(NONE));
    }

    #[test]
    fn the_text_for_two_groups() {
        let text = ruleset(
            "wg0",
            &config(vec![
                group(
                    &["10.9.0.17", "fd00:9::11", "10.9.0.16"],
                    &[
                        "deny any 192.168.77.9/24",
                        "allow tcp 10.1.0.0/16,fd00::/8 443,8000-8099,8050-9000,444",
                    ],
                ),
                group(&[], &["allow icmp", "allow udp any", "allow"]),
            ]),
        )
        .unwrap();
        for part in [
            "set group0_4 {\ntype ipv4_addr\nelements = { 10.9.0.16, 10.9.0.17 }\n}",
            "set group1_4 {\ntype ipv4_addr\n}",
            "chain group0 {\nip daddr 192.168.77.0/24 counter drop\n\
             ip daddr 10.1.0.0/16 tcp dport { 443-444, 8000-9000 } counter accept\n\
             ip6 daddr fd00::/8 tcp dport { 443-444, 8000-9000 } counter accept\n}",
            "chain group1 {\nmeta l4proto { icmp, ipv6-icmp } counter accept\n\
             meta l4proto udp counter accept\ncounter accept\n}",
            "iifname \"wg0\" jump clients",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("flush"), "a name reached the parser: {text}");
    }

    #[test]
    fn an_interface_that_cannot_be_written_is_refused() {
        let groups = config(vec![group(&["10.9.0.16"], &[])]);
        for name in ["", "wg0\"", "wg 0", "wg\n0", "wg*"] {
            assert_eq!(ruleset(name, &groups), None, "{name}");
        }
    }
}
