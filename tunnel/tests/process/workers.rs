//! Several workers: the same packets, in the same order.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use lab::Namespace;

use crate::pair::{Outer, Pair};

const WORKERS: [&str; 2] = ["--workers", "2"];
const FLOWS: u16 = 12;
const PACKETS: u64 = 3000;

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
