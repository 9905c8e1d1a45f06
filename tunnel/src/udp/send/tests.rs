use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};

use edge_tunnel_core::Datagram;
use edge_tunnel_core::ecn::Ecn;

use super::*;
use crate::offloads::Switches;
use crate::sys;
use crate::udp::{DatagramBatch, Sockets};

fn offloads() -> Arc<Offloads> {
    Arc::new(Offloads::new(Switches::default()))
}

fn queue() -> SendQueue {
    SendQueue::new(offloads())
}

fn open() -> Sockets {
    Sockets::open(1, 0, 0, &offloads()).unwrap().remove(0)
}

/// From this address, whatever the interface.
fn leave_from(address: &str) -> Carriage {
    let from = Some(Local { address: address.parse().unwrap(), interface: 0 });
    Carriage { from, ..Carriage::default() }
}

fn v4(sockets: &Sockets) -> BorrowedFd<'_> {
    sockets.by_family()[0].unwrap()
}

#[test]
fn a_batch_goes_out_and_comes_in_despite_a_datagram_that_is_refused() {
    let receiver = open();
    let sender = open();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, receiver.port()));
    let mut queue = queue();
    for length in [0_usize, 1, 1452, 65_507] {
        assert!(queue.has_room(length));
        queue.space(length).fill(length as u8);
        queue.push(to, Carriage::default(), length);
        // Over the largest UDP payload: EMSGSIZE.
        queue.push(to, Carriage::default(), 65_508);
    }
    let out = v4(&sender);
    assert_eq!(queue.flush(out, |_| {}), Flushed { failed: 4, blocked: false });
    assert!(queue.is_empty());
    let mut batch = DatagramBatch::new(0);
    let into = v4(&receiver);
    assert!(batch.receive(into, Instant::now()).unwrap());
    let lengths: Vec<usize> = batch.iter().map(|datagram| datagram.octets.len()).collect();
    assert_eq!(lengths, [0, 1, 1452, 65_507]);
    assert!(batch.iter().all(|Datagram { from, octets, .. }| {
        from == (Ipv4Addr::LOCALHOST, sender.port()).into() && octets.iter().all(|&o| o == octets.len() as u8)
    }));
    assert!(!batch.receive(into, Instant::now()).unwrap());
}

#[test]
fn the_local_address_is_seen_chosen_and_given_up_when_unusable() {
    let (receiver, sender) = (open(), open());
    let out = v4(&sender);
    let into = v4(&receiver);
    let to: SocketAddr = ([127, 0, 0, 2], receiver.port()).into();
    // The whole of 127/8 is local; 192.0.2.1 is not.
    let mut queue = queue();
    for from in ["127.0.0.3", "192.0.2.1", "127.0.0.4"] {
        queue.space(1)[0] = 7;
        queue.push(to, leave_from(from), 1);
    }
    let mut unusable = Vec::new();
    assert_eq!(queue.flush(out, |to| unusable.push(to)), Flushed::default());
    assert_eq!(unusable, [to]);
    let mut batch = DatagramBatch::new(0);
    assert!(batch.receive(into, Instant::now()).unwrap());
    let arrivals: Vec<_> =
        batch.arrivals(|kind| kind == 7).map(|(from, local)| (from, local.address)).collect();
    let expected = ["127.0.0.3", "127.0.0.1", "127.0.0.4"]
        .map(|from| (SocketAddr::new(from.parse().unwrap(), sender.port()), to.ip()));
    assert_eq!(arrivals, expected);
    assert_eq!(batch.arrivals(|kind| kind == 8).count(), 0);
}

#[test]
fn marks_leave_and_arrive_and_part_runs() {
    for (address, family) in [("127.0.0.1", 0), ("::1", 1)] {
        let (receiver, sender) = (open(), open());
        let to = SocketAddr::new(address.parse().unwrap(), receiver.port());
        let mut queue = queue();
        let marks = [0, 0, 2, 2, 0xb9, 3, 3, 3, 0];
        for tos in marks {
            queue.space(100)[0] = TRANSPORT;
            let marks = Marks { tos, dont_fragment: tos == 3 };
            queue.push(to, Carriage { marks, ..Carriage::default() }, 100);
        }
        assert_eq!(queue.waiting.len(), 5, "one run for each mark");
        let flushed = queue.flush(sender.by_family()[family].unwrap(), |_| {});
        assert_eq!(flushed, Flushed::default());
        let mut batch = DatagramBatch::new(0);
        assert!(batch.receive(receiver.by_family()[family].unwrap(), Instant::now()).unwrap());
        let arrived: Vec<Ecn> = batch.iter().map(|datagram| datagram.ecn).collect();
        assert_eq!(arrived, marks.map(Ecn::of_octet), "{address}");
    }
}

/// Runs `work` in a network namespace of its own whose loopback interface carries 1,300 octets a packet.
fn in_narrow_namespace(work: impl FnOnce() + Send + 'static) {
    let enter = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let any: std::os::fd::OwnedFd = UdpSocket::bind("0.0.0.0:0").unwrap().into();
        sys::tun::set_mtu(&any, "lo", 1300).unwrap();
        sys::tun::set_up(&any, "lo").unwrap();
        work();
    };
    thread::spawn(enter).join().unwrap();
}

#[test]
fn what_is_too_large_is_dropped_and_told_or_goes_in_fragments() {
    in_narrow_namespace(|| {
        for (family, address) in [(0, "127.0.0.1"), (1, "::1")] {
            let (receiver, sender) = (open(), open());
            let socket = sender.by_family()[family].unwrap();
            let to = SocketAddr::new(address.parse().unwrap(), receiver.port());
            let mut queue = queue();
            // In the order of sending: each change of mind is one of the socket's state.
            for dont_fragment in [false, true, false] {
                let marks = Marks { tos: 0, dont_fragment };
                queue.space(1400)[..4].copy_from_slice(&[TRANSPORT, 0, 0, u8::from(dont_fragment)]);
                queue.push(to, Carriage { marks, ..Carriage::default() }, 1400);
            }
            assert_eq!(queue.flush(socket, |_| {}), Flushed { failed: 1, blocked: false }, "{address}");
            let mut batch = DatagramBatch::new(0);
            assert!(batch.receive(receiver.by_family()[family].unwrap(), Instant::now()).unwrap());
            let arrived: Vec<_> = batch.iter().map(|one| (one.octets.len(), one.octets[3])).collect();
            assert_eq!(arrived, [(1400, 0); 2], "{address}");
            let mut told = Vec::new();
            crate::udp::ErrorBatch::new().drain(socket, |report| {
                told.push((report.to.ip(), report.witness, report.mtu));
            });
            told.dedup();
            assert_eq!(told, [(to.ip(), sys::ancillary::Witness::Host, 1300)]);
        }
    });
}

#[test]
fn small_datagrams_leave_the_socket_as_it_is() {
    let (receiver, sender) = (open(), open());
    let to = (Ipv4Addr::LOCALHOST, receiver.port()).into();
    let mut queue = queue();
    // Length, whether fragments are forbidden, whether the socket forbids them afterwards.
    for (length, dont_fragment, forbids) in [
        (148, false, false),
        (1232, true, false),
        (1233, true, true),
        (508, false, true),
        (32, true, true),
        (509, false, false),
    ] {
        queue.space(length).fill(TRANSPORT);
        let marks = Marks { tos: 0, dont_fragment };
        queue.push(to, Carriage { marks, ..Carriage::default() }, length);
        assert_eq!(queue.flush(v4(&sender), |_| {}), Flushed::default());
        assert_eq!(queue.forbids_fragments.load(Relaxed), forbids, "after {length}");
    }
    let mut batch = DatagramBatch::new(0);
    assert!(batch.receive(v4(&receiver), Instant::now()).unwrap());
    let lengths: Vec<usize> = batch.iter().map(|one| one.octets.len()).collect();
    assert_eq!(lengths, [148, 1232, 1233, 508, 32, 509]);
}

#[test]
fn an_error_of_another_datagram_costs_none() {
    let (receiver, sender) = (open(), open());
    let socket = v4(&sender);
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, receiver.port()));
    let mut queue = queue();
    let mut batch = DatagramBatch::new(0);
    for _ in 0..3 {
        // Nobody is there any more: "port unreachable" comes back, and is told with the next sending.
        for to in [closed, to] {
            queue.space(10)[0] = TRANSPORT;
            queue.push(to, leave_from("127.0.0.1"), 10);
            assert_eq!(queue.flush(socket, |to| panic!("{to} lost its source")), Flushed::default());
        }
        assert!(batch.receive(v4(&receiver), Instant::now()).unwrap());
        assert_eq!(batch.iter().count(), 1);
    }
    crate::udp::ErrorBatch::new().drain(socket, |report| panic!("{report:?}"));
}

#[test]
fn a_flood_of_errors_about_others_costs_neither_datagrams_nor_sources() {
    const MESSAGES: usize = 20_000;
    let (receiver, sender) = (open(), open());
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, receiver.port()));
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let flooding = AtomicBool::new(true);
    let mut arrived = 0;
    let socket = v4(&sender);
    thread::scope(|scope| {
        let flood = || {
            let flooder = UdpSocket::from(socket.try_clone_to_owned().unwrap());
            // Ends also when the test fails.
            let begin = Instant::now();
            while flooding.load(Relaxed) && begin.elapsed().as_secs() < 20 {
                let _ = flooder.send_to(&[9], closed);
            }
        };
        (0..2).for_each(|_| drop(scope.spawn(flood)));
        let (mut queue, mut batch) = (queue(), DatagramBatch::new(0));
        for _ in 0..MESSAGES {
            queue.space(10)[0] = TRANSPORT;
            queue.push(to, leave_from("127.0.0.1"), 10);
            assert_eq!(queue.flush(socket, |to| panic!("{to} lost its source")), Flushed::default());
            batch.receive(v4(&receiver), Instant::now()).unwrap();
            arrived += batch.iter().count();
        }
        flooding.store(false, Relaxed);
    });
    assert_eq!(arrived, MESSAGES);
}

#[test]
fn runs_of_one_length_arrive_as_the_datagrams_they_are() {
    let sender = open();
    let joining = open();
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    plain.set_nonblocking(true).unwrap();
    // Runs end with a shorter datagram and after 64. All fits the plain socket's default buffer.
    let lengths: Vec<usize> = [&[1000; 5][..], &[10], &[1000], &[0], &[600; 40], &[48; 70]].concat();
    let octets = |number: usize, length: usize| -> Vec<u8> {
        (0..length).map(|at| if at == 0 { TRANSPORT } else { (number * 7 + at) as u8 }).collect()
    };
    for port in [joining.port(), plain.local_addr().unwrap().port()] {
        let mut queue = queue();
        for (number, &length) in lengths.iter().enumerate() {
            assert!(queue.has_room(length));
            queue.space(length).copy_from_slice(&octets(number, length));
            queue.push((Ipv4Addr::LOCALHOST, port).into(), Carriage::default(), length);
        }
        assert!(queue.waiting.len() < 12, "{} messages", queue.waiting.len());
        let out = v4(&sender);
        let flushed = queue.flush(out, |_| {});
        assert_eq!(flushed, Flushed { failed: 0, blocked: false });
        assert_eq!(queue.datagrams, 0);
    }
    let expected: Vec<Vec<u8>> =
        lengths.iter().enumerate().map(|(number, &length)| octets(number, length)).collect();
    let mut batch = DatagramBatch::new(0);
    let mut joined = Vec::new();
    let into = v4(&joining);
    while batch.receive(into, Instant::now()).unwrap() {
        joined.extend(batch.iter().map(|datagram| datagram.octets.to_vec()));
    }
    let arrived: Vec<usize> = joined.iter().map(Vec::len).collect();
    assert_eq!(arrived, lengths);
    assert!(joined == expected, "octets differ");
    let mut buffer = [0; 4096];
    let single: Vec<Vec<u8>> =
        std::iter::from_fn(|| plain.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect();
    assert!(single == expected, "octets differ");
}

#[test]
fn a_run_that_is_taken_apart_is_still_whole() {
    let mut queue = queue();
    let to = (Ipv4Addr::LOCALHOST, 1).into();
    let push = |queue: &mut SendQueue, first: u8, length: usize| {
        queue.space(length)[0] = first;
        queue.push(to, Carriage::default(), length);
    };
    for length in [100, 100, 40] {
        push(&mut queue, TRANSPORT, length);
    }
    assert_eq!(queue.waiting.len(), 1);
    queue.scatter_first();
    let places: Vec<_> = queue.waiting.iter().map(|one| (one.start, one.length, one.datagrams())).collect();
    assert_eq!(places, [(0, 100, 1), (100, 100, 1), (200, 40, 1)]);
    // What comes later does not join them again: it would be refused again.
    push(&mut queue, TRANSPORT, 40);
    assert_eq!(queue.waiting.len(), 4);
    // An introduction and the initiation after it: no run.
    push(&mut queue, 0x10, 640);
    push(&mut queue, 1, 148);
    assert_eq!(queue.waiting.len(), 6);
    assert_eq!(queue.clear(), 6);
}

#[test]
fn a_full_queue_says_so() {
    let mut queue = queue();
    assert!(!queue.has_room(SendQueue::CAPACITY + 1));
    for _ in 0..SendQueue::LIMIT {
        assert!(queue.has_room(1));
        queue.push((Ipv4Addr::LOCALHOST, 1).into(), Carriage::default(), 1);
    }
    assert!(!queue.has_room(1));
    assert_eq!(queue.clear(), SendQueue::LIMIT as u64);
    assert!(queue.has_room(1));
}

/// Sends a run of `count` datagrams of `length` octets and checks that each one arrives.
fn exchange(queue: &mut SendQueue, sender: &Sockets, receiver: &Sockets, length: usize) {
    let sent: Vec<Vec<u8>> = (0..4_u8)
        .map(|number| (0..length).map(|at| if at == 0 { TRANSPORT } else { number }).collect())
        .collect();
    for datagram in &sent {
        queue.space(length).copy_from_slice(datagram);
        queue.push((Ipv4Addr::LOCALHOST, receiver.port()).into(), Carriage::default(), length);
    }
    assert_eq!(queue.flush(v4(sender), |_| {}), Flushed::default());
    let mut came = Vec::new();
    let mut batch = DatagramBatch::new(0);
    while batch.receive(v4(receiver), Instant::now()).unwrap() {
        came.extend(batch.iter().map(|datagram| datagram.octets.to_vec()));
    }
    assert!(came == sent, "{} datagrams of {length} octets came", came.len());
}

/// The kernel segments nothing on a socket without checksums: EINVAL for each run, as on kernels that
/// know the option and cannot do it.
#[test]
fn a_kernel_that_takes_no_run_gets_single_datagrams_from_then_on() {
    let offloads = offloads();
    let (sender, receiver) = (open(), open());
    let mut queue = SendQueue::new(Arc::clone(&offloads));
    mmsg::without_checksums(v4(&sender)).unwrap();
    for refusals in [1, 1] {
        exchange(&mut queue, &sender, &receiver, 1000);
        assert_eq!(offloads.refusals(), refusals);
        assert_eq!(offloads.reason(Offload::UdpGso).map(|(cause, _)| cause), Some(OffCause::Refused));
    }
}

#[test]
fn a_path_too_narrow_for_a_run_is_spared_runs_and_no_other_path_is() {
    let work = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let any: std::os::fd::OwnedFd = UdpSocket::bind("0.0.0.0:0").unwrap().into();
        sys::tun::set_mtu(&any, "lo", 600).unwrap();
        sys::tun::set_up(&any, "lo").unwrap();
        let offloads = offloads();
        let (sender, receiver, other) = (open(), open(), open());
        let mut queue = SendQueue::new(Arc::clone(&offloads));
        for (receiver, length, refusals, unjoined) in [
            // The first one shows that the kernel can.
            (&receiver, 500, 0, false),
            (&receiver, 1000, 1, true),
            (&receiver, 1000, 1, true),
            (&other, 500, 1, false),
        ] {
            exchange(&mut queue, &sender, receiver, length);
            assert_eq!(offloads.refusals(), refusals);
            let to = (Ipv4Addr::LOCALHOST, receiver.port()).into();
            assert_eq!(queue.unjoined.count(to), unjoined);
        }
        assert!(offloads.is_on(Offload::UdpGso));
    };
    thread::spawn(work).join().unwrap();
}

#[test]
fn a_source_that_is_gone_is_not_blamed_on_the_run() {
    let offloads = offloads();
    let (sender, receiver) = (open(), open());
    let mut queue = SendQueue::new(Arc::clone(&offloads));
    let to = (Ipv4Addr::LOCALHOST, receiver.port()).into();
    for _ in 0..3 {
        queue.space(100).fill(TRANSPORT);
        queue.push(to, leave_from("192.0.2.1"), 100);
    }
    let mut unusable = Vec::new();
    assert_eq!(queue.flush(v4(&sender), |to| unusable.push(to)), Flushed::default());
    assert_eq!(unusable, [to], "told once for the whole run");
    assert!(offloads.is_on(Offload::UdpGso) && !queue.unjoined.count(to));
}

#[test]
fn a_run_that_no_route_leads_to_is_lost_in_one_call() {
    let work = || {
        // Not even loopback is up here.
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let offloads = offloads();
        let mut queue = SendQueue::new(Arc::clone(&offloads));
        for _ in 0..5 {
            queue.space(100).fill(TRANSPORT);
            queue.push((Ipv4Addr::LOCALHOST, 1).into(), Carriage::default(), 100);
        }
        assert_eq!(queue.flush(v4(&open()), |_| {}), Flushed { failed: 5, blocked: false });
        assert_eq!((queue.datagrams, offloads.refusals()), (0, 0));
    };
    thread::spawn(work).join().unwrap();
}

#[test]
fn a_spared_path_is_tried_again() {
    let mut unjoined = Unjoined::default();
    let to: SocketAddr = (Ipv4Addr::LOCALHOST, 1).into();
    unjoined.add(to);
    assert_eq!((0..10_000).take_while(|_| unjoined.count(to)).count(), usize::from(Unjoined::DATAGRAMS));
    assert!(!unjoined.count(to));
    // The ninth takes the place of the first.
    (0..9).for_each(|port| unjoined.add((Ipv4Addr::LOCALHOST, port).into()));
    assert!(!unjoined.count((Ipv4Addr::LOCALHOST, 0).into()) && unjoined.count(to));
}
