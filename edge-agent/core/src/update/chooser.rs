//! What EFI Boot Guard does with two environments: the model that the agent checks its own commit point against.
//!
//! After `load_config` of version 0.13: the highest revision starts, unless it is being written or was already on
//! trial; then the one before it does.

use super::Slot;
use super::environment::{Environment, State};

/// What the next start does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The slot that is started.
    pub slot: Slot,
    /// What the chooser writes before that, and where; none = nothing.
    pub written: Option<(Slot, Environment)>,
}

/// Which slot the next start takes; `environments` in the order of the slots, none = does not read. None = the
/// chooser finds nothing to start.
#[must_use]
pub fn next_start(environments: [Option<&Environment>; 2]) -> Option<Start> {
    let revision = |slot: Slot| environments[slot.index()].map_or(0, Environment::revision);
    // The first of two equals, as there.
    let newest = if revision(Slot::B) > revision(Slot::A) { Slot::B } else { Slot::A };
    let environment = environments[newest.index()].filter(|environment| environment.revision() > 0)?;
    let before = || Some(newest.other()).filter(|slot| revision(*slot) > 0);
    if environment.in_progress() {
        return Some(Start { slot: before()?, written: None });
    }
    match environment.state() {
        State::Testing => {
            Some(Start { slot: before()?, written: Some((newest, environment.clone().failed())) })
        }
        State::Installed => {
            let written = environment.clone().in_state(State::Testing);
            Some(Start { slot: newest, written: Some((newest, written)) })
        }
        _ => Some(Start { slot: newest, written: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(revision: u32, state: State) -> Environment {
        Environment::void().installed("L:BOOT0:linux.efi", revision, 60).unwrap().in_state(state)
    }

    fn start(a: Option<&Environment>, b: Option<&Environment>) -> Option<(Slot, Option<(Slot, State)>)> {
        let start = next_start([a, b])?;
        Some((start.slot, start.written.map(|(slot, environment)| (slot, environment.state()))))
    }

    #[test]
    fn the_life_of_an_update() {
        let a = environment(4, State::Good);
        let b = environment(5, State::Installed);
        assert_eq!(start(Some(&a), Some(&b)), Some((Slot::B, Some((Slot::B, State::Testing)))));
        let b = b.in_state(State::Testing);
        assert_eq!(start(Some(&a), Some(&b)), Some((Slot::A, Some((Slot::B, State::Failed)))));
        let b = b.failed();
        assert_eq!(start(Some(&a), Some(&b)), Some((Slot::A, None)));
        let b = environment(5, State::Good);
        assert_eq!(start(Some(&a), Some(&b)), Some((Slot::B, None)));
    }

    #[test]
    fn before_the_commit_point_the_old_one_starts() {
        let a = environment(4, State::Good);
        for b in [None, Some(environment(3, State::Good).voided()), Some(Environment::void())] {
            assert_eq!(start(Some(&a), b.as_ref()), Some((Slot::A, None)));
        }
        // A slot that is being written does not start, whatever its revision.
        let mut octets = environment(9, State::Good).as_bytes().to_vec();
        octets[255 * 4] = 1;
        let checksum = crc32fast::hash(&octets[..octets.len() - 4]);
        let end = octets.len() - 4;
        octets[end..].copy_from_slice(&checksum.to_le_bytes());
        let b = Environment::parse(&octets).unwrap();
        assert_eq!(start(Some(&a), Some(&b)), Some((Slot::A, None)));
        assert_eq!(start(None, Some(&b)), None);
        assert_eq!(start(None, None), None);
    }
}
