//! What a box learns of its lines: NATs of nftables, narrow links without ICMP, blocked UDP, portals. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use edge_agent::line::{Reflection, portal, reflect};
use edge_agent_core::line::nat;
use lab::{Namespace, Run};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use verona_contract::api::Nat;
use verona_contract::stun::{self, PORTS};

const CENTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
const MARK: u32 = 0x7700_0001;

/// A box, a router of its provider, and a center behind that.
struct Scene {
    edge: Namespace,
    router: Namespace,
    center: Namespace,
}

impl Scene {
    fn new(run: &Run) -> Self {
        let place = |name: &str| run.namespace(name).unwrap();
        let (edge, router, center) = (place("edge"), place("router"), place("center"));
        edge.connect("p0", &router, "lan").unwrap();
        router.connect("wan", &center, "far").unwrap();
        edge.address("p0", &["192.168.1.2/24"]).unwrap();
        router.address("lan", &["192.168.1.1/24"]).unwrap();
        router.address("wan", &["198.51.100.1/24"]).unwrap();
        center.address("far", &["198.51.100.10/24"]).unwrap();
        router.forward().unwrap();
        // By the mark alone: the main table has no way out.
        edge.ip("route add default via 192.168.1.1 table 1191").unwrap();
        edge.ip("rule add fwmark 0x77000001 lookup 1191").unwrap();
        center.ip("route add 192.168.1.0/24 via 198.51.100.1").unwrap();
        for port in PORTS {
            let socket = center.enter(|| UdpSocket::bind((CENTER, port)).unwrap()).unwrap();
            std::thread::spawn(move || {
                let mut question = [0; stun::MOST];
                while let Ok((length, source)) = socket.recv_from(&mut question) {
                    if let Some(answer) = stun::reply(&question[..length], source) {
                        let _ = socket.send_to(&answer, source);
                    }
                }
            });
        }
        Self { edge, router, center }
    }

    fn ask(&self) -> Reflection {
        let places = PORTS.map(|port| SocketAddr::from((CENTER, port)));
        self.run(reflect(places, MARK)).unwrap()
    }

    fn portal(&self) -> std::io::Result<Option<String>> {
        self.run(portal("center.example", CENTER.into(), MARK))
    }

    fn run<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        let inside = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work)
        };
        self.edge.enter(inside).unwrap()
    }

    fn translate(&self, how: &str) {
        let _ = self.router.nft("table ip nat\ndelete table ip nat\n");
        let rules = format!(
            "table ip nat {{ chain out {{ type nat hook postrouting priority 100; oifname wan {how}; }}\n}}"
        );
        self.router.nft(&rules).unwrap();
    }
}

fn kind(found: &Reflection) -> Nat {
    nat(found.own, found.mapped)
}

#[test]
fn nats_are_told_apart() {
    let run = Run::start().unwrap();
    let scene = Scene::new(&run);
    let own: IpAddr = [192, 168, 1, 2].into();
    let found = scene.ask();
    assert_eq!((found.own, kind(&found), found.path_mtu), (own, Nat::None, Some(1500)));
    scene.translate("masquerade");
    let found = scene.ask();
    assert_eq!(kind(&found), Nat::EndpointIndependent);
    assert_eq!(found.mapped.0.unwrap().ip(), IpAddr::from([198, 51, 100, 1]));
    // Each destination gets a port of its own.
    scene.translate("meta l4proto udp masquerade random");
    let by_destination = (0..5).any(|_| kind(&scene.ask()) == Nat::EndpointDependent);
    assert!(by_destination, "random ports are equal for two destinations, five times");
    scene
        .router
        .nft("table ip f { chain f { type filter hook forward priority 0; meta l4proto udp drop; }\n}")
        .unwrap();
    let found = scene.ask();
    assert_eq!((kind(&found), found.path_mtu), (Nat::UdpBlocked, None));
}

#[test]
fn a_black_hole_shows_its_width() {
    let run = Run::start().unwrap();
    let scene = Scene::new(&run);
    scene.router.ip("link set wan mtu 1452").unwrap();
    // Nobody tells the box: the router's ICMP does not come through.
    scene
        .router
        .nft("table ip f { chain o { type filter hook output priority 0; ip protocol icmp drop; }\n}")
        .unwrap();
    assert_eq!(scene.ask().path_mtu, Some(1452));
    // Nor does what the kernel believed before matter, or a narrow interface of the box's own.
    scene.edge.ip("link set p0 mtu 1400").unwrap();
    assert_eq!(scene.ask().path_mtu, Some(1400));
}

#[test]
fn a_portal_is_no_center() {
    let run = Run::start().unwrap();
    let scene = Scene::new(&run);
    assert!(scene.portal().is_err(), "nobody answers: there may be a portal or not");
    let answer = |place: &Namespace, address: Ipv4Addr, answer: &'static str| {
        let listener = place.enter(|| TcpListener::bind((address, 80)).unwrap()).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = (stream.read(&mut [0; 2048]), stream.write_all(answer.as_bytes()));
            }
        });
    };
    answer(&scene.center, CENTER, "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(scene.portal().unwrap(), None);
    answer(
        &scene.router,
        Ipv4Addr::new(192, 168, 1, 1),
        "HTTP/1.1 302 Found\r\nLocation: http://login.hotel/\r\n\r\n",
    );
    let redirect =
        "table ip nat { chain in { type nat hook prerouting priority -100; tcp dport 80 redirect; }\n}";
    scene.router.nft(redirect).unwrap();
    assert_eq!(scene.portal().unwrap().as_deref(), Some("302 to http://login.hotel/"));
}
