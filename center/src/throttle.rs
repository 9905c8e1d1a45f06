//! Slows down whoever tries codes, tokens and passwords: failures are counted by source.

use crate::http::connection::Source;
use crate::http::failure::Failure;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of one source within [`WINDOW`] before it has to wait. A person mistypes a few times; a whole
/// company behind one NAT address shares the count.
const MAX_FAILURES: u32 = 10;

/// From a source's first failure until it is forgotten.
const WINDOW: Duration = Duration::from_secs(60);

/// Sources remembered; above it the oldest is forgotten. Bounds the memory that strangers can take.
const MAX_SOURCES: usize = 4096;

/// Failures by source.
#[derive(Default)]
pub(crate) struct Throttle(Mutex<HashMap<Source, Failures>>);

struct Failures {
    count: u32,
    since: Instant,
}

impl Throttle {
    /// Whether `source` may try.
    ///
    /// # Errors
    ///
    /// 429 while it has failed too often.
    pub(crate) fn check(&self, source: Source) -> Result<(), Failure> {
        self.check_at(source, Instant::now())
    }

    /// `source` presented something wrong.
    pub(crate) fn failed(&self, source: Source) {
        self.failed_at(source, Instant::now());
    }

    fn check_at(&self, source: Source, now: Instant) -> Result<(), Failure> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failures) = table.get(&source) else { return Ok(()) };
        let age = now.duration_since(failures.since);
        if failures.count < MAX_FAILURES || age >= WINDOW {
            return Ok(());
        }
        let wait = (WINDOW - age).as_secs() as u32 + 1;
        Err(Failure::too_many(format!("too many wrong attempts from this address; wait {wait} s"), wait))
    }

    fn failed_at(&self, source: Source, now: Instant) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MAX_SOURCES && !table.contains_key(&source) {
            table.retain(|_, failures| now.duration_since(failures.since) < WINDOW);
            let oldest = table.iter().min_by_key(|(_, failures)| failures.since).map(|(source, _)| *source);
            if let Some(oldest) = oldest.filter(|_| table.len() >= MAX_SOURCES) {
                table.remove(&oldest);
            }
        }
        let failures = table.entry(source).or_insert(Failures { count: 0, since: now });
        if now.duration_since(failures.since) >= WINDOW {
            *failures = Failures { count: 0, since: now };
        }
        failures.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> Source {
        Source::of(std::net::Ipv4Addr::from(n).into())
    }

    #[test]
    fn a_source_waits_after_ten_failures_and_only_that_source() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for _ in 0..MAX_FAILURES {
            assert!(throttle.check_at(source(1), start).is_ok());
            throttle.failed_at(source(1), start);
        }
        assert!(throttle.check_at(source(1), start).is_err());
        assert!(throttle.check_at(source(2), start).is_ok());
        assert!(throttle.check_at(source(1), start + WINDOW).is_ok());
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_oldest() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for n in 0..MAX_SOURCES as u32 + 5 {
            throttle.failed_at(source(n), start + Duration::from_millis(n.into()));
        }
        let table = throttle.0.lock().unwrap();
        assert_eq!(table.len(), MAX_SOURCES);
        assert!(!table.contains_key(&source(0)) && table.contains_key(&source(MAX_SOURCES as u32)));
    }
}
