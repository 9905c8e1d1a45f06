use super::*;
use std::net::UdpSocket;

use crate::offloads::Switches;

fn open(port: u16) -> Result<Sockets, BindError> {
    Sockets::open(port, 0, &Offloads::new(Switches::default()))
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
