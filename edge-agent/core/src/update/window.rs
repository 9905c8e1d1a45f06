//! Whether a box may restart now: the maintenance window of its configuration.

use verona_contract::config::{Day, Window};

const DAY_S: i64 = 86_400;
const WEEK: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

/// Whether the window is open at `unix_s`. One that opened before midnight is open after it, too.
#[must_use]
pub fn is_open(window: Option<&Window>, unix_s: i64) -> bool {
    let Some(window) = window else { return true };
    let length = i64::from(window.minutes) * 60;
    // A window is at most a day long: today's or yesterday's.
    [0, 1].into_iter().any(|days_ago| {
        let day = unix_s.div_euclid(DAY_S) - days_ago;
        // 1970-01-01 was a Thursday.
        let name = WEEK[usize::try_from((day + 3).rem_euclid(7)).unwrap_or_default()];
        let opened = day * DAY_S + i64::from(window.start.minutes()) * 60;
        let counts = window.days.is_empty() || window.days.contains(&name);
        counts && (opened..opened + length).contains(&unix_s)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], start: &str, minutes: u16) -> Window {
        Window { days: days.to_vec(), start: start.parse().unwrap(), minutes }
    }

    #[test]
    fn windows() {
        // 2026-11-23T00:00:00Z, a Monday.
        const MONDAY: i64 = 1_795_392_000;
        let at = |day: i64, hour: i64, minute: i64| MONDAY + day * DAY_S + hour * 3600 + minute * 60;
        assert!(is_open(None, 0));
        let nightly = window(&[], "17:00", 120);
        assert!(!is_open(Some(&nightly), at(0, 16, 59)));
        assert!(is_open(Some(&nightly), at(0, 17, 0)));
        assert!(is_open(Some(&nightly), at(3, 18, 59)));
        assert!(!is_open(Some(&nightly), at(0, 19, 0)));
        let over_midnight = window(&[Day::Sun], "23:00", 120);
        assert!(is_open(Some(&over_midnight), at(6, 23, 30)));
        assert!(is_open(Some(&over_midnight), at(7, 0, 59)), "it opened on Sunday");
        assert!(!is_open(Some(&over_midnight), at(7, 1, 0)));
        assert!(!is_open(Some(&over_midnight), at(7, 23, 30)), "a Monday");
        let whole_day = window(&[Day::Mon], "00:00", 1440);
        assert!(is_open(Some(&whole_day), at(0, 0, 0)) && is_open(Some(&whole_day), at(0, 23, 59)));
        assert!(!is_open(Some(&whole_day), at(1, 0, 0)) && !is_open(Some(&whole_day), -1));
    }
}
