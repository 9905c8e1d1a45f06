//! VLANs (802.1Q): a line and two local networks on tagged ports, against the kernel's own at the other end.

use crate::agent::{Agent, SOON};
use lab::{Namespace, Run, wait};
use serde_json::json;

#[test]
#[ignore = "runs in a guest"]
fn a_trunk_carries_a_network_for_each_tag() {
    let run = Run::start().unwrap();
    let place = |name: &str| run.namespace(name).unwrap();
    let (edge, switch, internet) = (place("edge"), place("switch"), place("internet"));
    edge.connect("p0", &internet, "far").unwrap();
    edge.connect("p1", &switch, "far").unwrap();
    let tagged = |place: &Namespace, id: u16, address: &str| {
        place.ip(&format!("link add link far name far.{id} type vlan id {id}")).unwrap();
        place.address(&format!("far.{id}"), &[address]).unwrap();
        place.ip(&format!("link set far.{id} up")).unwrap();
    };
    tagged(&internet, 7, "192.0.2.1/24");
    tagged(&switch, 20, "192.168.20.9/24");
    tagged(&switch, 30, "192.168.30.9/24");
    switch.address("far", &["192.168.20.8/24"]).unwrap();

    let mut agent = Agent::start(&edge);
    let line = json!({ "static": { "address": "192.0.2.2/24", "gateway": "192.0.2.1" } });
    let refused = agent.order(
        1,
        json!({
            "wan": [{ "name": "fiber", "port": "p0.7", "ipv4": line }],
            "lan": [
                { "name": "office", "ports": ["p1.20"], "addresses": ["192.168.20.1/24"] },
                { "name": "guests", "ports": ["p1.30"], "addresses": ["192.168.30.1/24"] },
            ],
        }),
    );
    assert_eq!(refused, []);
    let answers = |place: &Namespace, arguments: &[&str]| {
        place.output("ping", &[&["-c1", "-W3"], arguments].concat()).is_ok()
    };
    let comes = |what: &str, place: &Namespace, arguments: &[&str]| {
        wait::until(what, SOON, || answers(place, arguments))
            .unwrap_or_else(|error| panic!("{error}:\n{}", agent.ip("addr show")));
    };
    comes("the line, tagged with 7", &edge, &["192.0.2.1"]);
    comes("the office", &switch, &["-I", "far.20", "192.168.20.1"]);
    comes("the guests", &switch, &["-I", "far.30", "192.168.30.1"]);
    assert!(!answers(&switch, &["-I", "far", "192.168.20.1"]), "without a tag it is no network's");

    // A tag less: its link goes, the other stays.
    let refused = agent.order(
        2,
        json!({ "lan": [{ "name": "guests", "ports": ["p1.30"], "addresses": ["192.168.30.1/24"] }] }),
    );
    assert_eq!(refused, []);
    let links = agent.ip("-br link show");
    assert!(links.contains("p1.30@p1") && !links.contains("p1.20") && !links.contains("p0.7"), "{links}");
}
