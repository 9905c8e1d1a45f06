//! In the steady state a lane takes nothing from the heap, and one lock for a batch.

mod harness;

use edge_tunnel_core::{DeviceUpdate, Engine, Lane, Output, Upcall, Upcalls};
use harness::{Clock, Node, packet, peer, settle};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;

thread_local! {
    /// How often this thread has asked for memory.
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts. Others than the test's thread are the test harness's.
struct Counting;

// SAFETY: everything is left to `System`, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.set(TAKEN.get() + 1);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const BATCH: usize = 64;
const BATCHES: u64 = 200;
const ROOM: usize = 2048;

/// Output that is allocated once, as a worker's is.
struct Arena {
    to: SocketAddr,
    octets: Box<[u8]>,
    lengths: Vec<usize>,
}

impl Arena {
    fn new() -> Self {
        let octets = vec![0; BATCH * ROOM].into_boxed_slice();
        Self { to: ([0, 0, 0, 0], 0).into(), octets, lengths: Vec::with_capacity(BATCH) }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.octets.chunks(ROOM).zip(&self.lengths).map(|(octets, length)| &octets[..*length])
    }

    fn next(&mut self) -> &mut [u8] {
        &mut self.octets[self.lengths.len() * ROOM..][..ROOM]
    }
}

impl Output for Arena {
    fn datagram_buffer(&mut self, to: SocketAddr, _len: usize) -> &mut [u8] {
        self.to = to;
        self.next()
    }

    fn commit_datagram(&mut self, len: usize) {
        self.lengths.push(len);
    }

    fn packet_buffer(&mut self, _len: usize) -> &mut [u8] {
        self.next()
    }

    fn commit_packet(&mut self, len: usize) {
        self.lengths.push(len);
    }
}

/// What would go to the engine. In the steady state that is nothing.
#[derive(Default)]
struct Count(usize);

impl Upcalls for Count {
    fn push(&mut self, _upcall: Upcall<&[u8]>) -> bool {
        self.0 += 1;
        true
    }
}

/// Two ends with a session, whose lines are spread over `shards` shards.
fn pair(clock: &Clock, shards: usize) -> [Node; 2] {
    let mut nodes = [(1, "192.0.2.1:1"), (2, "192.0.2.2:2")].map(|(seed, address)| {
        let engine = Engine::with_shards(shards, [seed; 32], clock.now());
        let mut node = Node { engine, ..Node::new(seed, address, clock) };
        let private_key = Some(Some(node.secret.clone()));
        node.configure(clock, DeviceUpdate { private_key, ..DeviceUpdate::default() });
        node
    });
    let [one, other] = &mut nodes;
    one.update_peer(clock, peer(other.key, Some(other.address), &["10.0.0.2/32"]));
    other.update_peer(clock, peer(one.key, None, &["10.0.0.1/32"]));
    one.send(clock, &packet("10.0.0.1", "10.0.0.2", b"hello"));
    settle(clock, one, other);
    assert_eq!(other.take_packets().len(), 1);
    nodes
}

/// One batch out of one end and into the other; how many packets arrived.
fn batch(
    clock: &Clock,
    (from, to): (&mut Lane, &mut Lane),
    wire: &mut Arena,
    inside: &mut Arena,
    packets: &[Vec<u8>],
) -> usize {
    let mut upcalls = Count::default();
    wire.lengths.clear();
    inside.lengths.clear();
    from.handle_packets(clock.now(), wire, &mut upcalls, |take| {
        packets.iter().for_each(|packet| take(packet));
    });
    let source: SocketAddr = ([192, 0, 2, 1], 1).into();
    to.handle_datagrams(clock.now(), wire.iter().map(|datagram| (source, datagram)), inside, &mut upcalls);
    assert_eq!(upcalls.0, 0);
    inside.lengths.len()
}

#[test]
fn no_allocation_for_a_packet_and_one_lock_for_a_batch() {
    let clock = Clock::new();
    let nodes = pair(&clock, 2);
    let [mut from, mut to] = nodes.each_ref().map(|node| node.engine.lane());
    let (mut wire, mut inside) = (Arena::new(), Arena::new());
    // All sizes, also those that are no multiple of 16.
    let packets: Vec<_> =
        (0..BATCH).map(|number| packet("10.0.0.1", "10.0.0.2", &vec![7; number * 21])).collect();
    let mut run = || batch(&clock, (&mut from, &mut to), &mut wire, &mut inside, &packets);
    // The first may bring the lanes up to date.
    assert_eq!(run(), BATCH);
    let before = TAKEN.get();
    let mut arrived = 0;
    for _ in 0..BATCHES {
        arrived += run() as u64;
    }
    let taken = TAKEN.get() - before;
    assert_eq!(arrived, BATCHES * BATCH as u64);
    assert_eq!(taken, 0, "allocations for {arrived} packets");
    assert_eq!([from.locks(), to.locks()], [BATCHES + 1; 2]);
    // The counter counts.
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert_eq!(TAKEN.get() - before, 1);
}
