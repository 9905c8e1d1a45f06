//! The hand-over from the network that a box has before its first configuration, and back.

use crate::agent::{Agent, SOON};
use lab::{Run, wait};
use serde_json::json;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn the_first_configuration_takes_over_and_none_gives_back() {
    let run = Run::start().unwrap();
    let (edge, desk, line) =
        (run.namespace("edge").unwrap(), run.namespace("desk").unwrap(), run.namespace("line").unwrap());
    edge.connect("p0", &line, "far").unwrap();
    edge.connect("p1", &desk, "far").unwrap();
    desk.address("far", &["192.168.77.9/24"]).unwrap();
    let (script, pid) = (run.dir().join("start-network"), run.dir().join("udhcpc.pid"));
    // What the image's does, on these ports.
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = start ] || exit 0\nset -e\nnft add table inet verona_start\n\
         ip link add name br-lan type bridge forward_delay 0\nip addr add 192.168.77.1/24 dev br-lan\n\
         ip link set dev p1 master br-lan up\nip link set dev br-lan up\n\
         busybox udhcpc -f -i p0 -t 3 -T 1 -A 5 -p {} -s /bin/true >/dev/null 2>&1 &\n",
        pid.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    edge.output(&script, &["start"]).unwrap();
    wait::until("its DHCP client", SOON, || pid.exists()).unwrap();
    let process = std::fs::read_to_string(&pid).unwrap().trim().to_owned();
    // One that nobody has waited for yet has no command line any more.
    let runs = || std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| !line.is_empty());
    let has_table = || edge.output("nft", &["list", "tables"]).unwrap().contains("verona_start");

    let mut agent = Agent::start(&edge);
    assert_eq!(agent.order(1, json!({})), []);
    assert!(
        runs() && has_table() && agent.ip("link show").contains("br-lan"),
        "nobody asked for another network"
    );
    let office = json!({ "lan": [{ "name": "office", "ports": ["p1"], "addresses": ["192.168.77.1/24"] }] });
    assert_eq!(agent.order(2, office.clone()), []);
    assert!(!has_table() && !agent.ip("link show").contains("br-lan"));
    wait::until("the end of its DHCP client", SOON, || !runs()).unwrap();
    assert!(agent.ip("link show p1").contains("master br-office"));
    desk.output("ping", &["-c1", "-W5", "192.168.77.1"]).unwrap();

    // The configuration is taken back: the box is as before, and another can take over.
    assert_eq!(agent.order(3, json!({})), []);
    assert!(has_table() && agent.ip("link show p1").contains("master br-lan"));
    assert_eq!(agent.order(4, office), []);
    assert!(!has_table() && agent.ip("link show p1").contains("master br-office"));
}
