//! In the steady state the whole data plane takes nothing from the heap for a packet: both ends run in this process,
//! whose allocator counts. (That a lane takes one lock for a batch is shown by the test of the same name beside it.)
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};

use edge_tunnel::{Device, DeviceConfig, UapiSocket};

#[path = "process/pair.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]
mod pair;

use pair::{End, Outer, PATIENCE, Pair};

static TAKEN: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, and how often it was asked for memory.
struct Counting;

// SAFETY: everything is left to `System`, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
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

const WORKERS: usize = 2;
const BURST: u64 = 32;
const BURSTS: u64 = 600;

fn start(end: &End) -> Device {
    let config = DeviceConfig {
        uapi: Some(UapiSocket::Bind),
        workers: WORKERS,
        ..DeviceConfig::new(end.interface.parse().unwrap())
    };
    // The device belongs to the namespace of the thread that starts it.
    end.place.enter(|| Device::start(config)).unwrap().unwrap()
}

fn socket(end: &End) -> UdpSocket {
    let socket = end.place.enter(|| UdpSocket::bind((end.inner_v4(), 7))).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Bursts of datagrams of all sizes, each awaited; how often memory was taken meanwhile.
fn bursts(from: &UdpSocket, to: &UdpSocket, count: u64) -> u64 {
    let mut datagram = [0; 1392];
    let before = TAKEN.load(Ordering::Relaxed);
    for burst in 0..count {
        for number in 0..BURST {
            let length = 1 + (burst * BURST + number) % datagram.len() as u64;
            from.send(&datagram[..length as usize]).unwrap();
        }
        for _ in 0..BURST {
            to.recv(&mut datagram).unwrap();
        }
    }
    TAKEN.load(Ordering::Relaxed) - before
}

#[test]
fn no_allocation_for_a_packet() {
    let pair = Pair::new();
    let _devices = [&pair.left, &pair.right].map(start);
    pair.configure(&pair.right, &pair.left, None);
    pair.right.bring_up();
    pair.configure(&pair.left, &pair.right, Some(Outer::V4));
    pair.left.bring_up();
    pair.expect_traffic();

    let (left, right) = (socket(&pair.left), socket(&pair.right));
    left.connect((pair.right.inner_v4(), 7)).unwrap();
    right.connect((pair.left.inner_v4(), 7)).unwrap();
    for (from, to) in [(&left, &right), (&right, &left)] {
        bursts(from, to, 4);
        let taken = bursts(from, to, BURSTS);
        let packets = BURSTS * BURST;
        // Each of them was sealed and opened. Timers and the like, once a second, take some.
        assert!(taken < packets / 50, "{taken} allocations for {packets} packets");
    }
}
