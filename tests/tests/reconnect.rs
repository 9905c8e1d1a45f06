//! An edge that is killed with a thousand clients live, and comes back.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::{Namespace, Run, alone};
use std::net::SocketAddr;
use std::time::Duration;
use verona_contract::control::{Command, Reply};
use verona_tests::gate::{Control, Gate, PORT};
use verona_tests::owner::{self, Owner};
use verona_tests::swarm::{self, Swarm};

const CLIENTS: u32 = 1000;
/// What the product promises.
const BACK: Duration = Duration::from_secs(10);

/// An edge with the owner's policy, as an agent would fill it.
fn edge(place: &Namespace, owner: &Owner) -> (Gate, Control) {
    let gate = Gate::start(place, "gate");
    place.address(&gate.interface, &[&format!("{}/24", owner::INSIDE)]).unwrap();
    place.ip(&format!("link set {} up", gate.interface)).unwrap();
    place.ip(&format!("route replace {} dev {}", owner::CLIENTS, gate.interface)).unwrap();
    let mut control = gate.control();
    control.ask(Command::SetClock { trusted: true }).unwrap();
    let loaded = control.ask(Command::LoadPolicy(Box::new(owner.policy(CLIENTS)))).unwrap();
    assert!(matches!(loaded, Reply::PolicyLoaded(ref policy) if policy.rejected.is_empty()), "{loaded:?}");
    control.load_crl(&owner.empty_list()).unwrap();
    (gate, control)
}

#[test]
fn a_thousand_clients_are_back_ten_seconds_after_their_edge() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let (place, clients) = (run.namespace("edge").unwrap(), run.namespace("clients").unwrap());
    clients.connect("wire", &place, "wan").unwrap();
    clients.address("wire", &["192.0.2.1/24"]).unwrap();
    place.address("wan", &["192.0.2.2/24"]).unwrap();
    place.ip(&format!("route add {} via 192.0.2.1", swarm::ADDRESSES)).unwrap();
    swarm::own_addresses(&clients).unwrap();
    let owner = Owner::default();
    let (mut gate, control) = edge(&place, &owner);

    let mut swarm = Swarm::inside(&clients).unwrap();
    let at = owner.edge(SocketAddr::from(([192, 0, 2, 2], PORT)));
    let begin = std::time::Instant::now();
    for number in 0..CLIENTS {
        swarm.add(owner.client(number, 0), &at, begin + Duration::from_millis(number.into()));
    }
    let live = |swarm: &Swarm| swarm.live() == CLIENTS as usize;
    assert!(swarm.run(Duration::from_secs(30), live).unwrap(), "{} of {CLIENTS} got in", swarm.live());

    drop(control);
    gate.process.crash().unwrap();
    drop(gate);
    let (_gate, mut control) = edge(&place, &owner);
    swarm.forget_answers(Duration::from_secs(1));
    assert!(swarm.run(BACK, live).unwrap(), "{} of {CLIENTS} came back in {BACK:?}", swarm.live());
    assert_eq!(control.status().sessions, CLIENTS as usize);
}
