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
    assert_eq!(metrics(&both, MAIN), [("eth0", 1), ("eth3", 3)], "the second has no lease");
    assert_eq!(metrics(&both, UPLINKS), metrics(&both, MAIN));
    let failing = Uplink { carries: false, ..Uplink::default() };
    let failed = plan(&golden(), std::slice::from_ref(&failing));
    assert_eq!(metrics(&failed, MAIN), [("eth3", 3), ("eth0", 1001)]);
    let none = plan(&golden(), &[failing.clone(), failing.clone(), failing]);
    assert_eq!(metrics(&none, MAIN), [("eth0", 1001), ("eth3", 1003)], "the preferred one is tried");
    assert_eq!(metrics(&failed, UPLINKS + 1), [("eth0", 1)], "its own table does not change");
}

fn lease() -> Lease {
    Lease {
        address: "203.0.113.20/24".parse().unwrap(),
        gateway: Some([203, 0, 113, 1].into()),
        servers: vec![[203, 0, 113, 53].into(), [192, 0, 2, 53].into()],
        mtu: Some(1454),
        seconds: 600,
    }
}

#[test]
fn a_lease_is_as_good_as_an_address_on_paper() {
    let uplinks = [Uplink::default(), Uplink { lease: Some(lease()), ..Uplink::default() }];
    let desired = plan(&golden(), &uplinks);
    assert_eq!(metrics(&desired, MAIN), [("eth0", 1), ("eth1.30", 2), ("eth3", 3)]);
    assert_eq!(desired.links["eth1.30"].0.mtu, Some(1454));
    assert!(desired.addresses.contains_key(&("eth1.30".into(), "203.0.113.20/24".parse().unwrap())));
    assert_eq!(servers(&golden(), &uplinks).len(), 2, "each server once");
    // A lease that is left over from another configuration is none.
    let stray = [Uplink { lease: Some(lease()), ..Uplink::default() }];
    assert_eq!(plan(&golden(), &stray), plan(&golden(), &[]));
}

#[test]
fn servers_of_uplinks_that_carry_come_first() {
    let uplinks = [
        Uplink { carries: false, ..Uplink::default() },
        Uplink { lease: Some(lease()), ..Uplink::default() },
    ];
    let first = servers(&golden(), &uplinks)[0];
    assert_eq!(first, IpAddr::from([203, 0, 113, 53]));
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
    assert_eq!(table("198.51.100.7"), Some((1202, UPLINKS + 3)));
    let marked = desired.rules.iter().filter(|rule| rule.mark == Some(TUNNEL_MARK));
    assert!(marked.clone().count() == 2 && marked.clone().all(|rule| rule.table == UPLINKS));
    let first = desired.rules.first().unwrap();
    assert!(first.without_default && first.table == MAIN, "what is near is near for everyone");
}

fn lease6(prefix: &str) -> Lease6 {
    Lease6 {
        server: vec![1],
        address: Some(("2001:db8:ff::7".parse().unwrap(), 600)),
        prefix: Some((prefix.parse().unwrap(), 600)),
        servers: vec!["2001:db8::53".parse().unwrap()],
        aftr: None,
        renew: 300,
        rebind: 480,
    }
}

#[test]
fn a_prefix_is_dealt_out_to_local_networks() {
    let uplink = |prefix: &str| Uplink { lease6: Some(lease6(prefix)), ..Uplink::default() };
    let address = |prefix: &str| {
        let desired = plan(&golden(), &[Uplink::default(), uplink(prefix)]);
        let found = desired.addresses.into_iter().find(|(_, path)| path == "network.lan[1].ipv6");
        found.map(|((link, net), _)| (link, net.to_string()))
    };
    assert_eq!(address("2001:db8:1200::/56"), Some(("br-guests".into(), "2001:db8:1200:5::1/64".into())));
    assert_eq!(address("2001:db8:1200:20::/60"), Some(("br-guests".into(), "2001:db8:1200:25::1/64".into())));
    assert_eq!(address("2001:db8:1200::/64"), None, "it has no sixth network");
}

#[test]
fn what_the_line_tells_the_kernel_is_used() {
    let mut actual = Actual::default();
    let route = |link: &str, via: &str, metric| Route {
        to: IpNet::everything(true),
        via: via.parse().ok(),
        link: link.into(),
        table: MAIN,
        metric,
    };
    actual.routes.push((route("eth0", "fe80::9", 4096), false));
    actual.routes.push((route("eth1.30", "fe80::7", 2), true));
    actual.routes.push((route("eth1.30", "fe80::1", 4096), false));
    for (net, ours) in [("fe80::5/64", false), ("2001:db8:7::5/64", false), ("2001:db8:ff::7/128", true)] {
        actual.addresses.push(("eth1.30".into(), net.parse().unwrap(), ours));
    }
    let mut uplink = Uplink { lease6: Some(lease6("2001:db8:1200::/56")), ..Uplink::default() };
    uplink.learn("eth1.30", &actual);
    assert_eq!(uplink.router6, "fe80::1".parse().ok());
    let desired = plan(&golden(), &[Uplink::default(), uplink]);
    let table = UPLINKS + 2;
    let out = Route { table, ..route("eth1.30", "fe80::1", 1) };
    assert!(desired.routes.contains_key(&out), "{:?}", desired.routes);
    let sources: Vec<String> = desired
        .rules
        .iter()
        .filter(|rule| rule.table == table)
        .filter_map(|rule| rule.from)
        .map(|from| from.to_string())
        .collect();
    assert_eq!(sources, ["2001:db8:7::5", "2001:db8:ff::7"]);
    assert!(switches(&golden()).contains(&("ipv6/conf/eth1.30/accept_ra".into(), "2")));
    assert!(
        switches(&golden()).contains(&("ipv6/conf/eth0/accept_ra".into(), "0")),
        "nobody asked for it there"
    );
}

#[test]
fn a_softwire_needs_both_ends_and_takes_ipv4_out() {
    let mut config = golden();
    config.wan[1].ipv4 = Some(WanV4::DsLite { aftr: None });
    config.wan[1].upload_kbit = Some(20_000);
    let planned = |uplink: Uplink| plan(&config, &[Uplink::default(), uplink]);
    let (remote, lease6) = ("2001:db8:a::1".parse().ok(), Some(lease6("2001:db8:1200::/56")));
    for half in
        [Uplink { aftr: remote, ..Uplink::default() }, Uplink { lease6: lease6.clone(), ..Uplink::default() }]
    {
        assert!(!planned(half).links.contains_key("ds-backup"));
    }
    let desired = planned(Uplink { aftr: remote, lease6, ..Uplink::default() });
    let local = "2001:db8:ff::7".parse().unwrap();
    let kind = Kind::Softwire { local, remote: remote.unwrap() };
    assert_eq!(desired.links["ds-backup"].0, Link { kind, bridge: None, mtu: None });
    assert!(desired.addresses.contains_key(&("ds-backup".into(), "192.0.0.2/29".parse().unwrap())));
    assert_eq!(metrics(&desired, MAIN), [("eth0", 1), ("ds-backup", 2), ("eth3", 3)]);
    assert_eq!(metrics(&desired, UPLINKS + 2), [("ds-backup", 1)], "answers leave where questions came in");
    assert_eq!(desired.shapers["eth1.30"], (2_500_000, "network.wan[1].upload_kbit".into()));
}

#[test]
fn a_session_takes_ipv4_out_and_the_port_keeps_its_own_width() {
    let mut uplinks = [(); 4].map(|()| Uplink::default());
    let before = plan(&golden(), &uplinks);
    assert!(before.links.contains_key("eth4") && !before.links.contains_key("pp-flets"));
    uplinks[3].lease = Some(crate::network::pppoe::held([203, 0, 113, 20].into(), &[]));
    let desired = plan(&golden(), &uplinks);
    assert_eq!(desired.links["pp-flets"].1, "network.wan[3].ipv4.pppoe");
    assert_eq!(desired.links["eth4"].0.mtu, None, "1454 is the session's");
    assert!(desired.addresses.contains_key(&("pp-flets".into(), "203.0.113.20/32".parse().unwrap())));
    assert_eq!(metrics(&desired, UPLINKS + 4), [("pp-flets", 1)]);
    assert!(switches(&golden()).contains(&("ipv4/conf/pp-flets/rp_filter".into(), "2")));
}
