//! Whether the wall clock may be believed, and the time that it can never be before.
//!
//! A box without a battery wakes up in 1970. The floor is the newest moment that has certainly passed: the
//! build of this program, the time saved last, the newest signed bundle. Below it the clock is wrong, above
//! it someone must vouch: the kernel's synchronisation state, or the center over authenticated TLS. NTP, by which the
//! kernel's clock is synchronised, is not authenticated: against the center's word it counts for nothing.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How far the center's `Date` may be off for the clock to count as right. The header has whole seconds and
/// is as old as the answer's way; certificates and lists live for hours.
pub const TOLERANCE: Duration = Duration::from_secs(60);

/// Seconds of Unix time that have certainly passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Floor(i64);

impl Floor {
    /// The floor that a build gives.
    #[must_use]
    pub const fn of_build(unix_s: i64) -> Self {
        Self(unix_s)
    }

    /// The floor after one more moment became known to have passed.
    #[must_use]
    pub fn raised(self, unix_s: i64) -> Self {
        Self(self.0.max(unix_s))
    }

    /// Unix seconds.
    #[must_use]
    pub const fn unix_s(self) -> i64 {
        self.0
    }
}

/// Who may vouch for the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrustMode {
    /// The kernel, or else the center.
    #[default]
    Auto,
    /// The clock is believed without evidence, above the floor.
    Always,
    /// The clock is never believed: lists are ordered by number only.
    Never,
}

impl FromStr for TrustMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err("must be auto, always or never"),
        }
    }
}

/// What is known about the clock at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// The wall clock, Unix seconds.
    pub wall_s: i64,
    /// What it cannot be before.
    pub floor: Floor,
    /// Whether the kernel says that it is synchronised (`STA_UNSYNC` is clear).
    pub kernel_synchronised: bool,
    /// What the center's last `Date`, carried on by the monotonic clock, says now. Unix seconds.
    pub center_s: Option<i64>,
}

/// Why the clock is believed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel synchronises it.
    Kernel,
    /// The center's clock agrees.
    Center,
    /// The operator said so.
    Configured,
    /// It is before the floor.
    BelowFloor,
    /// The center's clock differs by more than [`TOLERANCE`].
    Disagrees,
    /// No one vouches for it.
    NoEvidence,
    /// The operator said not to.
    Distrusted,
}

impl Verdict {
    /// Whether certificate and list dates may be judged by it.
    #[must_use]
    pub const fn trusted(self) -> bool {
        matches!(self, Self::Kernel | Self::Center | Self::Configured)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "synchronised by the kernel",
            Self::Center => "agrees with the center",
            Self::Configured => "trusted by configuration",
            Self::BelowFloor => "before the time floor",
            Self::Disagrees => "differs from the center by more than 60 s",
            Self::NoEvidence => "not synchronised, and the center was not heard yet",
            Self::Distrusted => "distrusted by configuration",
        })
    }
}

/// Judges the clock.
#[must_use]
pub fn judge(mode: TrustMode, evidence: &Evidence) -> Verdict {
    if mode == TrustMode::Never {
        return Verdict::Distrusted;
    }
    if evidence.wall_s < evidence.floor.unix_s() {
        return Verdict::BelowFloor;
    }
    if mode == TrustMode::Always {
        return Verdict::Configured;
    }
    match evidence.center_s {
        Some(center) if center.abs_diff(evidence.wall_s) > TOLERANCE.as_secs() => Verdict::Disagrees,
        _ if evidence.kernel_synchronised => Verdict::Kernel,
        Some(_) => Verdict::Center,
        None => Verdict::NoEvidence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let floor = Floor::of_build(1_000).raised(2_000).raised(1_500);
        assert_eq!(floor.unix_s(), 2_000);
        for (name, mode, wall_s, kernel_synchronised, center_s, verdict) in [
            ("kernel", TrustMode::Auto, 3_000, true, None, Verdict::Kernel),
            ("kernel, but in 1970", TrustMode::Auto, 5, true, Some(5), Verdict::BelowFloor),
            ("kernel and center", TrustMode::Auto, 3_000, true, Some(3_060), Verdict::Kernel),
            ("kernel against center", TrustMode::Auto, 3_000, true, Some(3_061), Verdict::Disagrees),
            ("center agrees", TrustMode::Auto, 3_000, false, Some(3_060), Verdict::Center),
            ("center differs", TrustMode::Auto, 3_000, false, Some(3_061), Verdict::Disagrees),
            ("clock ahead", TrustMode::Auto, 3_061, false, Some(3_000), Verdict::Disagrees),
            ("nobody", TrustMode::Auto, 3_000, false, None, Verdict::NoEvidence),
            ("always", TrustMode::Always, 3_000, false, Some(9_000), Verdict::Configured),
            ("always, but in 1970", TrustMode::Always, 1_999, true, None, Verdict::BelowFloor),
            ("at the floor", TrustMode::Always, 2_000, false, None, Verdict::Configured),
            ("never", TrustMode::Never, 3_000, true, Some(3_000), Verdict::Distrusted),
        ] {
            let evidence = Evidence { wall_s, floor, kernel_synchronised, center_s };
            assert_eq!(judge(mode, &evidence), verdict, "{name}");
        }
    }
}
