//! The technician's page, as a guest of a local network sees it, as a browser shows it, and as the uplink does not.
//! Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::parts::{Center, Edge};
use lab::{Namespace, Plan, Run, Topology, address, wait};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_millis(700);
const PAGE: &str = "192.168.77.1:80";

fn connect(from: &Namespace, to: &str, limit: Duration) -> Option<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    from.enter(|| TcpStream::connect_timeout(&to, limit).ok()).unwrap()
}

/// The whole answer to what is sent, or nothing.
fn say(from: &Namespace, request: &str) -> String {
    let Some(mut stream) = connect(from, PAGE, LIMIT) else { return String::new() };
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answer = Vec::new();
    let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(from: &Namespace, path: &str, fields: &str) -> String {
    say(from, &format!("GET {path} HTTP/1.1\r\nHost: 192.168.77.1\r\n{fields}\r\n"))
}

/// A PNG's width and height.
fn size(png: &[u8]) -> (u32, u32) {
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

fn browser(place: &Namespace, arguments: &[&str]) -> String {
    let profile = format!("--user-data-dir={}", place.run().dir().join("browser").display());
    let mut all = vec!["--no-sandbox", "--disable-gpu", "--hide-scrollbars", profile.as_str()];
    all.extend(arguments);
    place.output("chromium-headless-shell", &all).unwrap()
}

#[test]
fn the_page_is_for_the_local_side_alone() {
    let run = Run::start().unwrap();
    let net = Topology::build(&run, &Plan { clients: vec![] }).unwrap();
    let center = Center::start(&net.center).unwrap();
    let owner = center.add_owner("Example", "10.8.0.0/24").unwrap();
    let record = run.dir().join("factory.json");
    let id = center.add_edge(&owner, &record).unwrap();
    let _edge = Edge::start(&net.edge, &record).unwrap();
    center.confirmed(&id, 1, LIMIT).unwrap();
    assert!(connect(&net.lan, PAGE, PATIENCE).is_none(), "nobody asked for it");
    net.edge.ip("link delete br-lan").unwrap();
    let file = run.dir().join("network.json");
    let ask_for = |page: bool| {
        let wan = json!({ "name": "fiber", "port": "wan",
            "ipv4": { "static": { "address": "203.0.113.2/24", "gateway": "203.0.113.1" } } });
        let lan =
            json!({ "name": "office", "ports": ["lan0"], "addresses": ["192.168.77.1/24"], "page": page });
        std::fs::write(&file, json!({ "wan": [wan], "lan": [lan] }).to_string()).unwrap();
        center.admin(&["edge", "network", &id, "--set", &file.to_string_lossy()]).unwrap();
    };
    ask_for(true);
    wait::until("the page", LIMIT, || get(&net.lan, "/", "").contains("VE-000001")).unwrap();

    // What it says, in both languages, and what it lets a browser do.
    wait::until("the center on it", LIMIT, || get(&net.lan, "/", "").contains("接続済み")).unwrap();
    let english = get(&net.lan, "/", "Accept-Language: en-GB,en\r\n");
    assert!(english.contains("Serial number") && english.contains("lang=\"en\"") && english.contains("JST"));
    assert!(english.to_lowercase().contains("content-security-policy: default-src 'none'"), "{english}");
    assert!(!english.contains("<script"));
    for (request, status) in [
        ("POST / HTTP/1.1\r\nHost: 192.168.77.1\r\nContent-Length: 0\r\n\r\n", "405"),
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: 192.168.77.1\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n", "421"),
        ("GET / HTTP/1.0\r\n\r\n", "421"),
    ] {
        let answer = say(&net.lan, request);
        assert!(answer.get(9..12) == Some(status), "{request:?}: {answer}");
        assert!(!answer.contains("VE-000001"));
    }

    // A browser of the real world shows it.
    let picture = run.dir().join("page.png");
    browser(
        &net.lan,
        &[
            "--window-size=900,900",
            &format!("--screenshot={}", picture.display()),
            &format!("http://{}/?lang=ja", address::EDGE_LAN),
        ],
    );
    let png = std::fs::read(&picture).unwrap();
    assert_eq!(size(&png), (900, 900));
    // Nine hundred lines of white are some kilobytes.
    assert!(png.len() > 15_000, "{}", png.len());
    let shown = browser(&net.lan, &["--dump-dom", &format!("http://{}/?lang=en", address::EDGE_LAN)]);
    assert!(shown.contains("id=\"health\"") && shown.contains("connected"), "{shown}");
    if let Some(folder) = std::env::var_os("VERONA_SCREENSHOTS") {
        std::fs::copy(&picture, std::path::Path::new(&folder).join("page.png")).unwrap();
    }

    // Not from the uplink, and not by the firewall's grace alone: the listener hears one bridge.
    assert!(connect(&net.internet, "203.0.113.2:80", PATIENCE).is_none());
    let listeners = net.edge.output("ss", &["-Hltn"]).unwrap();
    assert!(listeners.contains("%br-office:80") && listeners.lines().count() == 2, "{listeners}");

    // Guests that hold connections without asking, and ones that send anything.
    let slow: Vec<Option<TcpStream>> = (0..40)
        .map(|_| {
            let mut stream = connect(&net.lan, PAGE, PATIENCE)?;
            stream.write_all(b"GET / HTTP/1.1\r\nHo").ok().map(|()| stream)
        })
        .collect();
    net.lan.address("eth0", &["192.168.77.11/24"]).unwrap();
    net.lan.ip("route replace 192.168.77.1/32 dev eth0 src 192.168.77.11").unwrap();
    assert!(get(&net.lan, "/", "").contains("VE-000001"), "another guest is served");
    drop(slow);
    let garbage: String = (1..30_000_u32).map(|number| char::from((number * 7919 % 251) as u8)).collect();
    for request in [
        garbage.as_str(),
        "\r\n\r\n\r\n",
        "GET",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = connect(&net.lan, PAGE, LIMIT).unwrap();
        let _ = stream.write_all(request.as_bytes());
    }
    let long = format!("X: {}\r\n", "y".repeat(100_000));
    assert!(!get(&net.lan, "/", &long).contains("VE-000001"), "heads have an end");
    assert!(get(&net.lan, "/", "").contains("VE-000001"), "and it is still there");

    ask_for(false);
    wait::until("the end of it", LIMIT, || connect(&net.lan, PAGE, PATIENCE).is_none()).unwrap();
}
