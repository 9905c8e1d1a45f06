//! Waiting for conditions: always with a deadline, never a bare sleep.

use crate::{Error, Result};
use std::time::{Duration, Instant};

/// First pause between two looks; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Looks until `condition` gives a value, and returns it.
///
/// # Errors
///
/// [`Error::Deadline`] naming `what` if nothing came within `limit`, or the condition's own error.
pub fn for_value<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if start.elapsed() >= limit {
            return Err(Error::Deadline { what: what.to_owned(), waited: limit });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// As [`for_value`], for a condition that is true or not.
///
/// # Errors
///
/// [`Error::Deadline`] naming `what` if it was never true within `limit`.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    for_value(what, limit, || Ok(condition().then_some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_is_seen() {
        let start = Instant::now();
        let value = for_value("20 ms", Duration::from_secs(5), || {
            Ok((start.elapsed() >= Duration::from_millis(20)).then_some(7))
        });
        assert_eq!(value.unwrap(), 7);
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_deadline_names_what_was_waited_for() {
        let error = until("the end of days", Duration::from_millis(10), || false).unwrap_err();
        assert_eq!(error.to_string(), "waited 10ms in vain for the end of days");
    }
}
