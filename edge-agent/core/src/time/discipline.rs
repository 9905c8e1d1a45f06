//! What to do to the clock: nothing, a slew, a step, and by whose word.
//!
//! NTP is exact and not authenticated; the center's `Date` comes over pinned TLS and is good to a second. So the servers
//! set the clock, but never before the floor and never away from what the center says: it issues the certificates and
//! lists whose dates the clock is for. Without servers the center's time is taken as it is.

use super::majority::{Consensus, Dissent};
use crate::clock::{Floor, TOLERANCE};
use std::fmt;
use std::time::Duration;

/// Up to this the clock is slewed, beyond it stepped (RFC 5905: STEPT), nanoseconds.
const STEP_NS: u64 = 128_000_000;

/// By how much the clock must differ from the center to be set by it: `Date` has whole seconds. Nanoseconds.
const COARSE_NS: u64 = 2_000_000_000;

/// How long the servers have after the start before the center sets the clock.
pub const GRACE: Duration = Duration::from_secs(20);

/// How long the servers' last word holds while they are silent: the crystal of a box loses a second in some hours.
pub const HOLD: Duration = Duration::from_secs(6 * 3600);

/// The clock and what is known about it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The wall clock, Unix nanoseconds.
    pub wall_ns: i64,
    /// What it cannot be before.
    pub floor: Floor,
    /// What the center's last `Date`, carried on, says now. Unix seconds.
    pub center_s: Option<i64>,
    /// How long the box's clock is looked after.
    pub running: Duration,
    /// How long ago the servers' word was last taken.
    pub heard: Option<Duration>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is as it should be, or nobody knows better.
    None,
    /// Gently.
    Slew {
        /// Nanoseconds, forward when positive.
        by_ns: i64,
    },
    /// At once.
    Step {
        /// Nanoseconds, forward when positive.
        by_ns: i64,
        /// By whose word.
        source: Source,
    },
    /// The servers want a step in a clock that they had set before: they must say so twice.
    AskAgain,
}

/// Whose word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Time servers.
    Servers,
    /// The center.
    Center,
    /// No one: the time that has certainly passed.
    Floor,
}

/// Why the servers' word is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// They have none in common.
    Dissent(Dissent),
    /// It is before the floor.
    BeforeFloor,
    /// The center says something else.
    Center {
        /// Seconds by which the servers are ahead of the center.
        ahead_s: i64,
    },
}

impl Source {
    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Servers => "servers",
            Self::Center => "center",
            Self::Floor => "floor",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dissent(dissent) => dissent.fmt(f),
            Self::BeforeFloor => f.write_str("the time servers tell a time that has certainly passed"),
            Self::Center { ahead_s } if *ahead_s < 0 => {
                write!(f, "the time servers are {} s behind the center", ahead_s.unsigned_abs())
            }
            Self::Center { ahead_s } => write!(f, "the time servers are {ahead_s} s ahead of the center"),
        }
    }
}

/// Remembers what was asked for and not yet done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discipline {
    /// The step that the round before asked for.
    asked_ns: Option<i64>,
}

impl Discipline {
    /// What to do after a round. The second value is why the servers' word was not taken.
    pub fn decide(&mut self, now: &Now, round: &Result<Consensus, Dissent>) -> (Action, Option<Doubt>) {
        let doubt = match round {
            Ok(consensus) => match doubt(now, consensus.offset_ns) {
                None => return (self.servers(now, consensus.offset_ns), None),
                Some(doubt) => doubt,
            },
            Err(dissent) => Doubt::Dissent(*dissent),
        };
        self.asked_ns = None;
        (without_servers(now, matches!(doubt, Doubt::Center { .. })), Some(doubt))
    }

    /// What to do between two rounds while the servers' word is not to be had: the center may have been heard.
    #[must_use]
    pub fn meanwhile(now: &Now) -> Action {
        without_servers(now, false)
    }

    fn servers(&mut self, now: &Now, by_ns: i64) -> Action {
        if by_ns.unsigned_abs() <= STEP_NS {
            self.asked_ns = None;
            return Action::Slew { by_ns };
        }
        let again = self.asked_ns.is_some_and(|asked| asked.abs_diff(by_ns) <= STEP_NS);
        if now.heard.is_some() && !again {
            self.asked_ns = Some(by_ns);
            return Action::AskAgain;
        }
        self.asked_ns = None;
        Action::Step { by_ns, source: Source::Servers }
    }
}

fn doubt(now: &Now, offset_ns: i64) -> Option<Doubt> {
    let told_s = now.wall_ns.saturating_add(offset_ns).div_euclid(1_000_000_000);
    if told_s < now.floor.unix_s() {
        return Some(Doubt::BeforeFloor);
    }
    let ahead_s = told_s.saturating_sub(now.center_s?);
    (ahead_s.unsigned_abs() > TOLERANCE.as_secs()).then_some(Doubt::Center { ahead_s })
}

/// The center's word, or at least the floor's.
fn without_servers(now: &Now, contradicted: bool) -> Action {
    let waited = match now.heard {
        None => now.running >= GRACE,
        Some(heard) => heard >= HOLD,
    };
    let step = |to_s: i64, source| {
        let by_ns = to_s.saturating_mul(1_000_000_000).saturating_sub(now.wall_ns);
        Action::Step { by_ns, source }
    };
    match now.center_s {
        Some(center_s) if waited || contradicted => match step(center_s, Source::Center) {
            Action::Step { by_ns, .. } if by_ns.unsigned_abs() <= COARSE_NS => Action::None,
            action => action,
        },
        _ if now.wall_ns < now.floor.unix_s().saturating_mul(1_000_000_000) => {
            step(now.floor.unix_s(), Source::Floor)
        }
        _ => Action::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const FLOOR: i64 = 1_000_000;
    const WALL: i64 = 1_500_000;

    fn now() -> Now {
        Now {
            wall_ns: WALL * SECOND,
            floor: Floor::of_build(FLOOR),
            center_s: None,
            running: Duration::from_secs(5),
            heard: None,
        }
    }

    fn told(offset_ns: i64) -> Result<Consensus, Dissent> {
        Ok(Consensus { offset_ns, distance_ns: 0, agreeing: vec![0, 1, 2] })
    }

    const SILENCE: Result<Consensus, Dissent> = Err(Dissent::TooFew { answered: 0, asked: 3, needed: 2 });

    fn decide(now: &Now, round: &Result<Consensus, Dissent>) -> (Action, Option<Doubt>) {
        Discipline::default().decide(now, round)
    }

    #[test]
    fn small_differences_are_slewed_large_ones_stepped() {
        let step = |by_ns| (Action::Step { by_ns, source: Source::Servers }, None);
        assert_eq!(decide(&now(), &told(128_000_000)), (Action::Slew { by_ns: 128_000_000 }, None));
        assert_eq!(decide(&now(), &told(-128_000_001)), step(-128_000_001));
        assert_eq!(decide(&now(), &told(10_000 * SECOND)), step(10_000 * SECOND));
    }

    #[test]
    fn a_clock_that_was_right_steps_only_when_told_twice() {
        let later = Now { heard: Some(Duration::from_secs(128)), ..now() };
        let mut discipline = Discipline::default();
        assert_eq!(discipline.decide(&later, &told(9 * SECOND)).0, Action::AskAgain);
        assert_eq!(discipline.decide(&later, &told(5 * SECOND)).0, Action::AskAgain, "another one");
        assert_eq!(discipline.decide(&later, &told(0)).0, Action::Slew { by_ns: 0 });
        assert_eq!(discipline.decide(&later, &told(9 * SECOND)).0, Action::AskAgain, "from the beginning");
        let step = Action::Step { by_ns: 9 * SECOND + 1, source: Source::Servers };
        assert_eq!(discipline.decide(&later, &told(9 * SECOND + 1)).0, step);
    }

    #[test]
    fn servers_lead_neither_before_the_floor_nor_away_from_the_center() {
        assert_eq!(
            decide(&now(), &told((FLOOR - WALL - 1) * SECOND)),
            (Action::None, Some(Doubt::BeforeFloor))
        );
        let center = Now { center_s: Some(WALL), ..now() };
        assert_eq!(decide(&center, &told(60 * SECOND)).1, None);
        assert_eq!(decide(&center, &told(61 * SECOND)), (Action::None, Some(Doubt::Center { ahead_s: 61 })));
        assert_eq!(decide(&center, &told(-61 * SECOND)).1, Some(Doubt::Center { ahead_s: -61 }));
        // The clock follows the center, then, although the servers answer.
        let off = Now { center_s: Some(WALL + 500), ..now() };
        let step = Action::Step { by_ns: 500 * SECOND, source: Source::Center };
        assert_eq!(decide(&off, &told(0)), (step, Some(Doubt::Center { ahead_s: -500 })));
    }

    #[test]
    fn without_servers_the_center_sets_the_clock_after_a_while() {
        let off = Now { center_s: Some(WALL + 3), ..now() };
        assert_eq!(decide(&off, &SILENCE).0, Action::None, "they may be about to answer");
        let waited = Now { running: GRACE, ..off };
        let step = Action::Step { by_ns: 3 * SECOND, source: Source::Center };
        assert_eq!(decide(&waited, &SILENCE).0, step);
        assert_eq!(decide(&Now { center_s: Some(WALL + 2), ..waited }, &SILENCE).0, Action::None);
        let held = Now { heard: Some(HOLD - Duration::from_secs(1)), ..waited };
        assert_eq!(decide(&held, &SILENCE).0, Action::None, "their last word still holds");
        assert_eq!(decide(&Now { heard: Some(HOLD), ..waited }, &SILENCE).0, step);
    }

    #[test]
    fn a_box_in_1970_goes_to_the_floor_at_once() {
        let lost = Now { wall_ns: 5 * SECOND, ..now() };
        let step = Action::Step { by_ns: (FLOOR - 5) * SECOND, source: Source::Floor };
        assert_eq!(decide(&lost, &SILENCE).0, step);
        let told = told((WALL - 5) * SECOND);
        assert_eq!(
            decide(&lost, &told).0,
            Action::Step { by_ns: (WALL - 5) * SECOND, source: Source::Servers }
        );
    }

    #[test]
    fn no_number_brings_it_down() {
        for wall_ns in [i64::MIN, 0, i64::MAX] {
            for center_s in [None, Some(i64::MIN), Some(i64::MAX)] {
                for offset in [i64::MIN, -1, i64::MAX] {
                    let extreme = Now { wall_ns, center_s, running: GRACE, ..now() };
                    let _ = decide(&extreme, &told(offset));
                    let _ = decide(&extreme, &SILENCE);
                }
            }
        }
    }
}
