//! What happens when: the faults of each episode, drawn from a seed. The same seed gives the same schedule, whatever
//! the machine makes of it.

use std::fmt;
use std::time::Duration;

/// How many clients there are.
pub(super) const CLIENTS: usize = 3;

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// `edge-agent`.
    Agent,
    /// `edge-tunnel`.
    Tunnel,
    /// The center's serving process.
    Center,
    /// A client, by number.
    Client(usize),
}

/// A line, with its end that packets are lost at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The edge's.
    Wan,
    /// The center's.
    Center,
    /// A client's, by number.
    Client(usize),
}

/// What goes wrong, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Killed without warning; comes back at the end.
    Kill(Victim),
    /// The cable is out.
    Cut(Line),
    /// Packets are lost, per cent.
    Loss(Line, u32),
    /// No octet of the edge's disk is free.
    DiskFull,
    /// The edge's wall clock is off by so many seconds.
    Clock(i64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(victim) => write!(f, "kill {victim:?}"),
            Self::Cut(line) => write!(f, "cut {line:?}"),
            Self::Loss(line, percent) => write!(f, "lose {percent} % of {line:?}"),
            Self::DiskFull => f.write_str("disk full"),
            Self::Clock(seconds) => write!(f, "clock {seconds:+} s"),
        }
    }
}

/// A fault with its time within the episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it begins.
    pub begin: Duration,
    /// When it is over.
    pub end: Duration,
    /// What.
    pub fault: Fault,
}

/// Some faults that overlap, and what an administrator does meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// In the order of their beginnings; none is about what another one is about.
    pub faults: Vec<Planned>,
    /// The client that is disabled, or enabled if it was disabled.
    pub toggled: usize,
}

/// Draws episodes.
#[derive(Clone, Debug)]
pub struct Schedule(u64);

impl Schedule {
    /// From `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit` (SplitMix64).
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn client(&mut self) -> usize {
        // Three of them.
        self.below(CLIENTS as u64) as usize
    }

    fn line(&mut self) -> Line {
        match self.below(3) {
            0 => Line::Wan,
            1 => Line::Center,
            _ => Line::Client(self.client()),
        }
    }

    fn fault(&mut self) -> Fault {
        match self.below(10) {
            0 => Fault::Kill(Victim::Agent),
            1 => Fault::Kill(Victim::Tunnel),
            2 => Fault::Kill(Victim::Center),
            3 => Fault::Kill(Victim::Client(self.client())),
            4 | 5 => Fault::Cut(self.line()),
            6 | 7 => Fault::Loss(self.line(), 5 + 5 * u32::try_from(self.below(8)).unwrap_or(0)),
            8 => Fault::DiskFull,
            _ => {
                let far = [-3600, 3600, 86_400 * 30, -1_700_000_000];
                Fault::Clock(far[self.below(far.len() as u64) as usize])
            }
        }
    }

    /// The next episode: one to four faults within `length`.
    pub fn episode(&mut self, length: Duration) -> Episode {
        let count = 1 + self.below(4);
        let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).max(2);
        let mut faults: Vec<Planned> = Vec::new();
        for _ in 0..count {
            let fault = self.fault();
            let begin = self.below(millis / 2);
            let end = begin + 1 + self.below(millis - begin - 1);
            if !faults.iter().any(|planned| same_thing(planned.fault, fault)) {
                let [begin, end] = [begin, end].map(Duration::from_millis);
                faults.push(Planned { begin, end, fault });
            }
        }
        faults.sort_by_key(|planned| planned.begin);
        Episode { faults, toggled: self.client() }
    }
}

/// Whether the end of one would be the end of the other as well.
fn same_thing(one: Fault, other: Fault) -> bool {
    match (one, other) {
        (Fault::Kill(one), Fault::Kill(other)) => one == other,
        (Fault::Cut(one) | Fault::Loss(one, _), Fault::Cut(other) | Fault::Loss(other, _)) => one == other,
        (Fault::DiskFull, Fault::DiskFull) | (Fault::Clock(_), Fault::Clock(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);

    #[test]
    fn a_seed_gives_one_schedule_and_another_seed_another() {
        let draw = |seed| {
            let mut schedule = Schedule::new(seed);
            (0..20).map(|_| schedule.episode(LENGTH)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn every_kind_comes_and_every_fault_ends_within_its_episode() {
        let mut schedule = Schedule::new(1);
        let mut kinds = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let episode = schedule.episode(LENGTH);
            assert!(!episode.faults.is_empty() && episode.toggled < CLIENTS);
            for Planned { begin, end, fault } in episode.faults {
                assert!(begin < end && end <= LENGTH);
                kinds.insert(match fault {
                    Fault::Kill(Victim::Client(_)) => "kill a client".to_owned(),
                    Fault::Cut(Line::Client(_)) | Fault::Loss(Line::Client(_), _) => {
                        "a client's line".to_owned()
                    }
                    Fault::Loss(line, _) => format!("loss {line:?}"),
                    Fault::Clock(seconds) => format!("clock {seconds}"),
                    other => other.to_string(),
                });
            }
        }
        assert_eq!(kinds.len(), 4 + 1 + 2 + 2 + 1 + 4, "{kinds:?}");
    }
}
