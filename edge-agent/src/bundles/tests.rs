//! Crashes, refusals and garbage on the disk: the last good bundle is kept, and no older one gets in.

use super::*;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;
use std::path::Path;
use uuid::Uuid;
use verona_contract::config::PAYLOAD_TYPE;
use verona_contract::dsse::{Envelope, VerifyingKey};

const EDGE: Uuid = Uuid::from_u128(7);

fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap()
}

fn load(directory: &Path) -> Bundles {
    let key = VerifyingKey::new(signer().public_key().as_ref().try_into().unwrap());
    let rules = Rules { edge: EDGE, keys: vec![key], threshold: 1, agent: "0.1.0".parse().unwrap() };
    Bundles::load(directory.join("config"), rules).unwrap()
}

fn envelope(seq: u64, port: u16) -> Vec<u8> {
    let config = json!({
        "edge_id": EDGE, "seq": seq, "issued_at": "2026-01-02T03:04:05Z", "minimum_agent": "0.1.0",
        "tunnel": { "addresses": ["10.8.0.1/16"], "listen_port": port, "mtu": 1420, "routes": [], "owners": [] },
    });
    serde_json::to_vec(&Envelope::sign(PAYLOAD_TYPE, config.to_string().into_bytes(), &[&signer()])).unwrap()
}

fn wanted(bundles: &Bundles) -> Option<(u64, bool)> {
    let wanted = bundles.wanted().borrow().clone();
    wanted.map(|wanted| (wanted.bundle.config().seq, wanted.confirmed))
}

fn take_and_confirm(bundles: &Bundles, seq: u64) {
    let bundle = bundles.take(&envelope(seq, 1)).unwrap().unwrap();
    bundles.confirm(&bundle).unwrap();
}

#[test]
fn staged_then_confirmed_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = load(directory.path());
    assert_eq!(wanted(&bundles), None);
    let bundle = bundles.take(&envelope(4, 1)).unwrap().unwrap();
    assert_eq!(wanted(&load(directory.path())), Some((4, false)), "a crash before the trial: tried again");
    bundles.confirm(&bundle).unwrap();
    assert_eq!(wanted(&bundles), Some((4, true)));
    assert_eq!(wanted(&load(directory.path())), Some((4, true)));
    assert!(bundles.take(&envelope(4, 1)).unwrap().is_none(), "the same one again is no news");
}

#[test]
fn a_refused_trial_brings_the_one_before_back() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = load(directory.path());
    take_and_confirm(&bundles, 4);
    let bundle = bundles.take(&envelope(5, 1)).unwrap().unwrap();
    bundles.reject(&bundle, Fate::Refused, "port in use").unwrap();
    for bundles in [bundles, load(directory.path())] {
        assert_eq!(wanted(&bundles), Some((4, true)));
        assert_eq!(bundles.current().map(|bundle| bundle.config().seq), Some(4));
        // It was accepted, so nothing older gets in, and no other of that number.
        assert!(matches!(bundles.take(&envelope(4, 1)), Err(TakeError::Refused(Refusal::Rollback { .. }))));
        assert!(matches!(bundles.take(&envelope(5, 2)), Err(TakeError::Refused(Refusal::Conflict(5)))));
        assert!(bundles.refused().is_some());
        assert_eq!(wanted(&bundles), Some((4, true)));
    }
}

#[test]
fn what_is_in_force_is_on_the_disk_also_when_a_newer_one_came_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = load(directory.path());
    take_and_confirm(&bundles, 4);
    let older = bundles.take(&envelope(5, 1)).unwrap().unwrap();
    let newer = bundles.take(&envelope(6, 1)).unwrap().unwrap();
    bundles.confirm(&older).unwrap();
    let on_disk = load(directory.path());
    assert_eq!(wanted(&on_disk), Some((6, false)), "a crash here: the newer one is tried first");
    assert_eq!(on_disk.current().map(|bundle| bundle.config().seq), Some(5));
    bundles.reject(&newer, Fate::Refused, "port in use").unwrap();
    for bundles in [&bundles, &load(directory.path())] {
        assert_eq!(wanted(bundles), Some((5, true)));
    }
    // The other way round: the older one is refused, the newer one is not touched by it.
    let older = bundles.take(&envelope(7, 1)).unwrap().unwrap();
    let newer = bundles.take(&envelope(8, 1)).unwrap().unwrap();
    bundles.reject(&older, Fate::Refused, "port in use").unwrap();
    assert_eq!(wanted(&load(directory.path())), Some((8, false)));
    bundles.confirm(&newer).unwrap();
    assert_eq!(wanted(&load(directory.path())), Some((8, true)));
}

#[test]
fn envelopes_of_superseded_bundles_are_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = load(directory.path());
    for seq in 1..=20 {
        // Nobody carries them out: the tunnel is away.
        drop(bundles.take(&envelope(seq, 1)).unwrap());
    }
    assert!(bundles.state().trials.len() <= 2);
    let bundle = bundles.wanted().borrow().clone().unwrap().bundle;
    bundles.confirm(&bundle).unwrap();
    assert!(bundles.state().trials.is_empty());
}

#[test]
fn garbage_on_the_disk_never_lets_an_older_one_in() {
    let directory = tempfile::tempdir().unwrap();
    take_and_confirm(&load(directory.path()), 4);
    let path = directory.path().join("config/current.json");
    let good = std::fs::read(&path).unwrap();
    for garbage in [&b""[..], b"garbage", &good[..good.len() / 2]] {
        std::fs::write(&path, garbage).unwrap();
        let bundles = load(directory.path());
        assert_eq!(wanted(&bundles), None);
        assert!(bundles.take(&envelope(3, 1)).is_err(), "the mark stands");
        assert_eq!(bundles.held(), None, "the center is asked for anything");
        assert!(bundles.take(&envelope(4, 1)).unwrap().is_some(), "the same one comes back");
        std::fs::remove_file(directory.path().join("config/staged.json")).unwrap();
    }
    // Without the mark, the bundle itself is one.
    std::fs::write(&path, &good).unwrap();
    for garbage in [b"{".to_vec(), vec![b'{'; 5000]] {
        std::fs::write(directory.path().join("config/mark.json"), garbage).unwrap();
        let bundles = load(directory.path());
        assert_eq!(wanted(&bundles), Some((4, true)));
        assert!(bundles.take(&envelope(3, 1)).is_err());
    }
}

const ALL: Survey = Survey { center: true, gateway: true, dns: true, tunnel: true };

fn at(seconds: u64) -> Moment {
    Moment { boot: Uuid::from_u128(1), ns: seconds * 1_000_000_000 }
}

fn in_force(bundles: &Bundles) -> Option<u64> {
    bundles.current().map(|bundle| bundle.config().seq)
}

#[test]
fn what_was_reverted_is_not_tried_again_and_a_later_one_is() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = load(directory.path());
    take_and_confirm(&bundles, 4);
    let bundle = bundles.take(&envelope(5, 1)).unwrap().unwrap();
    bundles.begin(&bundle, Some(ALL), at(1)).unwrap();
    bundles.reject(&bundle, Fate::Reverted, "center").unwrap();
    for bundles in [bundles, load(directory.path())] {
        assert_eq!((wanted(&bundles), in_force(&bundles)), (Some((4, true)), Some(4)));
        assert_eq!(bundles.held(), Some(5), "the center is asked for a later one");
        assert!(bundles.take(&envelope(5, 1)).unwrap().is_none(), "served again, it is not tried again");
        assert_eq!(bundles.barred().map(|one| (one.seq, one.fate)), Some((5, Fate::Reverted)));
        assert_eq!(wanted(&bundles), Some((4, true)));
    }
    let bundles = load(directory.path());
    take_and_confirm(&bundles, 6);
    for bundles in [bundles, load(directory.path())] {
        assert_eq!((in_force(&bundles), bundles.barred()), (Some(6), None));
    }
    let history = load(directory.path()).history().unwrap();
    let fates: Vec<(u64, Fate)> = history.iter().map(|one| (one.seq, one.fate)).collect();
    assert_eq!(fates, [(6, Fate::Confirmed), (5, Fate::Reverted), (4, Fate::Confirmed)]);
}

#[test]
fn a_trial_goes_on_over_restarts_and_not_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = load(directory.path());
    take_and_confirm(&bundles, 4);
    let bundle = bundles.take(&envelope(5, 1)).unwrap().unwrap();
    assert!(bundles.wants_survey(&bundle));
    bundles.begin(&bundle, Some(ALL), at(1)).unwrap();
    bundles.begin(&bundle, Some(ALL), at(2)).unwrap();
    for start in 2..=3 {
        let bundles = load(directory.path());
        let bundle = bundles.wanted().borrow().clone().unwrap().bundle;
        assert!(!bundles.wants_survey(&bundle), "what the change may have broken is not the measure");
        bundles.begin(&bundle, None, at(5)).unwrap();
        let ledger = bundles.trial().borrow().clone().unwrap().ledger;
        assert_eq!((ledger.attempts, ledger.before, ledger.since), (start, Some(ALL), Some(at(1))));
    }
    let bundles = load(directory.path());
    let bundle = bundles.wanted().borrow().clone().unwrap().bundle;
    assert!(matches!(bundles.begin(&bundle, None, at(6)), Err(BeginError::Exhausted(_))));
}

#[test]
fn back_to_an_older_one_and_forward_again() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = load(directory.path());
    assert!(matches!(bundles.roll_back(None), Err(RollBackError::Nothing)));
    take_and_confirm(&bundles, 4);
    assert!(matches!(bundles.roll_back(None), Err(RollBackError::Oldest(4))));
    take_and_confirm(&bundles, 5);
    take_and_confirm(&bundles, 6);
    assert!(matches!(bundles.roll_back(Some(6)), Err(RollBackError::InForce(6))));
    assert!(matches!(bundles.roll_back(Some(3)), Err(RollBackError::Unknown(3))));
    // Going back is a trial as well, also over a restart, and one that fails changes nothing.
    let older = bundles.roll_back(None).unwrap();
    assert_eq!(wanted(&load(directory.path())), Some((5, false)));
    bundles.begin(&older, Some(ALL), at(1)).unwrap();
    bundles.reject(&older, Fate::Reverted, "center").unwrap();
    for bundles in [bundles, load(directory.path())] {
        assert_eq!((wanted(&bundles), bundles.barred()), (Some((6, true)), None));
    }
    let bundles = load(directory.path());
    let older = bundles.roll_back(Some(4)).unwrap();
    bundles.begin(&older, Some(ALL), at(1)).unwrap();
    bundles.confirm(&older).unwrap();
    for bundles in [bundles, load(directory.path())] {
        assert_eq!((wanted(&bundles), bundles.held()), (Some((4, true)), Some(6)));
        assert!(bundles.take(&envelope(6, 1)).unwrap().is_none(), "the one that was left does not come back");
        assert!(bundles.take(&envelope(5, 1)).is_err(), "nor does an older one from outside");
        assert_eq!(bundles.barred().map(|one| (one.seq, one.fate)), Some((6, Fate::RolledBack)));
    }
    let bundles = load(directory.path());
    take_and_confirm(&bundles, 7);
    assert_eq!((wanted(&bundles), bundles.barred()), (Some((7, true)), None));
}

#[test]
fn a_newer_one_during_the_trial_is_measured_by_what_worked_before_both() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = load(directory.path());
    take_and_confirm(&bundles, 4);
    let bundle = bundles.take(&envelope(5, 1)).unwrap().unwrap();
    bundles.begin(&bundle, Some(ALL), at(1)).unwrap();
    drop(bundles.take(&envelope(6, 1)).unwrap());
    for bundles in [load(directory.path()), bundles] {
        let newest = bundles.wanted().borrow().clone().unwrap().bundle;
        bundles.begin(&newest, Some(Survey::default()), at(50)).unwrap();
        let ledger = bundles.trial().borrow().clone().unwrap().ledger;
        assert_eq!((ledger.seq, ledger.before, ledger.since), (6, Some(ALL), Some(at(50))));
    }
}

#[test]
fn most_of_what_is_there_goes_only_with_leave() {
    let directory = tempfile::tempdir().unwrap();
    let bundles = load(directory.path());
    let with = |seq: u64, routes: u8, allow: bool| {
        let routes: Vec<String> = (0..routes).map(|n| format!("10.{n}.0.0/16")).collect();
        let config = json!({
            "edge_id": EDGE, "seq": seq, "issued_at": "2026-01-02T03:04:05Z", "minimum_agent": "0.1.0",
            "allow_shrink": allow, "tunnel": {
                "addresses": ["10.200.0.1/16"], "listen_port": 1, "mtu": 1420, "routes": routes, "owners": [],
            },
        });
        let payload = config.to_string().into_bytes();
        serde_json::to_vec(&Envelope::sign(PAYLOAD_TYPE, payload, &[&signer()])).unwrap()
    };
    let bundle = bundles.take(&with(1, 20, false)).unwrap().unwrap();
    bundles.confirm(&bundle).unwrap();
    assert!(matches!(bundles.take(&with(2, 0, false)), Err(TakeError::Shrinks(_))));
    assert_eq!((wanted(&bundles), bundles.refused().is_some()), (Some((1, true)), true));
    // Its number stays free for the one that says what it means.
    assert!(bundles.take(&with(2, 0, true)).unwrap().is_some());
}
