//! Whether the hardware watchdog is fed: only while the data plane forwards, and not without end when a restart of the
//! box has not helped.
//!
//! A pulse is the data plane's proof: every worker has taken a whole turn since it was asked. What it does not prove is
//! that a line carries; a restart would not mend that.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Between two pulses.
    pub every: Duration,
    /// How long a pulse may take. Workers that are busy answer within a second.
    pub patience: Duration,
    /// How long pulses may fail before the watchdog is left to itself: a tunnel that crashed is back within a second.
    pub grace: Duration,
    /// The same after the start, when the tunnel may have to load its modules.
    pub start: Duration,
    /// After so long with a pulse a restart counts as having helped.
    pub well: Duration,
}

impl Limits {
    /// A box's.
    pub const BOX: Self = Self {
        every: Duration::from_secs(5),
        patience: Duration::from_secs(5),
        grace: Duration::from_secs(20),
        start: Duration::from_secs(120),
        well: Duration::from_secs(600),
    };
}

/// So many restarts in a row; after them the box stays up, so that somebody can look at it.
const RESTARTS: u32 = 3;

/// What outlives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// Restarts that this has asked for since the data plane was well last.
    pub restarts: u32,
}

/// What to do after a pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether to feed now.
    pub feed: bool,
    /// What to keep from now on; none = as it is.
    pub keep: Option<Past>,
}

/// One box's, since its agent started.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    limits: Limits,
    past: Past,
    /// When a pulse came last; times are since the start.
    last: Option<Duration>,
    /// Since when pulses come without a gap.
    well_since: Option<Duration>,
    starving: bool,
}

impl Watch {
    /// After a start of the agent.
    #[must_use]
    pub const fn new(limits: Limits, past: Past) -> Self {
        Self { limits, past, last: None, well_since: None, starving: false }
    }

    /// Takes the outcome of a pulse at `now`, the time since the start.
    pub fn pulse(&mut self, now: Duration, came: bool) -> Decision {
        let before = self.past;
        if came {
            self.last = Some(now);
            self.starving = false;
            let since = *self.well_since.get_or_insert(now);
            if now.saturating_sub(since) >= self.limits.well {
                self.past = Past::default();
            }
        } else {
            self.well_since = None;
        }
        let limit = self.last.map_or(self.limits.start, |last| last + self.limits.grace);
        let feed = now < limit || self.past.restarts >= RESTARTS && !self.starving;
        if !feed && !self.starving {
            self.starving = true;
            self.past.restarts += 1;
        }
        Decision { feed, keep: Some(self.past).filter(|past| *past != before) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn it_is_fed_while_pulses_come() {
        let mut watch = Watch::new(Limits::BOX, Past::default());
        for second in (0..3600).step_by(5) {
            assert_eq!(watch.pulse(S(second), true), Decision { feed: true, keep: None });
        }
        // A gap as a restart of the tunnel makes it.
        assert!(watch.pulse(S(3605), false).feed && watch.pulse(S(3610), true).feed);
    }

    #[test]
    fn it_starves_when_they_stop_and_eats_when_they_are_back() {
        let mut watch = Watch::new(Limits::BOX, Past::default());
        assert!(watch.pulse(S(5), true).feed);
        assert!(watch.pulse(S(24), false).feed);
        assert_eq!(watch.pulse(S(25), false), Decision { feed: false, keep: Some(Past { restarts: 1 }) });
        assert_eq!(
            watch.pulse(S(30), false),
            Decision { feed: false, keep: None },
            "one restart is asked for"
        );
        assert!(watch.pulse(S(35), true).feed, "it came back before the box went down");
    }

    #[test]
    fn a_start_takes_its_time() {
        let mut watch = Watch::new(Limits::BOX, Past::default());
        assert!(watch.pulse(S(119), false).feed);
        assert!(!watch.pulse(S(120), false).feed);
    }

    #[test]
    fn a_box_that_restarts_do_not_help_stays_up() {
        let mut past = Past::default();
        for restart in 1..=RESTARTS {
            let mut watch = Watch::new(Limits::BOX, past);
            let decision = watch.pulse(S(120), false);
            assert!(!decision.feed, "{restart}");
            past = decision.keep.unwrap();
            assert_eq!(past.restarts, restart);
        }
        let mut watch = Watch::new(Limits::BOX, past);
        assert_eq!(watch.pulse(S(5000), false), Decision { feed: true, keep: None });
        // Ten minutes of forwarding, and it may restart again.
        assert_eq!(watch.pulse(S(5005), true).keep, None);
        assert_eq!(watch.pulse(S(5604), true).keep, None);
        assert_eq!(watch.pulse(S(5605), true).keep, Some(Past::default()));
        assert!(!watch.pulse(S(5625), false).feed);
    }

    #[test]
    fn short_wells_do_not_count() {
        let mut watch = Watch::new(Limits::BOX, Past { restarts: 1 });
        for second in (0..2000).step_by(5) {
            // A pulse is missing every minute.
            assert_eq!(watch.pulse(S(second), second % 60 != 0).keep, None);
        }
    }
}
