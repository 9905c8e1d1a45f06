//! PPPoE (RFC 2516) against rp-pppoe's server: a session with a password, its MTU, what is told when it does not come
//! up, and its return after a program that died, a provider that hung up, and a line that was cut.

use crate::agent::{Agent, SOON};
use edge_agent::dialler;
use lab::{Namespace, Process, Run, wait};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Discovery, negotiation, and a pause after a failure.
const SOME_TIME: Duration = Duration::from_secs(40);
const PASSWORD: &str = "it is \"Kx9qZ7\" \\ #7";

/// The provider's concentrator on the line `far`, which knows one user.
fn concentrator(place: &Namespace) -> Process {
    let options = place.run().dir().join("concentrator");
    let words = "require-chap\nname bas1\nms-dns 203.0.113.53\nlcp-echo-interval 2\nlcp-echo-failure 3\n";
    fs::write(&options, words.to_owned() + "nodefaultroute\nnoipv6\nip-up-script /nowhere\n").unwrap();
    let quoted = PASSWORD.replace('\\', "\\\\").replace('"', "\\\"");
    fs::write("/etc/ppp/chap-secrets", format!("\"user@example.ne.jp\" bas1 \"{quoted}\" *\n")).unwrap();
    let mut server = place.command("pppoe-server");
    server.args(["-F", "-I", "far", "-C", "bas1", "-S", "internet", "-L", "198.51.100.1"]);
    server.args(["-R", "198.51.100.20", "-N", "8", "-O"]).arg(options);
    place.run().start_process("concentrator", server).unwrap()
}

fn network(password: &str) -> Value {
    let pppoe = json!({ "user": "user@example.ne.jp", "password": password, "service": "internet" });
    json!({
        "wan": [
            { "name": "fiber", "port": "p0", "ipv4": { "pppoe": pppoe }, "check": ["203.0.113.80"] },
            { "name": "backup", "port": "p1",
              "ipv4": { "static": { "address": "192.0.2.2/24", "gateway": "192.0.2.1" } } },
        ],
        "lan": [{ "name": "office", "ports": ["p2"], "addresses": ["192.168.77.1/24"] }],
    })
}

/// Whether the password stands in a list of processes, or in a file that is not the server's.
fn is_seen_anywhere(run: &Run) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|one| fs::read(one.path().join("cmdline")).ok());
    let files = [run.dir(), Path::new("/run"), Path::new("/etc/ppp")]
        .into_iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap().flatten())
        .filter(|one| one.file_name() != "chap-secrets" && one.path().is_file())
        .filter_map(|one| fs::read(one.path()).ok());
    lines.chain(files).any(|text| text.windows(6).any(|part| part == b"Kx9qZ7"))
}

#[test]
#[ignore = "runs in a guest"]
fn a_session_comes_lasts_and_is_named_when_it_does_not() {
    let run = Run::start().unwrap();
    let place = |name: &str| run.namespace(name).unwrap();
    let (edge, internet, office) = (place("edge"), place("internet"), place("office"));
    edge.connect("p0", &internet, "far").unwrap();
    edge.connect("p1", &internet, "far1").unwrap();
    edge.connect("p2", &office, "far").unwrap();
    internet.address("lo", &["203.0.113.80/32"]).unwrap();
    internet.address("far1", &["192.0.2.1/24"]).unwrap();
    office.address("far", &["192.168.77.9/24"]).unwrap();
    office.ip("route add default via 192.168.77.1").unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_edge-agent"));
    let socket = edge.enter(|| dialler::start(program, true).unwrap()).unwrap();
    let mut agent = Agent::start_dialled_by(socket, &edge);
    let is_down = |agent: &Agent, why: &str| {
        agent.reports.down().iter().any(|(name, reason)| name == "fiber" && reason.contains(why))
    };
    let comes_down = |agent: &Agent, why: &str| {
        wait::until(why, SOME_TIME, || is_down(agent, why))
            .unwrap_or_else(|error| panic!("{error}: {:?}", agent.reports.down()));
    };

    // Nobody answers; then somebody who does not know the password. The other line carries meanwhile.
    assert_eq!(agent.order(1, network("wrong")), []);
    comes_down(&agent, "no PPPoE answer on the line");
    let mut server = concentrator(&internet);
    comes_down(&agent, "refuses the PPPoE user name or password");
    agent.comes("the other line", "route get 203.0.113.80", "via 192.0.2.1");

    assert_eq!(agent.order(2, network(PASSWORD)), []);
    agent.comes("a session", "addr show pp-fiber", "inet 198.51.100.2");
    let way = |what: &str, out: &str| {
        let shown = || agent.ip("route get 203.0.113.80");
        wait::until(what, SOME_TIME, || shown().contains(out)).unwrap_or_else(|error| {
            panic!("{error}: {:?} {}", agent.reports.down(), agent.ip("route show table all"))
        });
    };
    way("the way out", "dev pp-fiber");
    assert!(agent.ip("link show pp-fiber").contains("mtu 1492"), "{}", agent.ip("link show pp-fiber"));
    assert!(agent.ip("link show p0").contains("mtu 1500"));
    wait::until("its end of being down", SOON, || agent.reports.down().is_empty()).unwrap();
    let servers = || fs::read_to_string(run.dir().join("resolv.conf")).unwrap_or_default();
    wait::until("the name server", SOON, || servers().contains("203.0.113.53")).unwrap();
    assert!(!is_seen_anywhere(&run), "the password is nobody's business");

    // A host of the office gets out, translated, with what the session carries and no octet more.
    let ping = |size: &str| {
        let arguments = ["-c1", "-W3", "-Mdo", "-s", size, "203.0.113.80"];
        office.output("ping", &arguments)
    };
    wait::until("the internet", SOON, || ping("1464").is_ok()).unwrap();
    assert!(ping("1465").is_err(), "1493 octets do not go through 1492");
    let listener = internet.enter(|| std::net::TcpListener::bind("203.0.113.80:80").unwrap()).unwrap();
    let stream = office.enter(|| std::net::TcpStream::connect("203.0.113.80:80").unwrap()).unwrap();
    let (accepted, from) = listener.accept().unwrap();
    assert!(from.ip().to_string().starts_with("198.51.100.2"), "{from}");
    for side in [&stream, &accepted] {
        let size = socket2::SockRef::from(side).tcp_mss().unwrap();
        assert!((1400..=1452).contains(&size), "{size}");
    }

    // Someone takes the address and the route away; the program dies; the provider hangs up.
    let address = || agent.ip("-4 -br addr show pp-fiber");
    edge.ip("addr flush dev pp-fiber").unwrap();
    agent.comes("the address again", "addr show pp-fiber", "inet 198.51.100.2");
    way("the route again", "dev pp-fiber");
    let number = |link: &str| {
        let text = fs::read_to_string(format!("/run/{link}.pid")).unwrap();
        nix::unistd::Pid::from_raw(text.trim().parse().unwrap())
    };
    let before = number("pp-fiber");
    nix::sys::signal::kill(before, nix::sys::signal::Signal::SIGKILL).unwrap();
    let again = || {
        fs::read_to_string("/run/pp-fiber.pid").is_ok_and(|text| text.trim() != before.to_string())
            && agent.ip("route get 203.0.113.80").contains("dev pp-fiber")
    };
    wait::until("another session", SOME_TIME, again)
        .unwrap_or_else(|error| panic!("{error}: {} {:?}", address(), agent.reports.down()));

    // The line is cut: the other one takes over, and it is named. It comes back with the line.
    internet.ip("link set far down").unwrap();
    comes_down(&agent, "no cable in p0");
    way("the other line", "via 192.0.2.1");
    wait::until("the internet by the other line", SOON, || ping("1464").is_ok()).unwrap();
    internet.ip("link set far up").unwrap();
    way("the session after the cut", "dev pp-fiber");
    assert!(agent.noted("uplink.down") >= 2 && agent.noted("uplink.up") >= 1);

    // Not wanted any more: the session ends, by the concentrator's account as well.
    let left = json!({ "wan": [{ "name": "fiber", "port": "p0" }] });
    assert_eq!(agent.order(3, left), []);
    wait::until("the end", SOON, || !agent.ip("link show").contains("pp-fiber")).unwrap();
    wait::until("the end at the provider", SOON, || {
        !internet.output("ip", &["-br", "link"]).unwrap().contains("ppp")
    })
    .unwrap();
    server.crash().unwrap();
}
