//! Random schedules of {introduce, initiate, replay, revoke, hold, enable, expire, clock step, restart, evict,
//! roam} against one edge, beside a reference model ([`model`]). What must hold is in [`invariant`].
//!
//! The ordinary run plays a share. All of them, in about a minute on two cores:
//! `cargo test -p edge-tunnel-core --features mock-clock --test simulation -- --ignored`. A failure prints the
//! seed and the steps; `VERONA_SEED=… VERONA_SCHEDULES=1` plays that schedule alone.

mod actions;
mod agent;
mod cast;
mod invariant;
mod model;
mod world;

use crate::dice::{Dice, seed};
use cast::Cast;
use std::sync::atomic::{AtomicU64, Ordering};
use world::{Verified, World};

/// Steps of one schedule, at least and at most.
const STEPS: (u64, u64) = (8, 16);

#[test]
fn schedules_of_good_and_evil_against_the_model() {
    explore(count().unwrap_or(3_000));
}

#[test]
#[ignore = "a minute on two cores; the test before this one plays a share"]
fn a_hundred_thousand_schedules() {
    explore(count().unwrap_or(100_000));
}

#[expect(clippy::disallowed_methods, reason = "the test's own knob")]
fn count() -> Option<u64> {
    std::env::var("VERONA_SCHEDULES").ok()?.parse().ok()
}

/// Plays schedules on all cores, and fails with the first that breaks a rule.
fn explore(count: u64) {
    let cast = Cast::new();
    let first = seed();
    let (next, delivered, admitted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut verified = Verified::new();
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|next| *next < count) {
            let packets = play(&cast, &mut verified, first.wrapping_add(seed));
            delivered.fetch_add(packets, Ordering::Relaxed);
            admitted.fetch_add(u64::from(packets > 1), Ordering::Relaxed);
        }
    };
    let panicked = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let ends: Vec<_> = threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        ends.into_iter().find_map(Result::err)
    });
    if let Some(reason) = panicked {
        std::panic::resume_unwind(reason);
    }
    let (delivered, admitted) = (delivered.into_inner(), admitted.into_inner());
    println!(
        "{count} schedules from seed {first}: {delivered} packets delivered, in {admitted} more than one"
    );
    // Where nobody ever gets in, nothing is shown.
    assert!(count < 100 || delivered > count, "{delivered} packets in {count} schedules");
}

/// Plays one schedule; the packets that were delivered.
fn play(cast: &Cast, verified: &mut Verified, seed: u64) -> u64 {
    // Neighbouring seeds must not roll each other's numbers.
    let mut dice = Dice(Dice(seed).roll());
    let mut world = World::new(cast, verified);
    let mut steps = Vec::new();
    let length = STEPS.0 + dice.below(STEPS.1 - STEPS.0);
    let stars = [(); 2].map(|()| dice.below(cast.clients.len() as u64) as usize);
    for _ in 0..length {
        let action = actions::choose(cast, stars, &mut dice);
        steps.push(action);
        if let Err(broken) = world.play(action, &mut dice) {
            fail(seed, &steps, &broken);
        }
    }
    // Only those who can be in by the wire alone.
    let client = dice.below(6) as usize;
    if let Err(broken) = world.check_liveness(client) {
        fail(seed, &steps, &format!("after the faults, client {client}: {broken}"));
    }
    world.delivered
}

fn fail(seed: u64, steps: &[actions::Action], broken: &str) -> ! {
    let steps: Vec<_> = steps.iter().map(|step| format!("  {step:?}")).collect();
    panic!("{broken}\nVERONA_SEED={seed} VERONA_SCHEDULES=1 plays:\n{}", steps.join("\n"))
}
