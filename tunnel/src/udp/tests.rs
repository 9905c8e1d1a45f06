use super::*;
use std::net::UdpSocket;

use crate::offloads::Switches;

fn open(port: u16) -> Result<Sockets, BindError> {
    Sockets::open(1, port, 0, &Offloads::new(Switches::default())).map(|mut pairs| pairs.remove(0))
}

#[test]
fn both_families_share_a_random_port() {
    let sockets = open(0).unwrap();
    assert_ne!(sockets.port(), 0);
    for socket in [&sockets.v4, &sockets.v6].into_iter().flatten() {
        assert_eq!(local_port(socket).unwrap(), sockets.port());
    }
}

#[test]
fn a_port_in_use_is_eaddrinuse_in_either_family() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let taken = UdpSocket::bind(address).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(open(port).unwrap_err().errno(), libc::EADDRINUSE, "{address}");
    }
}

#[test]
fn a_transport_message_goes_to_the_socket_of_its_shard() {
    const COUNT: usize = 3;
    let group = Sockets::open(COUNT, 0, 0, &Offloads::new(Switches::default())).unwrap();
    let port = group[0].port();
    for address in ["127.0.0.1", "::1"] {
        let family = usize::from(address == "::1");
        let sender = UdpSocket::bind((address, 0)).unwrap();
        for octet in [0, 1, 2, 3, 6, 7, 100, 254, 255_u8] {
            // The low octet of a receiver counts sessions, the next one's lowest bit the peer's two transports.
            let message = [4, 0, 0, 0, 0xff, octet, 0xff, 0xff, 0, 0];
            sender.send_to(&message, (address, port)).unwrap();
            let expected = usize::from(octet >> 1) % COUNT;
            for (number, sockets) in group.iter().enumerate() {
                let socket = [&sockets.v4, &sockets.v6][family].as_ref().unwrap();
                let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
                let came = socket.recv(&mut buffer).is_ok();
                assert_eq!(came, number == expected, "octet {octet} at socket {number}");
            }
        }
        // Whatever else comes, and however short, reaches one of them.
        for message in [&[1; 148][..], &[4], &[4, 0, 0, 0, 1], &[]] {
            sender.send_to(message, (address, port)).unwrap();
            let mut buffer = [std::mem::MaybeUninit::uninit(); 256];
            let sockets = group.iter().map(|sockets| [&sockets.v4, &sockets.v6][family].as_ref().unwrap());
            let came = sockets.filter(|socket| socket.recv(&mut buffer).is_ok()).count();
            assert_eq!(came, 1, "{message:?}");
        }
    }
}
