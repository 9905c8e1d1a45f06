//! What a stranger on the line gets out of the box: every TCP and every UDP port, over IPv4 and IPv6, tried with
//! packets of our own making, and anything that comes back counted.

use crate::agent::Agent;
use lab::{Namespace, Run, alone, workspace};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long an answer to the last question may take.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// After how many questions answers are looked for: fewer than a socket holds.
const BURST: u16 = 128;

/// From which port is asked.
const FROM: u16 = 40000;

const TUNNEL: u16 = 51820;

/// Ports that answered in any way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answered {
    /// SYN-ACK or RST.
    tcp: BTreeSet<u16>,
    /// A datagram, or an ICMP message about one.
    udp: BTreeSet<u16>,
}

struct Scanner {
    own: IpAddr,
    target: IpAddr,
    tcp: Socket,
    udp: Socket,
    icmp: Socket,
    answered: Answered,
}

impl Scanner {
    /// In the calling thread's namespace.
    fn new(own: IpAddr, target: IpAddr) -> Self {
        let (domain, icmp) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let raw = |protocol| {
            let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let udp = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        udp.set_nonblocking(true).unwrap();
        udp.bind(&SocketAddr::new(own, FROM).into()).unwrap();
        Self { own, target, tcp: raw(Protocol::TCP), udp, icmp: raw(icmp), answered: Answered::default() }
    }

    fn scan(mut self) -> Answered {
        for port in 1..=u16::MAX {
            self.tcp.send_to(&self.syn(port), &SocketAddr::new(self.target, 0).into()).unwrap();
            self.udp.send_to(b"", &SocketAddr::new(self.target, port).into()).unwrap();
            if port % BURST == 0 {
                self.take();
            }
        }
        let end = Instant::now() + LAST_ANSWER;
        while Instant::now() < end {
            self.take();
            std::thread::sleep(Duration::from_millis(20));
        }
        self.answered
    }

    /// A TCP header (RFC 9293 §3.1) with SYN and nothing else.
    fn syn(&self, port: u16) -> [u8; 20] {
        let mut header = [0; 20];
        header[..2].copy_from_slice(&FROM.to_be_bytes());
        header[2..4].copy_from_slice(&port.to_be_bytes());
        header[12] = 5 << 4;
        header[13] = 2;
        header[14..16].copy_from_slice(&1024_u16.to_be_bytes());
        let mut covered = Vec::new();
        for address in [self.own, self.target] {
            match address {
                IpAddr::V4(address) => covered.extend(address.octets()),
                IpAddr::V6(address) => covered.extend(address.octets()),
            }
        }
        // The pseudo header's other fields; their widths make no difference to the sum.
        covered.extend([0, 6, 0, 20]);
        covered.extend(header);
        let sum: u32 = covered.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        header[16..18].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        header
    }

    /// Takes everything that has come.
    fn take(&mut self) {
        let v4 = self.target.is_ipv4();
        // IPv4 gives the packet, IPv6 what is in it.
        let inner = |packet: &[u8]| {
            if v4 { packet[usize::from(packet[0] & 15) * 4..].to_vec() } else { packet.to_vec() }
        };
        while let Some((packet, from)) = receive(&self.tcp) {
            let segment = inner(&packet);
            if from.ip() == self.target && segment[2..4] == FROM.to_be_bytes() {
                self.answered.tcp.insert(u16::from_be_bytes([segment[0], segment[1]]));
            }
        }
        while let Some((_, from)) = receive(&self.udp) {
            self.answered.udp.insert(from.port());
        }
        while let Some((packet, from)) = receive(&self.icmp) {
            let message = inner(&packet);
            // Destination unreachable, then the packet it is about.
            if from.ip() != self.target || message[0] != if v4 { 3 } else { 1 } {
                continue;
            }
            let (protocol, ports) = if v4 {
                (message[8 + 9], 8 + usize::from(message[8] & 15) * 4)
            } else {
                (message[8 + 6], 8 + 40)
            };
            let port = u16::from_be_bytes([message[ports + 2], message[ports + 3]]);
            let ports = if protocol == 6 { &mut self.answered.tcp } else { &mut self.answered.udp };
            ports.insert(port);
        }
    }
}

fn receive(mut socket: &Socket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut peer = None;
    let mut buffer = vec![0; 2048];
    // What is about to be read comes from whom it is peeked at.
    if let Ok(from) = socket.peek_sender() {
        peer = from.as_socket();
    }
    match std::io::Read::read(&mut socket, &mut buffer) {
        Ok(length) => {
            buffer.truncate(length);
            Some((buffer, peer.unwrap()))
        }
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
            None
        }
    }
}

fn scan(from: &Namespace, own: &str, target: &str) -> Answered {
    let (own, target) = (own.parse().unwrap(), target.parse().unwrap());
    from.enter(|| Scanner::new(own, target).scan()).unwrap()
}

#[test]
fn the_line_gets_no_answer_from_any_port() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let place = |name: &str| run.namespace(name).unwrap();
    let (edge, internet, office) = (place("edge"), place("internet"), place("office"));
    edge.connect("p0", &internet, "far").unwrap();
    edge.connect("p1", &office, "far").unwrap();
    internet.address("far", &["192.0.2.1/24", "2001:db8::1/64"]).unwrap();
    edge.address("p0", &["192.0.2.2/24", "2001:db8::2/64"]).unwrap();
    let lines = [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")];

    // The tunnel listens, as on every box.
    let interface = run.interface("edge");
    let mut command = edge.command(workspace::binary("edge-tunnel").unwrap());
    command.args(["-f", "--control"]).arg(run.dir().join("tunnel.sock")).arg(&interface);
    let mut tunnel = run.start_process("edge-tunnel", command).unwrap();
    tunnel.wait_for_log("is ready", crate::agent::SOON).unwrap();
    let key = run.dir().join("key");
    std::fs::write(&key, edge.output("wg", &["genkey"]).unwrap()).unwrap();
    let port = TUNNEL.to_string();
    edge.output("wg", &["set", &interface, "listen-port", &port, "private-key", key.to_str().unwrap()])
        .unwrap();
    edge.ip(&format!("link set {interface} up")).unwrap();

    // Without rules each port says that it is closed, so the scanner hears.
    for (own, target) in lines {
        let answered = scan(&internet, own, target);
        assert!(answered.tcp.len() > 60_000, "{target}: {} TCP ports answered", answered.tcp.len());
        // The kernel rations these.
        assert!(!answered.udp.is_empty() && !answered.udp.contains(&TUNNEL), "{target}: {:?}", answered.udp);
    }

    let mut agent = Agent::start(&edge);
    let network = json!({
        "wan": [{ "name": "fiber", "port": "p0", "ipv4": { "static": { "address": "192.0.2.2/24", "gateway": "192.0.2.1" } },
                  "ipv6": { "static": { "address": "2001:db8::2/64", "gateway": "2001:db8::1" } } }],
        "lan": [{ "name": "office", "ports": ["p1"], "addresses": ["192.168.77.1/24"],
                  "dhcp": { "first": "192.168.77.100", "last": "192.168.77.109", "lease_s": 600 } }],
        "dns": { "hosts": [{ "name": "printer.office", "address": "192.168.77.30" }] },
    });
    assert_eq!(agent.order(1, network), []);
    lab::wait::until("the name server", crate::agent::SOON, || {
        edge.output("ss", &["-Hlun"]).unwrap().contains(":53")
    })
    .unwrap();
    for (own, target) in lines {
        assert_eq!(scan(&internet, own, target), Answered::default(), "{target}");
    }
    tunnel.must_run().unwrap();
}
