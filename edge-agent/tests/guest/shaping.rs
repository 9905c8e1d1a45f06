//! CAKE: what is sent up a line is shaped to what the line carries, and a queue that someone else takes is put back.

use crate::agent::Agent;
use lab::Run;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn line(upload_kbit: Option<u32>) -> Value {
    let static_line = json!({ "static": { "address": "192.0.2.2/24", "gateway": "192.0.2.1" } });
    let mut wan = json!({ "name": "fiber", "port": "p0", "ipv4": static_line });
    if let Some(rate) = upload_kbit {
        wan["upload_kbit"] = rate.into();
    }
    json!({ "wan": [wan] })
}

#[test]
#[ignore = "runs in a guest"]
fn a_line_is_shaped_to_what_it_carries() {
    let run = Run::start().unwrap();
    let (edge, internet) = (run.namespace("edge").unwrap(), run.namespace("internet").unwrap());
    edge.connect("p0", &internet, "far").unwrap();
    internet.address("far", &["192.0.2.1/24"]).unwrap();
    let mut agent = Agent::start(&edge);
    assert_eq!(agent.order(1, line(Some(4000))), []);
    let shown = || edge.output("tc", &["qdisc", "show", "dev", "p0"]).unwrap();
    assert!(shown().contains("cake 7701: root") && shown().contains("bandwidth 4Mbit"), "{}", shown());
    assert!(shown().contains(" nat "), "hosts count as themselves: {}", shown());

    let listener = internet.enter(|| TcpListener::bind("192.0.2.1:9000").unwrap()).unwrap();
    let sink = std::thread::spawn(move || {
        let mut from = listener.accept().unwrap().0;
        let (mut octets, mut buffer, mut first) = (0_u64, vec![0; 65536], None);
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            first.get_or_insert_with(Instant::now);
            octets += length as u64;
        }
        octets as f64 / first.unwrap().elapsed().as_secs_f64() * 8e-6
    });
    let mut to = edge.enter(|| TcpStream::connect("192.0.2.1:9000").unwrap()).unwrap();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        to.write_all(&[7; 16384]).unwrap();
    }
    drop(to);
    let mbit = sink.join().unwrap();
    assert!((1.0..4.4).contains(&mbit), "{mbit} Mbit/s through a line of 4");

    // Someone takes it away: it is back. Another rate; none: the ordinary queue.
    edge.output("tc", &["qdisc", "del", "dev", "p0", "root"]).unwrap();
    lab::wait::until("the queue again", Duration::from_secs(30), || shown().contains("cake")).unwrap();
    assert_eq!(agent.order(2, line(Some(64))), []);
    assert!(shown().contains("bandwidth 64Kbit"), "{}", shown());
    assert_eq!(agent.order(3, line(None)), []);
    assert!(!shown().contains("cake"), "{}", shown());
}
