//! A short run of the faults that `cargo lab chaos` lets loose for as long as one likes.

#![allow(clippy::unwrap_used, reason = "a test's own way to fail")]

use lab::chaos::{Play, play};
use lab::{Run, alone};
use std::time::Duration;

#[test]
fn two_episodes_of_faults_leave_nothing_behind() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let outcome =
        play(&run, Play { seed: 4, length: Duration::from_secs(1) }, |line| println!("{line}")).unwrap();
    assert!(outcome.faults > 0 && outcome.records > 0, "{outcome:?}");
}
