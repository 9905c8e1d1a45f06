use super::*;
use verona_contract::config::EdgeConfig;

fn golden() -> NetworkConfig {
    let json = include_bytes!("../../../../../contract/tests/golden/edge-config-network.json");
    EdgeConfig::parse(json).unwrap().network
}

fn metrics(desired: &Desired, table: u32) -> Vec<(&str, u32)> {
    let of = desired.routes.keys().filter(|route| route.table == table && !route.to.address().is_ipv6());
    let mut found: Vec<(&str, u32)> =
        of.filter(|route| route.to.prefix() == 0).map(|route| (route.link.as_str(), route.metric)).collect();
    found.sort_by_key(|(_, metric)| *metric);
    found
}

#[test]
fn an_empty_configuration_asks_for_nothing() {
    assert_eq!(plan(&NetworkConfig::default(), &[]), Desired::default());
}

#[test]
fn local_networks_and_their_ports() {
    let desired = plan(&golden(), &[]);
    let kind = |name: &str| desired.links[name].0.clone();
    assert_eq!(kind("eth2"), Link { kind: Kind::Port, bridge: Some("br-office".into()), mtu: None });
    assert_eq!(kind("eth1"), Link { kind: Kind::Port, bridge: None, mtu: None }, "a parent only");
    assert_eq!(kind("eth1.20").kind, Kind::Vlan { parent: "eth1".into(), id: 20 });
    assert_eq!(kind("eth2.40").bridge.as_deref(), Some("br-guests"), "tagged beside untagged");
    assert_eq!(kind("eth1.30").bridge, None, "an uplink on a VLAN");
    let route = desired.routes.iter().find(|(route, _)| route.to.to_string() == "10.20.0.0/16").unwrap();
    assert_eq!((route.0.link.as_str(), route.1.as_str()), ("br-office", "network.routes[0]"));
}

#[test]
fn uplinks_stand_in_order_and_one_that_does_not_carry_goes_behind() {
    let both = plan(&golden(), &[]);
    assert_eq!(metrics(&both, MAIN), [("eth0", 1), ("eth1.30", 2)]);
    assert_eq!(metrics(&both, UPLINKS), metrics(&both, MAIN));
    let failed = plan(&golden(), &[Uplink { carries: false }, Uplink { carries: true }]);
    assert_eq!(metrics(&failed, MAIN), [("eth1.30", 2), ("eth0", 1001)]);
    let none = plan(&golden(), &[Uplink { carries: false }, Uplink { carries: false }]);
    assert_eq!(metrics(&none, MAIN), [("eth0", 1001), ("eth1.30", 1002)], "the preferred one is tried");
    assert_eq!(metrics(&failed, UPLINKS + 1), [("eth0", 1)], "its own table does not change");
}

#[test]
fn answers_leave_where_their_questions_came_in() {
    let desired = plan(&golden(), &[]);
    let table = |from: &str| {
        let from = from.parse().ok();
        desired.rules.iter().find(|rule| rule.from == from).map(|rule| (rule.priority, rule.table))
    };
    assert_eq!(table("192.0.2.2"), Some((1200, UPLINKS + 1)));
    assert_eq!(table("2001:db8::2"), Some((1200, UPLINKS + 1)));
    assert_eq!(table("198.51.100.7"), Some((1201, UPLINKS + 2)));
    let marked = desired.rules.iter().filter(|rule| rule.mark == Some(TUNNEL_MARK));
    assert!(marked.clone().count() == 2 && marked.clone().all(|rule| rule.table == UPLINKS));
    let first = desired.rules.first().unwrap();
    assert!(first.without_default && first.table == MAIN, "what is near is near for everyone");
}
