use super::*;
use crate::update::release::Part;

fn record(slot: Slot, stage: Stage) -> Record {
    let part = |name: &str| Part { name: name.into(), length: 1, sha256: [0; 32] };
    let release = Release { version: Version::new(2, 0, 0), root: part("r"), kernel: part("k") };
    let attempt = Attempt { release, slot, stage, center_answered: true, failure: None };
    Record { attempt: Some(attempt), ..Record::default() }
}

fn environment(revision: u32, state: State) -> Environment {
    Environment::void().installed("L:BOOT0:linux.efi", revision, 60).unwrap().in_state(state)
}

const WRITING: Stage = Stage::Writing { root: 0, kernel: 0 };

#[test]
fn each_point_of_the_way() {
    let good = environment(4, State::Good);
    let void = environment(3, State::Good).voided();
    let at_b =
        |stage, running, b: Option<&Environment>| resume(&record(Slot::B, stage), running, [Some(&good), b]);
    assert_eq!(resume(&Record::default(), Slot::A, [Some(&good), Some(&void)]), Resumption::Idle);
    // Cut while the slot is written, or while its environment is: half of it does not read.
    assert_eq!(at_b(WRITING, Slot::A, Some(&void)), Resumption::Write);
    assert_eq!(at_b(WRITING, Slot::A, None), Resumption::Write);
    assert_eq!(at_b(Stage::Installed, Slot::A, None), Resumption::Write);
    assert_eq!(at_b(Stage::Installed, Slot::A, Some(&void)), Resumption::Write);
    // Cut before the slot was voided: it still holds the system before this one.
    assert_eq!(at_b(WRITING, Slot::A, Some(&environment(3, State::Good))), Resumption::Write);
    // The commit point was passed, with and without the record.
    let installed = environment(5, State::Installed);
    assert_eq!(at_b(Stage::Installed, Slot::A, Some(&installed)), Resumption::Restart);
    assert_eq!(at_b(WRITING, Slot::A, Some(&installed)), Resumption::Restart);
    // The new system runs.
    assert_eq!(at_b(Stage::Installed, Slot::B, Some(&environment(5, State::Testing))), Resumption::Prove);
    assert_eq!(at_b(Stage::Installed, Slot::B, Some(&environment(5, State::Good))), Resumption::Proven);
    // The old one does, again.
    let failed = environment(5, State::Testing).failed();
    assert!(matches!(at_b(Stage::Installed, Slot::A, Some(&failed)), Resumption::WentBack(_)));
    // What an earlier attempt left in the slot says nothing about this one.
    assert_eq!(at_b(WRITING, Slot::A, Some(&failed)), Resumption::Write);
    assert_eq!(at_b(Stage::Installed, Slot::A, Some(&failed.voided())), Resumption::Write);
}

#[test]
fn a_lost_record_still_proves_the_new_system() {
    let testing = environment(5, State::Testing);
    let good = environment(4, State::Good);
    assert_eq!(resume(&Record::default(), Slot::B, [Some(&good), Some(&testing)]), Resumption::Prove);
}

#[test]
fn a_failure_is_remembered_with_the_reason_that_the_new_system_left() {
    let mut record = record(Slot::B, Stage::Installed);
    record.attempt.as_mut().unwrap().failure = Some("the tunnel: not filled".into());
    let (good, failed) = (environment(4, State::Good), environment(5, State::Testing).failed());
    let Resumption::WentBack(reason) = resume(&record, Slot::A, [Some(&good), Some(&failed)]) else {
        panic!("it went back");
    };
    assert_eq!(reason, "the tunnel: not filled");
    record.went_back(&reason);
    assert_eq!(record.barred, [Barred { version: Version::new(2, 0, 0), reason }]);
    assert_eq!((record.attempt.is_none(), record.highest), (true, None));
}

#[test]
fn only_so_many_failures_are_remembered() {
    let mut remembered = Record::default();
    for patch in 0..20 {
        let mut next = record(Slot::A, Stage::Installed);
        next.attempt.as_mut().unwrap().release.version = Version::new(1, 0, patch);
        remembered.attempt = next.attempt;
        remembered.went_back("x");
    }
    assert_eq!(remembered.barred.len(), MAX_BARRED);
    assert_eq!(remembered.barred[0].version, Version::new(1, 0, 4));
}

#[test]
fn what_worked_before_must_work() {
    let no = || Some("no".to_owned());
    assert!(judge(&Health::default(), true).is_ok());
    assert!(judge(&Health { tunnel: None, center: no() }, true).is_err());
    assert!(judge(&Health { tunnel: None, center: no() }, false).is_ok(), "it was down before");
    assert!(judge(&Health { tunnel: no(), center: None }, false).is_err());
}
