use super::*;
use verona_contract::config::EdgeConfig;

fn golden() -> NetworkConfig {
    let json = include_bytes!("../../../../../contract/tests/golden/edge-config-network.json");
    EdgeConfig::parse(json).unwrap().network
}

fn around() -> Around {
    let mtus = [("eth0", 1500), ("eth3", 1454), ("wg0", 1420)].map(|(name, mtu)| (name.to_owned(), mtu));
    Around { tunnel: Some("wg0".into()), listen_port: 51820, mtus: mtus.into(), ..Around::default() }
}

/// The lines of a chain.
fn chain(text: &str, name: &str) -> Vec<String> {
    let begin = format!("chain {name} {{");
    let lines = text.lines().skip_while(|line| *line != begin).skip(1).take_while(|line| *line != "}");
    lines.map(ToOwned::to_owned).collect()
}

#[test]
fn no_network_no_table() {
    assert_eq!(ruleset(&NetworkConfig::default(), &around()), NONE);
}

#[test]
fn rules_come_in_their_order_and_split_by_family() {
    let text = ruleset(&golden(), &around());
    assert_eq!(
        chain(&text, "rules_forward"),
        [
            "iifname { \"br-guests\" } oifname { \"wg0\" } counter drop",
            "iifname { \"br-office\", \"br-guests\" } oifname { \"eth0\", \"eth1.30\", \"eth3\", \"eth4\", \"pp-flets\" } tcp dport { 25-25 } counter drop",
            "iifname { \"br-guests\" } oifname { \"br-office\" } ip daddr 192.168.77.20/32 tcp dport { 631-631, 9100-9102 } counter accept",
            "iifname { \"br-guests\" } oifname { \"br-office\" } ip6 daddr fd00:77::20/128 tcp dport { 631-631, 9100-9102 } counter accept",
        ]
    );
    assert_eq!(
        chain(&text, "rules_input"),
        ["iifname { \"wg0\" } ip saddr 10.8.0.0/24 meta l4proto { icmp, ipv6-icmp } counter accept"]
    );
    let forward = chain(&text, "forward");
    let at =
        |part: &str| forward.iter().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}"));
    assert!(at("established") < at("jump rules_forward") && at("jump rules_forward") < at("ct status dnat"));
    assert!(at("jump limit_4") < at("established"));
    assert!(!forward.iter().any(|line| line.contains("iifname { \"eth0\"")), "an uplink may begin nothing");
}

#[test]
fn ports_of_uplinks() {
    let text = ruleset(&golden(), &around());
    assert_eq!(
        chain(&text, "destination")[1..],
        [
            "iifname { \"eth0\" } meta nfproto ipv4 ip saddr 203.0.113.0/24 tcp dport 443 counter dnat ip to 192.168.77.5:8443",
            "iifname { \"eth0\", \"eth1.30\", \"eth3\", \"eth4\", \"pp-flets\" } meta nfproto ipv4 udp dport 5000-5010 counter dnat ip to 192.168.77.6",
        ]
    );
}

#[test]
fn segments_are_cut_both_ways_to_each_narrow_link() {
    let text = ruleset(&golden(), &around());
    let segments = chain(&text, "segments");
    // The tunnel's interface says 1420, but datagrams of that size do not fit a line of 1454: 1454 - 60, in blocks of 16.
    for part in [
        "iifname \"wg0\" meta nfproto ipv4 tcp flags syn / syn,rst tcp option maxseg size set 1352",
        "oifname \"wg0\" meta nfproto ipv6 tcp flags syn / syn,rst tcp option maxseg size set 1332",
        "oifname \"eth3\" meta nfproto ipv4 tcp flags syn / syn,rst tcp option maxseg size set 1414",
    ] {
        assert!(segments.iter().any(|line| line == part), "{part} in {segments:#?}");
    }
}

#[test]
fn without_the_tunnel_its_zone_matches_nothing() {
    let text = ruleset(&golden(), &Around { tunnel: None, ..around() });
    assert!(!text.contains("wg0"), "{text}");
    assert_eq!(chain(&text, "rules_forward").len(), 3);
    let odd = ruleset(&golden(), &Around { tunnel: Some("wg0\" accept".into()), ..around() });
    assert!(!odd.contains("wg0"), "a name that cannot be written");
}

#[test]
fn the_box_listens_for_what_is_configured() {
    let text = ruleset(&golden(), &around());
    let opens = |text: &str, part: &str| chain(text, "input").iter().any(|line| line.contains(part));
    assert!(opens(&text, "iifname { \"br-office\" } udp dport 67 accept"), "{text}");
    assert!(opens(&text, "iifname { \"br-office\", \"br-guests\" } tcp dport 53 accept"), "{text}");
    let mut config = golden();
    config.dns = None;
    config.lan.iter_mut().for_each(|lan| lan.dhcp = None);
    let text = ruleset(&config, &around());
    assert!(!opens(&text, "dport 53 ") && !opens(&text, "dport 67 "), "{text}");
}
