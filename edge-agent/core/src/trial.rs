//! The trial of a configuration: what worked before must work again, or the one before comes back.
//!
//! Staged → active → confirmed or reverted; each state consumes the one before. A [`Survey`] before the change is
//! the measure, surveys after it are the evidence. What did not work before reverts nothing, so a center that was
//! down does not undo a sound change. How a survey is taken, and where the [`Ledger`] lies, is the shell's.

use crate::bundle::Mark;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// How often an agent may begin with the same configuration on trial. One that makes the agent or the box fall
/// over is not tried for ever; a power cut alone does not cost a sound one.
pub const MAX_ATTEMPTS: u32 = 3;

/// What a change of configuration can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The center accepts this box, over a connection made for the question.
    Center,
    /// The next hop of a default route has a link address.
    Gateway,
    /// A name server of the box answers.
    Dns,
    /// The data plane carries out the configuration that is asked for.
    Tunnel,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Center, Self::Gateway, Self::Dns, Self::Tunnel];
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Center => "center",
            Self::Gateway => "gateway",
            Self::Dns => "dns",
            Self::Tunnel => "tunnel",
        })
    }
}

/// What works at one moment. What is not there does not work either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survey {
    /// [`Subject::Center`].
    pub center: bool,
    /// [`Subject::Gateway`].
    pub gateway: bool,
    /// [`Subject::Dns`].
    pub dns: bool,
    /// [`Subject::Tunnel`].
    pub tunnel: bool,
}

impl Survey {
    const fn works(&self, subject: Subject) -> bool {
        match subject {
            Subject::Center => self.center,
            Subject::Gateway => self.gateway,
            Subject::Dns => self.dns,
            Subject::Tunnel => self.tunnel,
        }
    }

    /// What `self` had and `now` has not. The tunnel is always wanted: without it nothing was carried out.
    #[must_use]
    pub fn lost(&self, now: &Self) -> Vec<Subject> {
        let wanted = |subject: &Subject| *subject == Subject::Tunnel || self.works(*subject);
        Subject::ALL.into_iter().filter(wanted).filter(|subject| !now.works(*subject)).collect()
    }

    /// What works in one of both.
    #[must_use]
    pub const fn or(&self, other: &Self) -> Self {
        Self {
            center: self.center || other.center,
            gateway: self.gateway || other.gateway,
            dns: self.dns || other.dns,
            tunnel: self.tunnel || other.tunnel,
        }
    }
}

/// A moment that survives a restart of the agent but not one of the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Which boot.
    pub boot: Uuid,
    /// Nanoseconds since then.
    pub ns: u64,
}

/// A trial as it lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// The configuration on trial.
    pub seq: u64,
    /// How many agents have begun with it.
    pub attempts: u32,
    /// What worked before it; none = it is not active yet.
    pub before: Option<Survey>,
    /// When it became active.
    pub since: Option<Moment>,
    /// Of a roll-back: the newest configuration, which is not to come again.
    pub instead_of: Option<Mark>,
}

impl Ledger {
    /// Of a configuration of which nothing is carried out yet. `superseded` is the trial that it ends: the measure
    /// of that one counts on, since what works now may be that one's doing.
    #[must_use]
    pub fn staged(seq: u64, instead_of: Option<Mark>, superseded: Option<&Self>) -> Self {
        let before = superseded.and_then(|ledger| ledger.before);
        Self { seq, attempts: 0, before, since: None, instead_of }
    }

    /// Whether what worked before still has to be found out.
    #[must_use]
    pub const fn wants_survey(&self) -> bool {
        self.since.is_none()
    }

    /// Begins the trial, or goes on with it after a restart. `before` is what works now; none when it was not asked
    /// for.
    ///
    /// # Errors
    ///
    /// [`Exhausted`].
    pub fn begin(self, before: Option<Survey>, now: Moment) -> Result<Self, Exhausted> {
        if self.attempts >= MAX_ATTEMPTS {
            return Err(Exhausted);
        }
        let measured = self.before.unwrap_or_default().or(&before.unwrap_or_default());
        // Another boot's clock says nothing about ours: the time begins anew.
        let since = self.since.filter(|since| since.boot == now.boot).unwrap_or(now);
        Ok(Self { attempts: self.attempts + 1, before: Some(measured), since: Some(since), ..self })
    }

    /// Judges the trial by what works at `now`.
    #[must_use]
    pub fn judge(&self, works: &Survey, now: Moment, confirm_s: u32) -> Verdict {
        let (Some(before), Some(since)) = (self.before, self.since) else {
            return Verdict::Wait { lost: vec![Subject::Tunnel], left_s: u64::from(confirm_s) };
        };
        let lost = before.lost(works);
        if lost.is_empty() {
            return Verdict::Confirm;
        }
        let passed = if since.boot == now.boot { now.ns.saturating_sub(since.ns) / 1_000_000_000 } else { 0 };
        match u64::from(confirm_s).checked_sub(passed) {
            None | Some(0) => Verdict::Revert { lost },
            Some(left_s) => Verdict::Wait { lost, left_s },
        }
    }
}

/// It had its chances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent ended {MAX_ATTEMPTS} times while it was on trial")]
pub struct Exhausted;

/// What follows from a survey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What worked before works.
    Confirm,
    /// Something is missing, and there is time left.
    Wait {
        /// What.
        lost: Vec<Subject>,
        /// Seconds.
        left_s: u64,
    },
    /// The time is over.
    Revert {
        /// What is missing.
        lost: Vec<Subject>,
    },
}

/// What is missing, in one line.
#[must_use]
pub fn describe(lost: &[Subject]) -> String {
    let names: Vec<String> = lost.iter().map(ToString::to_string).collect();
    format!("{}: worked before and does not now", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Survey = Survey { center: true, gateway: true, dns: true, tunnel: true };
    const BOOT: Uuid = Uuid::from_u128(1);

    fn at(seconds: u64) -> Moment {
        Moment { boot: BOOT, ns: seconds * 1_000_000_000 }
    }

    fn begun(before: Survey) -> Ledger {
        Ledger::staged(7, None, None).begin(Some(before), at(100)).unwrap()
    }

    #[test]
    fn what_worked_must_work_again() {
        use Subject::{Center, Dns, Gateway, Tunnel};
        let without = |change: fn(&mut Survey)| {
            let mut survey = ALL;
            change(&mut survey);
            survey
        };
        let (no_center, no_dns) = (without(|s| s.center = false), without(|s| s.dns = false));
        let no_tunnel = without(|s| s.tunnel = false);
        for (before, now, lost) in [
            (ALL, ALL, vec![]),
            (ALL, no_center, vec![Center]),
            (no_center, no_center, vec![]),
            (no_center, ALL, vec![]),
            (no_center, no_dns, vec![Dns]),
            (ALL, Survey::default(), vec![Center, Gateway, Dns, Tunnel]),
            // The tunnel is wanted whatever it did before.
            (Survey::default(), Survey::default(), vec![Tunnel]),
            (no_tunnel, no_tunnel, vec![Tunnel]),
        ] {
            let ledger = begun(before);
            let verdict = if lost.is_empty() {
                Verdict::Confirm
            } else {
                Verdict::Wait { lost: lost.clone(), left_s: 10 }
            };
            assert_eq!(ledger.judge(&now, at(150), 60), verdict, "{before:?} {now:?}");
            // At the end of its time the same evidence confirms, and the lack of it reverts.
            let verdict = if lost.is_empty() { Verdict::Confirm } else { Verdict::Revert { lost } };
            assert_eq!(ledger.judge(&now, at(160), 60), verdict, "{before:?} {now:?}");
        }
    }

    #[test]
    fn a_restart_of_the_agent_goes_on_and_one_of_the_box_begins_anew() {
        let ledger = begun(ALL);
        let nothing = Survey::default();
        let again = ledger.clone().begin(Some(nothing), at(140)).unwrap();
        assert_eq!(again.before, Some(ALL), "what the change broke does not lower the measure");
        assert!(matches!(again.judge(&nothing, at(160), 60), Verdict::Revert { .. }));
        let rebooted = Moment { boot: Uuid::from_u128(2), ns: 5_000_000_000 };
        let again = ledger.begin(None, rebooted).unwrap();
        let late = Moment { ns: 64_000_000_000, ..rebooted };
        assert!(matches!(again.judge(&nothing, late, 60), Verdict::Wait { left_s: 1, .. }));
    }

    #[test]
    fn it_is_not_tried_for_ever() {
        let mut ledger = Ledger::staged(7, None, None);
        for _ in 0..MAX_ATTEMPTS {
            ledger = ledger.begin(Some(ALL), at(1)).unwrap();
        }
        assert_eq!(ledger.begin(Some(ALL), at(1)), Err(Exhausted));
    }

    #[test]
    fn the_measure_outlives_a_superseded_trial() {
        let broken = begun(ALL);
        let next = Ledger::staged(8, None, Some(&broken));
        assert!(next.wants_survey());
        let next = next.begin(Some(Survey::default()), at(200)).unwrap();
        assert_eq!(next.before, Some(ALL));
        assert_eq!(next.since, Some(at(200)), "its own time");
    }

    #[test]
    fn before_it_is_active_nothing_is_confirmed_or_reverted() {
        let staged = Ledger::staged(7, None, None);
        assert!(matches!(staged.judge(&ALL, at(9_999), 5), Verdict::Wait { .. }));
    }
}
