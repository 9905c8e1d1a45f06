//! What live sessions cost while nothing happens: a second of their timers.

use crate::edge::Edge;
use divan::Bencher;
use divan::counter::ItemsCount;
use edge_tunnel_core::Now;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};
use verona_tests::forgery::Initiation;
use verona_tests::swarm::Client;

/// Sessions that are kept.
const SESSIONS: usize = 1000;

#[divan::bench(sample_count = 20, sample_size = 1)]
fn a_second_of_idle_sessions(bencher: Bencher<'_, '_>) {
    let mut edge = Edge::new();
    let address = edge.owner.edge(SocketAddr::from(([192, 0, 2, 1], 51820)));
    for number in 0..SESSIONS as u32 {
        let identity = edge.owner.client(number, 0);
        let initiation = Initiation { sender: 1, ..Initiation::honest(address.key, &identity.secret) };
        let now = Now { mono: Instant::now(), wall: SystemTime::now() };
        let introduction = Client::introduction(identity, &address, now);
        edge.rest(Duration::from_millis(5));
        edge.receive(&introduction);
        edge.receive(&initiation.message());
    }
    assert_eq!(edge.engine.population().0, SESSIONS);
    bencher.counter(ItemsCount::new(SESSIONS)).bench_local(|| {
        edge.rest(Duration::from_secs(1));
        while edge.engine.poll_timeout().is_some_and(|(at, _)| at <= edge.now().mono) {
            let now = edge.now();
            edge.engine.handle_timeout(now, &mut edge.out);
        }
    });
}
