//! What the repository may say: whose metadata counts, and how old it may be.

use super::bench::{Bench, Build, V1, V2, V3, run};
use edge_agent::center::chain;
use edge_agent::update::Pass;
use edge_agent_core::update::Slot;
use std::fs;
use verona_contract::config::Version;

/// Tries once, and returns why nothing was installed. The old system starts in any case.
async fn refusal(bench: &Bench) -> String {
    let outcome = bench.agent(Slot::A, V1).pass().await;
    assert_eq!(bench.power_on(), Slot::A);
    chain(&outcome.unwrap_err())
}

#[tokio::test]
async fn metadata_by_strangers_is_refused() {
    let bench = Bench::new();
    bench.publish(V2);
    bench.want(V2);
    // A whole repository by other keys, in place of ours but for the root that the box trusts.
    let stranger = Bench::new();
    stranger.publish(V2);
    for name in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        fs::copy(stranger.metadata(name), bench.metadata(name)).unwrap();
    }
    let refused = refusal(&bench).await;
    assert!(refused.contains("Failed to verify timestamp metadata"), "{refused}");
    // The same with a root of theirs, as the next one.
    fs::copy(stranger.metadata("1.root.json"), bench.metadata("2.root.json")).unwrap();
    let refused = refusal(&bench).await;
    assert!(refused.contains("Failed to verify root metadata"), "{refused}");
}

#[tokio::test]
async fn altered_metadata_is_refused() {
    let bench = Bench::new();
    bench.publish(V2);
    bench.want(V2);
    for name in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        let good = fs::read(bench.metadata(name)).unwrap();
        let text = String::from_utf8(good.clone()).unwrap();
        let altered = text.replacen("\"version\":2", "\"version\":3", 1);
        assert_ne!(text, altered, "{name}");
        fs::write(bench.metadata(name), altered).unwrap();
        refusal(&bench).await;
        fs::write(bench.metadata(name), good).unwrap();
    }
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting, "unaltered it is good");
}

#[tokio::test]
async fn an_older_version_is_refused() {
    let bench = Bench::new();
    let older = Version::new(0, 9, 0);
    bench.publish(older);
    bench.want(older);
    assert_eq!(refusal(&bench).await, "version 0.9.0: it is older than 1.0.0");
}

#[tokio::test]
async fn older_metadata_is_refused() {
    let bench = Bench::new();
    bench.publish(V2);
    let names = ["timestamp.json", "2.snapshot.json", "2.targets.json"];
    let old: Vec<Vec<u8>> = names.iter().map(|name| fs::read(bench.metadata(name)).unwrap()).collect();
    bench.publish(V3);
    // The box sees the newest: it would install version 3, which is not asked for.
    bench.want(Version::new(9, 0, 0));
    let refused = refusal(&bench).await;
    assert!(refused.contains("0 files of the root for version 9.0.0"), "{refused}");
    // Someone hides version 3 again, by metadata that was good once.
    for (name, octets) in names.iter().zip(&old) {
        fs::write(bench.metadata(name), octets).unwrap();
    }
    bench.want(V2);
    let refused = refusal(&bench).await;
    assert!(refused.contains("version 2") && refused.contains("version 3"), "{refused}");
}

#[tokio::test]
async fn metadata_that_has_ended_is_refused() {
    let bench = Bench::new();
    let build = Build::new(bench.folder(), 5, 1 << 20);
    bench.publish_build(V2, &build, &["--timestamp-life", "0s"]).unwrap();
    bench.want(V2);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let refused = refusal(&bench).await;
    assert!(refused.contains("expired"), "{refused}");
    bench.image(&["renew"]).unwrap();
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting);
}

#[tokio::test]
async fn with_a_clock_that_is_not_believed_nothing_is_judged() {
    let bench = Bench::new();
    bench.publish(V2);
    bench.want(V2);
    *bench.host.clock_doubt.lock().unwrap() = Some("it is before the floor".into());
    assert_eq!(refusal(&bench).await, "the clock is not believed: it is before the floor");
    *bench.host.clock_doubt.lock().unwrap() = None;
    // A clock that ran ahead once does not end updates for ever.
    fs::create_dir_all(bench.path("state/tuf")).unwrap();
    fs::write(bench.path("state/tuf/latest_known_time.json"), "\"2100-01-01T00:00:00Z\"").unwrap();
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting);
}

#[tokio::test]
async fn mixed_metadata_is_refused() {
    let bench = Bench::new();
    bench.publish(V2);
    bench.publish(V3);
    bench.want(V3);
    // Each file was signed by the right keys; together they never were.
    let good = fs::read(bench.metadata("3.targets.json")).unwrap();
    fs::copy(bench.metadata("2.targets.json"), bench.metadata("3.targets.json")).unwrap();
    refusal(&bench).await;
    fs::write(bench.metadata("3.targets.json"), good).unwrap();
    let good = fs::read(bench.metadata("3.snapshot.json")).unwrap();
    fs::copy(bench.metadata("2.snapshot.json"), bench.metadata("3.snapshot.json")).unwrap();
    refusal(&bench).await;
    fs::write(bench.metadata("3.snapshot.json"), good).unwrap();
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting);
}

#[tokio::test]
async fn lost_keys_are_replaced_and_count_no_more() {
    let bench = Bench::new();
    bench.publish(V2);
    let stolen = bench.path("stolen");
    run("cp", &["-r", bench.path("keys").to_str().unwrap(), stolen.to_str().unwrap()]);
    let before = bench.path("before");
    run("cp", &["-r", bench.path("repository/metadata").to_str().unwrap(), before.to_str().unwrap()]);
    // Lost, not only seen: the files are gone.
    for key in ["targets", "timestamp", "root-2"] {
        fs::remove_file(bench.path(&format!("keys/{key}.pk8"))).unwrap();
        bench.image(&["rotate", key]).unwrap();
    }
    // With two of three root keys gone there is no way back.
    fs::remove_file(bench.path("keys/root-1.pk8")).unwrap();
    fs::remove_file(bench.path("keys/root-3.pk8")).unwrap();
    let error = bench.image(&["rotate", "root-1"]).unwrap_err();
    assert!(error.contains("1 of the root keys are here, 2 must sign"), "{error}");
    // A box that knows the first root alone follows.
    bench.want(V2);
    let agent = bench.agent(Slot::A, V1);
    assert_eq!(agent.pass().await.unwrap(), Pass::Restarting);
    bench.power_on();
    bench.agent(Slot::B, V2).begin().await.unwrap();
    // The thief signs version 3 with the old keys, and serves it with the old roots.
    run(
        "rm",
        &["-r", bench.path("repository/metadata").to_str().unwrap(), bench.path("keys").to_str().unwrap()],
    );
    fs::rename(&before, bench.path("repository/metadata")).unwrap();
    fs::rename(&stolen, bench.path("keys")).unwrap();
    for _ in 0..5 {
        bench.image(&["renew"]).unwrap();
    }
    bench.publish(V3);
    bench.want(V3);
    let refused = chain(&bench.agent(Slot::B, V2).pass().await.unwrap_err());
    assert!(refused.contains("Failed to verify timestamp metadata"), "{refused}");
    assert_eq!(bench.power_on(), Slot::B);
}
