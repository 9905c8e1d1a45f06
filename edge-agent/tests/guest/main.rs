//! The box's own network where it needs what not every kernel has. The tests run in a guest with Debian's kernel, which
//! the two below boot. Needs QEMU besides what the other tests of the network need.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of a test fail as the test does")]

#[path = "../network/agent.rs"]
mod agent;
#[path = "../network/ipv6.rs"]
mod ipv6;
mod pppoe;
mod shaping;
mod softwire;
mod vlan;

use lab::{Run, guest};
use std::time::Duration;

/// The guest's boot and all tests, on a slow machine.
const LIMIT: Duration = Duration::from_secs(200);

fn pass(names: &[&str]) {
    let run = Run::start().unwrap();
    let said = guest::rerun(&run, names, LIMIT).unwrap_or_else(|error| panic!("{error}"));
    assert!(said.contains(&format!("{} passed", names.len())), "{said}");
}

#[test]
fn the_network_with_a_kernel_that_has_everything() {
    pass(&[
        "shaping::a_line_is_shaped_to_what_it_carries",
        "softwire::ipv4_reaches_the_internet_through_the_providers_ipv6",
        "vlan::a_trunk_carries_a_network_for_each_tag",
    ]);
}

#[test]
fn pppoe_with_a_kernel_that_has_it() {
    pass(&["pppoe::a_session_comes_lasts_and_is_named_when_it_does_not"]);
}
