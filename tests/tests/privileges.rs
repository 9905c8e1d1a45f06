//! What the daemons of a working box may do, as the kernel tells it, thread by thread.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::{Process, Run, alone, wait, web};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use verona_tests::site::{PATIENCE, SERVER, Site};

/// `CAP_NET_BIND_SERVICE`, `CAP_NET_ADMIN`.
const TUNNEL: u64 = 1 << 10 | 1 << 12;
/// Besides, `CAP_KILL`, `CAP_NET_RAW`, `CAP_SYS_TIME`, `CAP_SYSLOG`.
const AGENT: u64 = TUNNEL | 1 << 5 | 1 << 13 | 1 << 25 | 1 << 34;

/// The fields of each thread's status.
fn threads(process: &Process) -> Vec<BTreeMap<String, String>> {
    let tasks = Path::new("/proc").join(process.pid().to_string()).join("task");
    let entries = std::fs::read_dir(tasks).unwrap();
    // One that ends meanwhile tells nothing any more.
    let statuses =
        entries.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("status")).ok());
    let fields = |status: String| {
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    };
    statuses.map(fields).collect()
}

fn assert_confined(process: &Process, capabilities: u64) {
    let threads = threads(process);
    assert!(threads.len() > 2, "{} threads of {}", threads.len(), process.name());
    for thread in threads {
        let name = format!("{} {}", process.name(), thread["Name"]);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(thread[set], format!("{capabilities:016x}"), "{name}: {set}");
        }
        for ids in ["Uid", "Gid", "Groups"] {
            assert!(!thread[ids].split_whitespace().any(|id| id == "0"), "{name}: {ids} {}", thread[ids]);
        }
        assert_eq!((thread["NoNewPrivs"].as_str(), thread["Seccomp"].as_str()), ("1", "2"), "{name}");
    }
    assert!(process.log().contains("confined: user"), "{}", process.log());
}

#[test]
fn both_daemons_work_with_the_rights_that_they_need_and_no_others() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice", "bob"]);
    let _alice = site.connect("alice");
    assert_confined(&site.edge.tunnel, TUNNEL);
    assert_confined(&site.edge.agent, AGENT);

    // Both come up again on what they left, which is all theirs.
    site.edge.tunnel.crash().unwrap();
    site.edge.agent.crash().unwrap();
    site.edge.tunnel_again().unwrap();
    site.edge.agent_again().unwrap();
    let bob = site.connect("bob");
    web::fetch_soon(bob.verona.place(), SERVER, PATIENCE).unwrap();
    assert_confined(&site.edge.tunnel, TUNNEL);
    assert_confined(&site.edge.agent, AGENT);
    site.edge.tunnel.stop();
    assert!(!site.edge.tunnel_socket().exists(), "the tunnel may remove its socket");
}

/// Whether the tunnel's control socket answers a process of another user with these groups.
fn hears(site: &Site, groups: &str) -> bool {
    let socket = site.edge.tunnel_socket();
    let socket = socket.to_string_lossy();
    // Its request is none, which the tunnel says to whom it hears at all, and waits for the next one.
    let request = ["curl", "-s", "--http0.9", "--max-time", "2", "--unix-socket", &socket, "http://tunnel/"];
    let user = ["--reuid=1", "--regid=1", groups];
    let said = site.net.edge.output("setpriv", &[&user[..], &request[..]].concat());
    said.unwrap_or_else(|error| error.to_string()).contains("expected value")
}

#[test]
fn the_tunnel_hears_the_members_of_its_group_and_no_other_user() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &[]);
    let group = std::fs::metadata(site.edge.tunnel_socket()).unwrap().gid();
    assert!(hears(&site, &format!("--groups={group}")));
    assert!(!hears(&site, "--clear-groups"), "the file's mode refuses");
    // Also where the mode would not.
    std::fs::set_permissions(site.edge.tunnel_socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!hears(&site, "--clear-groups"));
    assert!(site.edge.tunnel.log().contains("of another user refused"));
}

#[test]
fn the_network_and_its_programs_need_no_root() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &[]);
    let edge = site.edge.place();
    edge.ip("link add spare type veth peer name spare-far").unwrap();
    let file = run.dir().join("network.json");
    let network = json!({
        "wan": [{ "name": "line", "port": "wan",
                  "ipv4": { "static": { "address": "203.0.113.2/24", "gateway": "203.0.113.1" } } }],
        "lan": [{ "name": "spare", "ports": ["spare"], "addresses": ["192.168.99.1/24"],
                  "dhcp": { "first": "192.168.99.100", "last": "192.168.99.109", "lease_s": 600 } }],
        "dns": { "hosts": [{ "name": "printer.spare", "address": "192.168.99.30" }] },
    });
    std::fs::write(&file, network.to_string()).unwrap();
    site.center.admin(&["edge", "network", &site.edge_id, "--set", file.to_str().unwrap()]).unwrap();
    // Links, addresses and routes by netlink, rules by nft, switches below /proc/sys.
    let set = site.center.confirmed(&site.edge_id, 2, PATIENCE).unwrap();
    let shown = site.center.admin(&["edge", "show", &site.edge_id]).unwrap();
    assert!(
        shown.to_string().contains("\"rejected\":[]") || !shown.to_string().contains("rejected"),
        "{shown}"
    );
    assert!(edge.output("nft", &["list", "ruleset"]).unwrap().contains("chain"), "configuration {set}");
    assert!(edge.output("ip", &["addr", "show", "br-spare"]).unwrap().contains("192.168.99.1/24"));
    // A name server and a DHCP server below port 1024.
    let listening = || {
        let ports = edge.output("ss", &["-Hlun"]).unwrap();
        ports.contains(":53 ") && ports.contains(":67 ")
    };
    wait::until("dnsmasq", PATIENCE, listening).unwrap();
}
