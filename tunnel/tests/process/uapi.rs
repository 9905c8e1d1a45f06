//! UAPI through Debian's `wg`, and by hand where `wg` would not let us: errors, odd input.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::pair::{Implementation, Pair, secret_file, wg_output};

const KEY_1: &str = "L+V9o0fNYkMVKNqsX7spBzD/9oSvxM/C7ZCZX1jLO3Q=";
const KEY_2: &str = "uFmW/sycfx/G0lcqdu2hHVm8zSC+iOVDsVzkvYWo51o=";

fn started() -> Pair {
    let pair = Pair::new();
    pair.left.start(Implementation::Ours);
    pair
}

/// Everything that `wg` knows to set, in a form that `wg showconf` gives back word for word.
fn full_config(private_key: &str) -> String {
    format!(
        "[Interface]\nListenPort = 4321\nFwMark = 0x1234\nPrivateKey = {private_key}\n\n\
         [Peer]\nPublicKey = {KEY_1}\nPresharedKey = {KEY_2}\nAllowedIPs = 10.1.0.0/16, fd01::/64\n\
         Endpoint = 192.0.2.2:999\nPersistentKeepalive = 25\n\n\
         [Peer]\nPublicKey = {KEY_2}\nAllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = [2001:db8::2]:65535\n"
    )
}

/// `wg showconf`, with peers and allowed IPs in a fixed order: UAPI promises none.
fn shown(pair: &Pair) -> Vec<String> {
    normalised(&pair.left.place.output("wg", &["showconf", &pair.left.interface]).unwrap())
}

fn normalised(config: &str) -> Vec<String> {
    let section = |text: &str| {
        let mut lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(sorted_list).collect();
        lines.sort();
        lines.join("\n")
    };
    let mut sections: Vec<String> = config.split("\n[").map(section).collect();
    sections[1..].sort();
    sections
}

fn sorted_list(line: &str) -> String {
    let Some((key, list)) = line.split_once(" = ") else { return line.trim_matches(['[', ']']).to_owned() };
    let mut items: Vec<&str> = list.split(", ").collect();
    items.sort_unstable();
    format!("{key} = {}", items.join(", "))
}

fn apply(pair: &Pair, verb: &str, name: &str, config: &str) {
    let file = secret_file(&pair.run, name, config);
    pair.left.place.output("wg", &[verb, &pair.left.interface, &file.to_string_lossy()]).unwrap();
}

#[test]
fn what_setconf_and_addconf_set_showconf_gives_back() {
    let pair = started();
    let config = full_config(&wg_output(&["genkey"], ""));
    apply(&pair, "setconf", "first", &config);
    assert_eq!(shown(&pair), normalised(&config));
    let third =
        "\n[Peer]\nPublicKey = WEAuaVuod3G3zDCXVfBDJR6nf98Q++Y5icKJfrGTITc=\nAllowedIPs = 10.3.0.0/16\n";
    apply(&pair, "addconf", "second", third);
    assert_eq!(shown(&pair), normalised(&format!("{config}{third}")));
    // setconf replaces everything, what is left out too.
    apply(&pair, "setconf", "third", "[Interface]\nListenPort = 5\n");
    assert_eq!(pair.left.show("peers"), "");
    assert_eq!(pair.left.show("listen-port"), "5");
    assert_eq!(pair.left.show("private-key"), "(none)");
    assert_eq!(pair.left.show("fwmark"), "off");
}

#[test]
fn syncconf_changes_only_what_differs() {
    let pair = started();
    let key = wg_output(&["genkey"], "");
    apply(&pair, "setconf", "first", &full_config(&key));
    let changed = full_config(&key)
        .replace("10.1.0.0/16, fd01::/64", "10.1.0.0/16, 10.5.0.0/24")
        .replace("PersistentKeepalive = 25", "PersistentKeepalive = 30")
        .replace("ListenPort = 4321", "ListenPort = 4322");
    apply(&pair, "syncconf", "second", &changed);
    assert_eq!(shown(&pair), normalised(&changed));
    let one_peer = changed.split("\n[Peer]").take(2).collect::<Vec<_>>().join("\n[Peer]");
    apply(&pair, "syncconf", "third", &one_peer);
    assert_eq!(shown(&pair), normalised(&one_peer));
}

#[test]
fn peers_change_one_by_one() {
    let pair = started();
    let [key, psk] = ["genkey", "genpsk"].map(|kind| wg_output(&[kind], ""));
    let [key, psk] = [("key", key), ("psk2", psk)].map(|(name, text)| secret_file(&pair.run, name, &text));
    let set = |arguments: &[&str]| pair.left.set(arguments);
    set(&["private-key", &key.to_string_lossy()]);
    set(&["peer", KEY_1, "allowed-ips", "10.1.0.0/16,10.2.0.0/16", "persistent-keepalive", "65535"]);
    set(&["peer", KEY_2, "preshared-key", &psk.to_string_lossy(), "endpoint", "[2001:db8::9]:1"]);
    assert_eq!(pair.left.show("persistent-keepalive").matches("65535").count(), 1);
    assert!(pair.left.show("preshared-keys").contains("(none)"));
    // An allowed IP belongs to one peer: it moves.
    set(&["peer", KEY_2, "allowed-ips", "10.2.0.0/16"]);
    let allowed = pair.left.show("allowed-ips");
    assert!(
        allowed.contains(&format!("{KEY_1}\t10.1.0.0/16\n"))
            || allowed.ends_with(&format!("{KEY_1}\t10.1.0.0/16"))
    );
    assert!(allowed.contains(&format!("{KEY_2}\t10.2.0.0/16")), "{allowed}");
    // Host bits are cleared.
    set(&["peer", KEY_2, "allowed-ips", "10.2.3.4/16"]);
    assert!(pair.left.show("allowed-ips").contains(&format!("{KEY_2}\t10.2.0.0/16")));
    set(&["peer", KEY_1, "persistent-keepalive", "off", "allowed-ips", ""]);
    assert!(pair.left.show("allowed-ips").contains(&format!("{KEY_1}\t(none)")));
    assert!(!pair.left.show("persistent-keepalive").contains("65535"));
    set(&["peer", KEY_2, "preshared-key", "/dev/null"]);
    assert_eq!(pair.left.show("preshared-keys").matches("(none)").count(), 2);
    set(&["peer", KEY_1, "remove"]);
    assert_eq!(pair.left.show("peers"), KEY_2);
    // Removing the private key leaves the peers.
    set(&["private-key", "/dev/null"]);
    assert_eq!(pair.left.show("private-key"), "(none)");
    assert_eq!(pair.left.show("peers"), KEY_2);
}

/// Sends `request` and reads to the end of the answer.
fn ask(stream: &mut UnixStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n\n") {
        let mut octets = [0; 4096];
        let count = stream.read(&mut octets).unwrap();
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&octets[..count]);
    }
    String::from_utf8(answer).unwrap()
}

fn connect(pair: &Pair) -> UnixStream {
    let stream = UnixStream::connect(pair.left.uapi_socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}

const PEER: &str = "2fe57da347cd62431528daac5fbb290730fff684afc4cfc2ed90995f58cb3b74";

#[test]
fn one_connection_takes_many_operations_and_errors_between_them() {
    let pair = started();
    let mut stream = connect(&pair);
    assert_eq!(ask(&mut stream, "get=1\n\n"), "errno=0\n\n");
    assert_eq!(ask(&mut stream, "set=1\nlisten_port=77\nfwmark=5\n\n"), "errno=0\n\n");
    assert_eq!(ask(&mut stream, "set=1\nlisten_port=x\nfwmark=6\n\n"), "errno=-22\n\n");
    assert_eq!(ask(&mut stream, "set=1\nno equals sign\n\n"), "errno=-71\n\n");
    assert_eq!(ask(&mut stream, "get=1\ntrailing\n"), "errno=-22\n\n");
    assert_eq!(ask(&mut stream, "get=1\n\n"), "listen_port=77\nfwmark=5\nerrno=0\n\n");
    assert_eq!(ask(&mut stream, "set=1\n\n"), "errno=0\n\n");
}

#[test]
fn a_transaction_with_an_error_changes_nothing() {
    let pair = started();
    let mut stream = connect(&pair);
    let half = format!("set=1\nlisten_port=77\npublic_key={PEER}\nallowed_ip=10.0.0.0/8\nallowed_ip=no\n\n");
    assert_eq!(ask(&mut stream, &half), "errno=-22\n\n");
    assert_eq!(ask(&mut stream, "get=1\n\n"), "errno=0\n\n");
    // So does a connection that ends before the empty line.
    stream.write_all(format!("set=1\npublic_key={PEER}\n").as_bytes()).unwrap();
    drop(stream);
    assert_eq!(ask(&mut connect(&pair), "get=1\n\n"), "errno=0\n\n");
}

#[test]
fn a_port_in_use_is_eaddrinuse_and_the_old_one_stays() {
    let pair = started();
    pair.left.set(&["listen-port", "78"]);
    pair.left.bring_up();
    let _taken = pair.left.place.enter(|| std::net::UdpSocket::bind("[::]:79").unwrap()).unwrap();
    let mut stream = connect(&pair);
    let port_up = || {
        lab::wait::until("port 78", crate::pair::PATIENCE, || {
            pair.left.place.output("ss", &["-Hnlu", "sport", "=", ":78"]).unwrap().lines().count()
                == crate::pair::sockets_of_ours()
        })
    };
    port_up().unwrap();
    assert_eq!(ask(&mut stream, "set=1\nlisten_port=79\nfwmark=9\n\n"), "errno=-98\n\n");
    assert_eq!(ask(&mut stream, "get=1\n\n"), "listen_port=78\nerrno=0\n\n");
    port_up().unwrap();
}

#[test]
fn update_only_removal_and_minus() {
    let pair = started();
    let mut stream = connect(&pair);
    let mut set = |peer_lines: &str| {
        let request = format!("set=1\npublic_key={PEER}\n{peer_lines}\n");
        assert_eq!(ask(&mut stream, &request), "errno=0\n\n", "{peer_lines}");
        ask(&mut stream, "get=1\n\n")
            .lines()
            .filter(|line| line.starts_with("allowed_ip"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(set("update_only=true\nallowed_ip=10.0.0.0/8\n").is_empty());
    assert_eq!(pair.left.show("peers"), "");
    assert_eq!(set("protocol_version=1\nallowed_ip=10.0.0.0/8\nallowed_ip=fd00::/8\n").len(), 2);
    assert_eq!(set("update_only=true\nallowed_ip=-10.0.0.0/8\n"), ["allowed_ip=fd00::/8"]);
    assert_eq!(set("allowed_ip=-10.0.0.0/8\nallowed_ip=-fd00::/9\n"), ["allowed_ip=fd00::/8"]);
    assert_eq!(set("replace_allowed_ips=true\nallowed_ip=10.1.0.0/16\n"), ["allowed_ip=10.1.0.0/16"]);
    assert!(set("remove=true\n").is_empty());
    assert_eq!(pair.left.show("peers"), "");
    // Removing what is not there is no error.
    assert!(set("remove=true\n").is_empty());
}

#[test]
fn odd_input_ends_the_connection_and_nothing_else() {
    let pair = started();
    let long = format!("set=1\npublic_key={}\n\n", "a".repeat(100_000));
    for request in ["what=1\n\n", "\n", "\0\0\0\0\n", "get=2\n\n", "POST / HTTP/1.1\r\n\r\n", &long] {
        let mut stream = connect(&pair);
        // The other side may close while we write.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{request:.20}: {answer:?}");
    }
    // More connections than there may be: the first ones stay served.
    let mut first = connect(&pair);
    assert_eq!(ask(&mut first, "get=1\n\n"), "errno=0\n\n");
    let many: Vec<UnixStream> = (0..100).map(|_| connect(&pair)).collect();
    assert_eq!(ask(&mut first, "get=1\n\n"), "errno=0\n\n");
    drop(many);
    pair.left.set(&["listen-port", "9"]);
}

#[test]
fn ten_thousand_peers_are_set_and_shown() {
    use std::fmt::Write as _;
    let pair = started();
    let mut config = String::from("[Interface]\nListenPort = 5\n");
    for number in 0..10_000_u32 {
        // Any canonical field element is a key; only the table of peers matters here.
        let mut key = [7; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        let [_, b, c, d] = number.to_be_bytes();
        let key = verona_contract::base64::encode(key);
        writeln!(config, "[Peer]\nPublicKey = {key}\nAllowedIPs = 10.{b}.{c}.{d}/32").unwrap();
    }
    apply(&pair, "setconf", "many", &config);
    assert_eq!(pair.left.show("peers").lines().count(), 10_000);
    let one = "[Interface]\nListenPort = 5\n";
    apply(&pair, "syncconf", "one", one);
    assert_eq!(pair.left.show("peers"), "");
}
