use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn link(kind: Kind, bridge: Option<&str>) -> (Link, String) {
    (Link { kind, bridge: bridge.map(Into::into), mtu: None }, "network.lan[0]".into())
}

fn vlan() -> Kind {
    Kind::Vlan { parent: "eth1".into(), id: 20 }
}

fn route(to: &str, via: &str, link: &str) -> Route {
    Route { to: net(to), via: via.parse().ok(), link: link.into(), table: MAIN, metric: 1 }
}

fn office() -> Desired {
    let mut desired = Desired::default();
    desired.links.insert("eth1".into(), link(Kind::Port, None));
    desired.links.insert("eth1.20".into(), link(vlan(), Some("br-office")));
    desired.links.insert("br-office".into(), link(Kind::Bridge, None));
    desired
        .addresses
        .insert(("br-office".into(), net("192.168.77.1/24")), "network.lan[0].addresses[0]".into());
    desired.routes.insert(route("10.20.0.0/16", "192.168.77.254", "br-office"), "network.routes[0]".into());
    desired
}

fn found(kind: Option<Kind>, bridge: Option<&str>, ours: bool) -> Found {
    Found { kind, bridge: bridge.map(Into::into), mtu: 1500, up: true, carrier: true, ours }
}

/// What the kernel has when it is as [`office`] wants it.
fn done() -> Actual {
    let mut actual = Actual::default();
    actual.links.insert("lo".into(), found(None, None, false));
    actual.links.insert("eth1".into(), found(None, None, false));
    actual.links.insert("eth1.20".into(), found(Some(vlan()), Some("br-office"), true));
    actual.links.insert("br-office".into(), found(Some(Kind::Bridge), None, true));
    actual.addresses.push(("br-office".into(), net("192.168.77.1/24"), true));
    actual.routes.push((route("10.20.0.0/16", "192.168.77.254", "br-office"), true));
    actual
}

#[test]
fn from_nothing_in_the_kernels_order() {
    let mut bare = Actual::default();
    bare.links.insert("eth1".into(), Found { up: false, ..found(None, None, false) });
    let name = |text: &str| text.to_owned();
    assert_eq!(
        changes(&office(), &bare),
        [
            Change::AddLink(name("br-office"), Kind::Bridge),
            Change::AddLink(name("eth1.20"), vlan()),
            Change::SetUp(name("br-office")),
            Change::SetUp(name("eth1")),
            Change::Enslave(name("eth1.20"), name("br-office")),
            Change::SetUp(name("eth1.20")),
            Change::AddAddress(name("br-office"), net("192.168.77.1/24")),
            Change::AddRoute(route("10.20.0.0/16", "192.168.77.254", "br-office")),
        ]
    );
    assert_eq!(changes(&office(), &done()), [], "nothing is left to do");
}

#[test]
fn a_missing_port_is_told_and_the_rest_goes_on() {
    let desired = office();
    assert_eq!(desired.absent(&Actual::default()), [("eth1", "network.lan[0]")]);
    let steps = changes(&desired, &Actual::default());
    assert!(steps.contains(&Change::AddAddress("br-office".into(), net("192.168.77.1/24"))), "{steps:?}");
    assert!(
        !steps.iter().any(|step| matches!(step, Change::AddLink(name, _) if name == "eth1.20")),
        "{steps:?}"
    );
}

#[test]
fn what_is_left_out_goes_and_what_is_foreign_stays() {
    let mut actual = done();
    actual.links.insert("br-hand".into(), found(Some(Kind::Bridge), None, false));
    actual.links.insert("eth7".into(), found(None, Some("br-hand"), false));
    actual.addresses.push(("br-hand".into(), net("10.1.1.1/24"), false));
    actual.routes.push((route("10.2.0.0/16", "10.1.1.2", "br-hand"), false));
    actual.rules.push(Rule {
        priority: 1000,
        v6: false,
        from: None,
        mark: None,
        table: MAIN,
        without_default: true,
    });
    assert_eq!(
        changes(&Desired::default(), &actual),
        [
            Change::RemoveRule(actual.rules[0].clone()),
            Change::RemoveRoute(route("10.20.0.0/16", "192.168.77.254", "br-office")),
            Change::RemoveAddress("br-office".into(), net("192.168.77.1/24")),
            Change::Release("eth1.20".into()),
            Change::RemoveLink("br-office".into()),
            Change::RemoveLink("eth1.20".into()),
        ]
    );
}

#[test]
fn a_port_moves_between_bridges_and_a_vlan_gets_another_number() {
    let mut desired = office();
    desired.links.insert("br-guests".into(), link(Kind::Bridge, None));
    desired.links.insert("eth1.20".into(), link(vlan(), Some("br-guests")));
    let mut actual = done();
    actual.links.insert("br-guests".into(), found(Some(Kind::Bridge), None, true));
    assert_eq!(
        changes(&desired, &actual),
        [Change::Release("eth1.20".into()), Change::Enslave("eth1.20".into(), "br-guests".into())]
    );
    // One of ours by that name that is something else is made anew; a foreign one is never taken away.
    let other = Some(Kind::Vlan { parent: "eth1".into(), id: 21 });
    actual.links.insert("eth1.20".into(), found(other.clone(), None, true));
    let steps = changes(&desired, &actual);
    assert_eq!(steps[..2], [Change::RemoveLink("eth1.20".into()), Change::AddLink("eth1.20".into(), vlan())]);
    actual.links.insert("eth1.20".into(), found(other, None, false));
    assert!(!changes(&desired, &actual).iter().any(|step| matches!(step, Change::RemoveLink(_))));
}

#[test]
fn each_step_names_the_field_that_asks_for_it() {
    let desired = office();
    let steps = changes(&desired, &Actual::default());
    let paths: Vec<String> = steps.iter().map(|step| desired.path(step)).collect();
    assert!(paths.contains(&"network.lan[0].addresses[0]".to_owned()), "{paths:?}");
    assert!(paths.contains(&"network.routes[0]".to_owned()), "{paths:?}");
    assert_eq!(desired.path(&Change::RemoveLink("eth1".into())), "network");
}

#[test]
fn a_queue_of_another_rate_is_replaced_and_one_too_many_goes() {
    let (mut desired, mut actual) = (office(), done());
    desired.shapers.insert("eth1".into(), (1000, "network.wan[0].upload_kbit".into()));
    desired.shapers.insert("eth9".into(), (1000, "network.wan[1].upload_kbit".into()));
    actual.shapers.insert("br-office".into(), 7);
    let shape = Change::Shape("eth1".into(), 1000);
    assert_eq!(changes(&desired, &actual), [Change::Unshape("br-office".into()), shape.clone()]);
    assert_eq!(desired.path(&shape), "network.wan[0].upload_kbit");
    actual.shapers = [("eth1".into(), 999)].into();
    assert_eq!(changes(&desired, &actual), [shape]);
    actual.shapers = [("eth1".into(), 1000)].into();
    assert_eq!(changes(&desired, &actual), []);
}
