//! Sealing and opening by the protocol engine, at the sizes that matter.

use boringtun::noise::TunnResult;
use divan::Bencher;
use divan::counter::BytesCount;
use verona_tests::session;

const SIZES: [usize; 3] = [64, 512, 1420];

fn packet(len: usize) -> Vec<u8> {
    let mut packet = vec![0; len];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    packet
}

#[divan::bench(args = SIZES)]
fn seal(bencher: Bencher<'_, '_>, len: usize) {
    let ((mut one, _), packet) = (session::pair(), packet(len));
    let mut out = vec![0; 2048];
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| assert!(matches!(one.encapsulate(&packet, &mut out), TunnResult::WriteToNetwork(_))));
}

#[divan::bench(args = SIZES)]
fn open(bencher: Bencher<'_, '_>, len: usize) {
    let ((mut one, mut other), packet) = (session::pair(), packet(len));
    let mut out = vec![0; 2048];
    let datagram = || match one.encapsulate(&packet, &mut vec![0; 2048]) {
        TunnResult::WriteToNetwork(datagram) => datagram.to_vec(),
        _ => panic!("not sealed"),
    };
    bencher.counter(BytesCount::new(len)).with_inputs(datagram).bench_local_values(|datagram| {
        assert!(matches!(other.decapsulate(None, &datagram, &mut out), TunnResult::WriteToTunnelV4(..)));
    });
}
