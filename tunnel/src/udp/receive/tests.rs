use std::net::{Ipv4Addr, UdpSocket};

use super::*;
use crate::offloads::{Offloads, Switches};
use crate::udp::Sockets;

/// A transport message to `receiver`, `number` in its last octets.
fn message(receiver: u32, number: u32, length: usize) -> Vec<u8> {
    let mut octets = vec![0; length];
    octets[0] = 4;
    octets[4..8].copy_from_slice(&receiver.to_le_bytes());
    octets[length - 4..].copy_from_slice(&number.to_le_bytes());
    octets
}

fn read_message(octets: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_le_bytes(octets[at..at + 4].try_into().unwrap());
    (number(4), number(octets.len() - 4))
}

/// The socket's buffer is far larger than the slots, so that nothing is lost before them.
fn open() -> (Sockets, UdpSocket) {
    let sockets = Sockets::open(1, 0, 0, &Offloads::new(Switches::default())).unwrap().remove(0);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect((Ipv4Addr::LOCALHOST, sockets.port())).unwrap();
    (sockets, sender)
}

#[test]
fn a_quiet_peer_is_served_in_the_turn_in_which_it_comes_through_a_flood() {
    let (sockets, sender) = open();
    let socket = sockets.by_family()[0].unwrap();
    let mut batch = DatagramBatch::new(1);
    let now = Instant::now();
    let (mut sent, mut came) = (0_u32, Vec::new());
    for turn in 0..20 {
        for _ in 0..400 {
            sender.send(&message(0x100, sent, 96)).unwrap();
            sent += 1;
        }
        sender.send(&message(0x200, turn, 96)).unwrap();
        assert!(batch.receive(socket, now).unwrap());
        let of_turn: Vec<_> = batch.iter().map(|datagram| read_message(datagram.octets)).collect();
        assert!(of_turn.contains(&(0x200, turn)), "turn {turn}: the flood kept it waiting");
        came.extend(of_turn);
    }
    while batch.has_more() {
        batch.receive(socket, now).unwrap();
        came.extend(batch.iter().map(|datagram| read_message(datagram.octets)));
    }
    let flood: Vec<u32> = came.iter().filter(|(flow, _)| *flow == 0x100).map(|(_, number)| *number).collect();
    assert!(flood.is_sorted_by(|a, b| a < b), "a flow keeps its order");
    assert_eq!(flood.len() as u64 + batch.dropped(), u64::from(sent), "each is delivered or counted");
    assert!(batch.dropped() > 0, "no overload was made");
    assert_eq!(came.len() - flood.len(), 20, "the quiet peer loses nothing");
}

#[test]
fn a_burst_that_fits_loses_nothing() {
    let (sockets, sender) = open();
    let socket = sockets.by_family()[0].unwrap();
    let mut batch = DatagramBatch::new(2);
    for round in 0..3 {
        for number in 0..200 {
            sender.send(&message(0x100 * (1 + number % 3), number, 1000)).unwrap();
        }
        let mut came = Vec::new();
        while batch.receive(socket, Instant::now()).unwrap() {
            came.extend(batch.iter().map(|datagram| read_message(datagram.octets).1));
        }
        came.sort_unstable();
        assert!(came.into_iter().eq(0..200), "round {round}");
    }
    assert_eq!(batch.dropped(), 0);
}
