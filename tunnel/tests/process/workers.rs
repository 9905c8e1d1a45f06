//! Several workers: the same packets, in the same order.

use std::io::{IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edge_tunnel::{AllowedIpUpdate, Device, DeviceConfig, DeviceUpdate, PeerUpdate, Secret};
use lab::Namespace;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use crate::pair::{Outer, PATIENCE, Pair};

const WORKERS: [&str; 2] = ["--workers", "2"];
const FLOWS: u16 = 12;
const PACKETS: u64 = 3000;
const CUTS: usize = 50;

/// Two of our tunnels, each with two workers.
fn pair() -> (Pair, [lab::Process; 2]) {
    let pair = Pair::new();
    let processes = [&pair.right, &pair.left].map(|end| end.start_with(&pair.run, &WORKERS));
    pair.configure(&pair.right, &pair.left, None);
    pair.right.bring_up();
    pair.configure(&pair.left, &pair.right, Some(Outer::V4));
    pair.left.bring_up();
    pair.expect_traffic();
    (pair, processes)
}

/// Sends numbered datagrams as fast as they go. The receiver answers some of them, which makes the kernel move the
/// flow to another queue of the interface; returns how many arrived, and how many of them after a later one.
fn flow(from: &Namespace, at: &Namespace, to: SocketAddr) -> (u64, u64) {
    let receiver = at.enter(|| UdpSocket::bind(to).unwrap()).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let sender = from.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    sender.connect(to).unwrap();
    let sending = thread::spawn(move || {
        for number in 0..PACKETS {
            let mut datagram = [0; 600];
            datagram[..8].copy_from_slice(&number.to_be_bytes());
            // A full buffer of the sender is no failure of what is tested.
            let _ = sender.send(&datagram);
            if number % 16 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let (mut count, mut late, mut newest) = (0, 0, 0);
    let mut datagram = [0; 600];
    while newest < PACKETS - 1
        && let Ok((_, peer)) = receiver.recv_from(&mut datagram)
    {
        let number = u64::from_be_bytes(*datagram.first_chunk().unwrap());
        count += 1;
        late += u64::from(number < newest);
        newest = newest.max(number);
        if count % 50 == 1 {
            let _ = receiver.send_to(&[0], peer);
        }
    }
    sending.join().unwrap();
    (count, late)
}

/// A counter of the TCP of a namespace (`/proc/net/netstat`).
fn tcp_counter(place: &Namespace, name: &str) -> u64 {
    let text = place.output("cat", &["/proc/net/netstat"]).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let found = names.split(' ').zip(values.split(' ')).find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no counter {name}")).1.parse().unwrap()
}

#[test]
fn no_flow_is_reordered() {
    let (pair, _processes) = pair();
    let address = |port: u16| format!("{}:{port}", pair.right.inner_v4()).parse().unwrap();
    let (left, right) = (&pair.left.place, &pair.right.place);
    let flows: Vec<(u64, u64)> = thread::scope(|scope| {
        let start = |number| {
            let to = address(7000 + number);
            scope.spawn(move || flow(left, right, to))
        };
        let threads: Vec<_> = (0..FLOWS).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(flows.iter().all(|(count, _)| *count > PACKETS / 30), "{flows:?}");
    assert!(flows.iter().all(|(_, late)| *late == 0), "arrived, and after a later one: {flows:?}");

    let to = address(7100);
    let listener = pair.right.place.enter(|| TcpListener::bind(to).unwrap()).unwrap();
    let reading = thread::spawn(move || {
        let mut total = 0;
        let mut buffer = vec![0; 1 << 16];
        let (mut stream, _) = listener.accept().unwrap();
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            total += count;
        }
        total
    });
    let mut stream = pair.left.place.enter(|| TcpStream::connect(to).unwrap()).unwrap();
    let octets = vec![7; 32 << 20];
    stream.write_all(&octets).unwrap();
    drop(stream);
    assert_eq!(reading.join().unwrap(), octets.len());
    for name in ["TCPSACKReorder", "TCPTSReorder", "TCPRenoReorder"] {
        assert_eq!(tcp_counter(&pair.left.place, name), 0, "{name}");
    }
}

/// What has arrived at a socket: how many datagrams, and when the kernel took the newest from the tunnel.
#[derive(Default)]
struct Arrived {
    count: AtomicU64,
    newest: AtomicU64,
}

impl Arrived {
    /// Receives until `stop`.
    fn follow(&self, socket: &UdpSocket, stop: &AtomicBool) {
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        setsockopt(socket, sockopt::ReceiveTimestampns, &true).unwrap();
        let (mut octets, mut control) = ([0; 256], nix::cmsg_space!(TimeSpec));
        while !stop.load(Ordering::Relaxed) {
            let mut parts = [IoSliceMut::new(&mut octets)];
            let flags = MsgFlags::empty();
            let Ok(message) = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) else {
                continue;
            };
            for control in message.cmsgs().unwrap() {
                if let ControlMessageOwned::ScmTimestampns(at) = control {
                    let nanoseconds = Duration::from(at).as_nanos() as u64;
                    self.newest.fetch_max(nanoseconds, Ordering::Relaxed);
                }
            }
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A flood of one peer, who is removed again and again.
#[test]
fn nothing_of_a_peer_is_written_after_its_end_was_told() {
    let pair = Pair::new();
    let _left = pair.left.start_with(&pair.run, &[]);
    let config = DeviceConfig { workers: 2, ..DeviceConfig::new(pair.right.interface.parse().unwrap()) };
    let device = pair.right.place.enter(|| Device::start(config)).unwrap().unwrap();
    let secret = std::fs::read_to_string(&pair.right.key_file).unwrap().parse::<Secret>().unwrap();
    let psk = std::fs::read_to_string(pair.run.dir().join("psk")).unwrap().parse::<Secret>().unwrap();
    let private_key = Some(Some(secret));
    device.handle().configure(DeviceUpdate { private_key, ..DeviceUpdate::default() }).unwrap();
    pair.right.bring_up();
    pair.configure(&pair.left, &pair.right, None);
    pair.left.bring_up();
    let key = pair.left.public_key.parse().unwrap();
    let update = |peer| DeviceUpdate { peers: vec![peer], ..DeviceUpdate::default() };
    let added = || PeerUpdate {
        endpoint: Some(pair.left.endpoint(Outer::V4).parse().unwrap()),
        preshared_key: Some(Some(psk.clone())),
        persistent_keepalive: Some(1),
        allowed_ips: vec![AllowedIpUpdate::Add(format!("{}/32", pair.left.inner_v4()).parse().unwrap())],
        ..PeerUpdate::new(key)
    };
    let stop = AtomicBool::new(false);
    let flood = || {
        let socket = pair.left.place.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        socket.connect((pair.right.inner_v4(), 9)).unwrap();
        while !stop.load(Ordering::Relaxed) {
            // Refused while there is no session.
            let _ = socket.send(&[7; 200]);
        }
    };
    let arrived = Arrived::default();
    let cut = || {
        for _ in 0..CUTS {
            device.handle().configure(update(added())).unwrap();
            let before = arrived.count.load(Ordering::Relaxed);
            let grown = || arrived.count.load(Ordering::Relaxed) > before + 200;
            lab::wait::until("the flood", PATIENCE, grown).unwrap();
            device.handle().configure(update(PeerUpdate { remove: true, ..added() })).unwrap();
            let told = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
            thread::sleep(Duration::from_millis(30));
            let newest = arrived.newest.load(Ordering::Relaxed);
            assert_ne!(newest, 0, "the kernel gives times");
            assert!(newest < told, "a packet came {} ns after the end was told", newest - told);
        }
    };
    let sink = pair.right.place.enter(|| UdpSocket::bind((pair.right.inner_v4(), 9))).unwrap().unwrap();
    thread::scope(|scope| {
        scope.spawn(flood);
        scope.spawn(|| arrived.follow(&sink, &stop));
        let result = scope.spawn(cut).join();
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}
