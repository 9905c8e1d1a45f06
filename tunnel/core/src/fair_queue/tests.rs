#![expect(clippy::disallowed_methods, reason = "a test may begin at any time")]

use super::codel::{INTERVAL, TARGET};
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::Duration;

type Item = (u64, u32);

fn at(start: Instant, micros: u64) -> Instant {
    start + Duration::from_micros(micros)
}

fn pop(queue: &mut FairQueue<Item>, now: Instant) -> Option<Item> {
    queue.pop(now, |item| panic!("{item:?} dropped"))
}

#[test]
fn one_flow_is_first_in_first_out() {
    let now = Instant::now();
    let mut queue = FairQueue::new(64, 1);
    for number in 0..64 {
        assert_eq!(queue.push(now, 7, 60_000, (7, number)), None);
    }
    for number in 0..64 {
        assert_eq!(pop(&mut queue, now), Some((7, number)));
    }
    assert!(queue.is_empty() && pop(&mut queue, now).is_none());
}

#[test]
fn a_flood_delays_no_other_flow() {
    let now = Instant::now();
    let mut queue = FairQueue::new(256, 2);
    let mut lost = 0;
    for number in 0..10_000 {
        lost += usize::from(queue.push(now, 1, 300, (1, number)).is_some_and(|(flow, _)| flow == 1));
        if number % 40 == 0 {
            pop(&mut queue, now);
        }
    }
    assert_eq!(lost, 10_000 - 250 - 256, "only the flood loses");
    assert_eq!(queue.push(now, 2, 300, (2, 0)), Some((1, 9744)), "the oldest of the flood");
    assert_eq!(pop(&mut queue, now), Some((2, 0)), "who was quiet comes first");
    // Who keeps sending shares: half of the octets each.
    let mut served = [0_u32; 3];
    for number in 0..200 {
        queue.push(now, 1, 300, (1, number));
        queue.push(now, 2, 1200, (2, number));
        if let Some((flow, _)) = pop(&mut queue, now) {
            served[flow as usize] += if flow == 1 { 300 } else { 1200 };
        }
    }
    assert!(served[1].abs_diff(served[2]) <= 2 * QUANTUM as u32, "{served:?}");
}

#[test]
fn a_fresh_flow_again_and_again_starves_nobody() {
    let now = Instant::now();
    let mut queue = FairQueue::new(64, 3);
    for number in 0..40 {
        queue.push(now, 1, 4096, (1, number));
    }
    let mut old = 0;
    for number in 0..40 {
        queue.push(now, 2, 4096, (2, number));
        old += usize::from(pop(&mut queue, now).is_some_and(|(flow, _)| flow == 1));
    }
    assert!((15..=25).contains(&old), "{old} of 40 turns");
}

#[test]
fn a_standing_queue_is_thinned_out_and_a_burst_is_not() {
    let start = Instant::now();
    // Served at 1,000 a second; a burst of 50 that drains within 50 ms loses none.
    let mut queue = FairQueue::new(4096, 4);
    let mut dropped = 0;
    for number in 0..50 {
        queue.push(start, 1, 100, (1, number));
    }
    for number in 0..50 {
        queue.pop(at(start, number * 1000), |_| dropped += 1);
    }
    assert_eq!((dropped, queue.len()), (0, 0));
    // 1,500 a second come: the first is dropped after an interval, then ever more.
    let mut first = None;
    let mut now = start;
    for number in 0..3000 {
        now = at(start, number * 667);
        queue.push(now, 1, 100, (1, number as u32));
        if number % 3 != 0 {
            let before = dropped;
            queue.pop(now, |_| dropped += 1);
            first = first.or_else(|| (dropped > before).then(|| now - start));
        }
    }
    let first = first.unwrap();
    assert!(first >= INTERVAL + TARGET && first < INTERVAL * 2, "{first:?}");
    assert!((20..200).contains(&dropped), "{dropped}");
    // It ends when the queue does, and the next burst is safe again.
    while queue.pop(now, |_| dropped += 1).is_some() {}
    let before = dropped;
    let later = now + INTERVAL;
    for number in 0..50 {
        queue.push(later, 1, 100, (1, number));
    }
    for number in 0..50 {
        queue.pop(at(later, number * 1000), |_| dropped += 1);
    }
    assert_eq!(dropped, before);
}

proptest! {
    /// Against a model: what goes in comes out once, as popped, evicted, or dropped, each flow in its order; and
    /// nothing is refused while there is room.
    #[test]
    fn nothing_is_lost_doubled_or_overtaken(
        limit in 1u32..20,
        seed: u64,
        steps in prop::collection::vec((0u64..6, 1u32..9000, 0u64..20_000, prop::bool::ANY), 1..300),
    ) {
        let mut now = Instant::now();
        let mut queue = FairQueue::new(limit, seed);
        let mut came: HashMap<u64, u32> = HashMap::new();
        let mut inside = 0_usize;
        let mut number = 0;
        let mut see = |(flow, number): Item| {
            let before = came.insert(flow, number);
            assert!(before.is_none_or(|before| before < number), "flow {flow}: {number} after {before:?}");
        };
        for (flow, cost, micros, pushes) in steps {
            now += Duration::from_micros(micros);
            if pushes {
                number += 1;
                let full = inside == limit as usize;
                let evicted = queue.push(now, flow, cost, (flow, number));
                prop_assert_eq!(evicted.is_some(), full);
                inside += usize::from(!full);
                evicted.into_iter().for_each(&mut see);
            } else {
                let mut out = Vec::new();
                let popped = queue.pop(now, |item| out.push(item));
                prop_assert_eq!(popped.is_some(), inside > 0);
                inside -= out.len() + usize::from(popped.is_some());
                out.into_iter().chain(popped).for_each(&mut see);
            }
            prop_assert_eq!(queue.len(), inside);
        }
        while let Some(item) = queue.pop(now, |_| inside -= 1) {
            inside -= 1;
            let _ = item;
        }
        prop_assert_eq!(inside, 0);
    }
}
