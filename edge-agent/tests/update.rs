//! Firmware updates on a disk image, from a repository made by `verona-image` and served by busybox: what the box does
//! with good ones and with each bad one. After every step the old or the new system starts, never neither.
//!
//! Needs no namespaces: the web server is on the loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

#[path = "update/bench.rs"]
mod bench;
#[path = "update/cut.rs"]
mod cut;
#[path = "update/trust.rs"]
mod trust;

use bench::{Bench, Build, V1, V2, V3};
use edge_agent::update::Pass;
use edge_agent_core::update::Slot;
use edge_agent_core::update::trial::Health;
use std::sync::atomic::Ordering;
use verona_contract::api::UpdateState::{Confirmed, Installed, Refused, WentBack};
use verona_contract::config::{Day, Window};

#[tokio::test]
async fn two_good_updates_in_a_row() {
    let bench = Bench::new();
    let build = bench.publish(V2);
    let agent = bench.agent(Slot::A, V1);
    assert_eq!(agent.begin().await.unwrap(), Pass::Idle);
    assert_eq!(agent.pass().await.unwrap(), Pass::Idle, "nothing is asked for");
    bench.want(V2);
    assert_eq!(agent.pass().await.unwrap(), Pass::Restarting);
    // Foreign tools find what they should.
    let printed = bench.printed(Slot::B);
    for line in
        ["revision:         2", "kernel:           L:BOOT1:linux.efi", "ustate:           1 (INSTALLED)"]
    {
        assert!(printed.contains(line), "{printed}");
    }
    assert!(
        printed.contains("watchdog timeout: 90 seconds") && printed.contains("in_progress:      no"),
        "{printed}"
    );
    assert!(bench.boot_file(Slot::B, "linux.efi") == build.kernel && bench.root_is(Slot::B, &build.root));
    bench.check_boot(Slot::B);

    assert_eq!(bench.power_on(), Slot::B);
    let agent = bench.agent(Slot::B, V2);
    assert_eq!(agent.begin().await.unwrap(), Pass::Idle);
    assert!(bench.printed(Slot::B).contains("ustate:           0 (OK)"));
    assert_eq!(agent.pass().await.unwrap(), Pass::Idle, "it runs");
    assert_eq!(bench.power_on(), Slot::B, "for good");

    let build = bench.publish(V3);
    bench.want(V3);
    assert_eq!(agent.pass().await.unwrap(), Pass::Restarting);
    assert!(bench.boot_file(Slot::A, "linux.efi") == build.kernel && bench.root_is(Slot::A, &build.root));
    assert_eq!(bench.power_on(), Slot::A);
    assert_eq!(bench.agent(Slot::A, V3).begin().await.unwrap(), Pass::Idle);
    assert_eq!(bench.power_on(), Slot::A);
    for slot in Slot::BOTH {
        bench.check_boot(slot);
    }
    assert_eq!(bench.host.reported(), [(V2, Installed), (V2, Confirmed), (V3, Installed), (V3, Confirmed)]);
}

#[tokio::test]
async fn a_machine_without_a_watchdog_stays_without() {
    let bench = Bench::new();
    bench.arm(Slot::A, 0);
    bench.publish(V2);
    bench.want(V2);
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting);
    let printed = bench.printed(Slot::B);
    assert!(printed.contains("watchdog timeout: 0 seconds"), "{printed}");
}

#[tokio::test]
async fn a_bad_root_is_not_installed_and_a_mended_one_is() {
    let bench = Bench::new();
    bench.publish(V2);
    bench.want(V2);
    let served = bench.served(".root");
    let good = std::fs::read(&served).unwrap();
    let mut bad = good.clone();
    bad[500_000] ^= 1;
    std::fs::write(&served, bad).unwrap();
    let agent = bench.agent(Slot::A, V1);
    let error = agent.pass().await.unwrap_err().to_string();
    assert!(error.contains("content is not what the repository's metadata says"), "{error}");
    assert_eq!(bench.power_on(), Slot::A);
    assert_eq!(bench.host.reported(), [(V2, Refused)]);
    agent.pass().await.unwrap_err();
    assert_eq!(bench.host.reported().len(), 1, "told once");
    std::fs::write(&served, good).unwrap();
    assert_eq!(agent.pass().await.unwrap(), Pass::Restarting);
    assert_eq!(bench.power_on(), Slot::B);
}

#[tokio::test]
async fn root_and_kernel_of_two_builds_are_not_installed() {
    let bench = Bench::new();
    let (one, other) = (Build::new(bench.folder(), 7, 1 << 20), Build::new(bench.folder(), 8, 1 << 20));
    let mixed = Build { root: one.root, kernel: other.kernel };
    bench.publish_build(V2, &mixed, &[]).unwrap();
    bench.want(V2);
    let error = bench.agent(Slot::A, V1).pass().await.unwrap_err().to_string();
    assert_eq!(error, "the root is not the one that the kernel image names");
    assert_eq!(bench.power_on(), Slot::A);
}

#[tokio::test]
async fn what_does_not_fit_is_not_installed() {
    let bench = Bench::new();
    let mut build = Build::new(bench.folder(), 7, 33 << 20);
    bench.publish_build(V2, &build, &[]).unwrap();
    bench.want(V2);
    let error = bench.agent(Slot::A, V1).pass().await.unwrap_err().to_string();
    assert!(error.contains("does not fit root-b"), "{error}");
    build = Build::new(bench.folder(), 8, 1 << 20);
    build.kernel.resize(9 << 20, 1);
    bench.publish_build(V3, &build, &[]).unwrap();
    bench.want(V3);
    let error = bench.agent(Slot::A, V1).pass().await.unwrap_err();
    let chain = edge_agent::center::chain(&error);
    assert!(chain.contains("no room for linux.efi"), "{chain}");
    assert_eq!(bench.power_on(), Slot::A);
    bench.check_boot(Slot::B);
}

#[tokio::test]
async fn a_system_that_does_not_prove_itself_is_left_and_not_tried_again() {
    let bench = Bench::new();
    bench.publish(V2);
    bench.want(V2);
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting);
    assert_eq!(bench.power_on(), Slot::B);
    // The tunnel does not come up; the center is not asked about.
    let sick = Health { tunnel: Some("no answer".into()), center: None };
    *bench.host.health.lock().unwrap() = sick;
    assert_eq!(bench.agent(Slot::B, V2).begin().await.unwrap(), Pass::Restarting);
    assert_eq!(bench.host.restarts.load(Ordering::Relaxed), 2);
    assert_eq!(bench.power_on(), Slot::A);
    *bench.host.health.lock().unwrap() = Health::default();
    let agent = bench.agent(Slot::A, V1);
    assert_eq!(agent.begin().await.unwrap(), Pass::Idle);
    let refused = agent.pass().await.unwrap_err().to_string();
    assert!(
        refused.starts_with("version 2.0.0: it failed on this box: after 1s still: the tunnel: no answer"),
        "{refused}"
    );
    assert_eq!(bench.host.reported(), [(V2, Installed), (V2, WentBack), (V2, Refused)]);
    assert_eq!(bench.power_on(), Slot::A);
    // The next version is another matter.
    bench.publish(V3);
    bench.want(V3);
    assert_eq!(agent.pass().await.unwrap(), Pass::Restarting);
}

#[tokio::test]
async fn a_release_with_the_wrong_label_is_left() {
    let bench = Bench::new();
    bench.publish(V3);
    bench.want(V3);
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting);
    assert_eq!(bench.power_on(), Slot::B);
    assert_eq!(bench.agent(Slot::B, V2).begin().await.unwrap(), Pass::Restarting);
    assert_eq!(bench.power_on(), Slot::A);
    let agent = bench.agent(Slot::A, V1);
    assert_eq!(agent.begin().await.unwrap(), Pass::Idle);
    let refused = agent.pass().await.unwrap_err().to_string();
    assert!(
        refused.ends_with("it failed on this box: it says of itself that it is version 2.0.0"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_root_that_runs_is_not_installed_as_another_version() {
    let bench = Bench::new();
    let build = bench.fill_running();
    bench.publish_build(V2, &build, &[]).unwrap();
    bench.want(V2);
    let error = bench.agent(Slot::A, V1).pass().await.unwrap_err().to_string();
    assert_eq!(error, "it is the root that runs already, under another version");
    assert_eq!(bench.power_on(), Slot::A);
}

#[tokio::test]
async fn a_system_that_hangs_is_left() {
    let bench = Bench::new();
    bench.publish(V2);
    bench.want(V2);
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting);
    assert_eq!((bench.power_on(), bench.power_on()), (Slot::B, Slot::A), "the watchdog bites in between");
    let agent = bench.agent(Slot::A, V1);
    agent.begin().await.unwrap();
    let reports = bench.host.reports.lock().unwrap().clone();
    assert_eq!((reports[1].state, reports[1].running), (WentBack, V1));
    assert!(reports[1].reason.as_ref().unwrap().contains("did not come up"));
}

#[tokio::test]
async fn a_center_that_was_down_before_reverts_nothing() {
    let bench = Bench::new();
    bench.publish(V2);
    bench.want(V2);
    *bench.host.health.lock().unwrap() = Health { tunnel: None, center: Some("unreachable".into()) };
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting);
    assert_eq!(bench.power_on(), Slot::B);
    assert_eq!(bench.agent(Slot::B, V2).begin().await.unwrap(), Pass::Idle);
    assert_eq!(bench.power_on(), Slot::B);

    // And one that the new system cut off does.
    *bench.host.health.lock().unwrap() = Health::default();
    bench.publish(V3);
    bench.want(V3);
    assert_eq!(bench.agent(Slot::B, V2).pass().await.unwrap(), Pass::Restarting);
    assert_eq!(bench.power_on(), Slot::A);
    *bench.host.health.lock().unwrap() = Health { tunnel: None, center: Some("unreachable".into()) };
    assert_eq!(bench.agent(Slot::A, V3).begin().await.unwrap(), Pass::Restarting);
    assert_eq!(bench.power_on(), Slot::B);
}

#[tokio::test]
async fn the_box_restarts_in_its_window_only() {
    const MONDAY: i64 = 1_795_392_000;
    let bench = Bench::new();
    bench.publish(V2);
    *bench.host.now_s.lock().unwrap() = Some(MONDAY + 12 * 3600);
    let window = Window { days: vec![Day::Mon], start: "17:00".parse().unwrap(), minutes: 60 };
    bench.want_in(V2, Some(window));
    let agent = bench.agent(Slot::A, V1);
    assert_eq!(agent.pass().await.unwrap(), Pass::Waiting);
    assert_eq!(agent.pass().await.unwrap(), Pass::Waiting);
    assert_eq!(bench.host.restarts.load(Ordering::Relaxed), 0);
    *bench.host.now_s.lock().unwrap() = Some(MONDAY + 17 * 3600 + 60);
    assert_eq!(agent.pass().await.unwrap(), Pass::Restarting);
    assert_eq!(bench.host.reported(), [(V2, Installed)], "installed once");
}

#[tokio::test]
async fn a_wish_that_is_taken_back_or_replaced_does_not_start() {
    let bench = Bench::new();
    bench.publish(V2);
    let build = bench.publish(V3);
    let never = Some(Window { days: vec![Day::Mon], start: "00:00".parse().unwrap(), minutes: 5 });
    *bench.host.now_s.lock().unwrap() = Some(0);
    let agent = bench.agent(Slot::A, V1);
    bench.want_in(V2, never.clone());
    assert_eq!(agent.pass().await.unwrap(), Pass::Waiting);
    bench.want_in(V3, never.clone());
    assert_eq!(agent.pass().await.unwrap(), Pass::Waiting);
    assert!(bench.root_is(Slot::B, &build.root), "the newer one");
    bench.want_in(V1, never);
    assert_eq!(agent.pass().await.unwrap(), Pass::Idle);
    assert_eq!(bench.power_on(), Slot::A, "what waited was withdrawn");
}
