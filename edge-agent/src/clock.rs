//! The box's clock: evidence for its trust, the time floor on the disk, the time that TLS sees.
//!
//! The decision is `edge_agent_core::clock`. TLS is verified at the wall clock or at the floor, whichever is
//! later, so that a box which woke up in 1970 still reaches its center.

use crate::store;
use edge_agent_core::clock::{Evidence, Floor, TrustMode, Verdict, judge};
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// When this program was released, Unix seconds: set `SOURCE_DATE_EPOCH` at build time for the true moment. The
/// constant is that of the first release.
const BUILT: i64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => match i64::from_str_radix(text, 10) {
        Ok(unix_s) => unix_s,
        Err(_) => FIRST_RELEASE,
    },
    None => FIRST_RELEASE,
};

/// 2026-01-01T00:00:00Z.
const FIRST_RELEASE: i64 = 1_767_225_600;

/// How often the floor is written while the clock is believed.
const SAVE_EVERY: Duration = Duration::from_secs(3600);

/// The clock and what is known about it.
#[derive(Debug)]
pub struct Clock {
    mode: TrustMode,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    floor: Floor,
    /// The center's `Date` and when it was heard.
    center: Option<(i64, Instant)>,
    saved: Option<Instant>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    unix_s: i64,
}

impl Clock {
    /// The clock with the floor saved at `path`. A file that does not read counts as none.
    #[must_use]
    pub fn load(mode: TrustMode, path: PathBuf) -> Self {
        let saved = store::read(&path, 1024).ok().flatten();
        let saved = saved.and_then(|json| serde_json::from_slice::<Saved>(&json).ok());
        let floor = Floor::of_build(BUILT).raised(saved.map_or(i64::MIN, |saved| saved.unix_s));
        let state = State { floor, center: None, saved: None };
        Self { mode, path, state: Mutex::new(state) }
    }

    /// Raises the floor: this moment has passed.
    pub fn raise_floor(&self, unix_s: i64) {
        let mut state = self.state();
        state.floor = state.floor.raised(unix_s);
    }

    /// Notes the `Date` of an answer that came over TLS verified against the pinned CA.
    pub fn heard_center(&self, unix_s: i64) {
        self.state().center = Some((unix_s, Instant::now()));
    }

    /// Judges the clock now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let evidence = Evidence {
            wall_s: wall_s(),
            floor: self.floor(),
            kernel_synchronised: kernel_synchronised(),
            center_s: self.center_s(),
        };
        judge(self.mode, &evidence)
    }

    /// What the clock cannot be before.
    #[must_use]
    pub fn floor(&self) -> Floor {
        self.state().floor
    }

    /// What the center's last `Date`, carried on by a clock that does not step, says now. Unix seconds.
    #[must_use]
    pub fn center_s(&self) -> Option<i64> {
        let (unix_s, heard) = self.state().center?;
        Some(unix_s.saturating_add(i64::try_from(heard.elapsed().as_secs()).unwrap_or(i64::MAX)))
    }

    /// Saves the floor now and then, while the clock is believed. Writes the disk.
    ///
    /// # Errors
    ///
    /// [`store::StoreError`].
    pub fn save(&self) -> Result<(), store::StoreError> {
        if !self.verdict().trusted() {
            return Ok(());
        }
        let due = self.state().saved.is_none_or(|saved| saved.elapsed() >= SAVE_EVERY);
        if due {
            let json = format!("{{\"unix_s\":{}}}", wall_s());
            store::replace(&self.path, json.as_bytes())?;
            self.state().saved = Some(Instant::now());
        }
        Ok(())
    }

    /// The time by which certificates of TLS are judged.
    #[must_use]
    pub fn tls_time(&self) -> UnixTime {
        let seconds = wall_s().max(self.state().floor.unix_s());
        UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain values: a panic elsewhere cannot leave them half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wall clock, Unix nanoseconds. Before 1970 is 1970.
#[must_use]
pub fn wall_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The wall clock, Unix seconds.
#[must_use]
pub fn wall_s() -> i64 {
    wall_ns() / 1_000_000_000
}

/// Nanoseconds since the box booted, by a clock that never steps.
#[must_use]
pub fn since_boot_ns() -> u64 {
    // Fails only for clocks that the kernel does not know; this one is 15 years old.
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    let since = time.map(Duration::from).unwrap_or_default();
    // 584 years.
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The kernel's name for this boot.
///
/// # Errors
///
/// [`store::StoreError`] when `/proc` does not tell.
pub fn boot_id() -> Result<uuid::Uuid, store::StoreError> {
    let path = std::path::Path::new("/proc/sys/kernel/random/boot_id");
    let fail = |error| store::StoreError::new("read", path, error);
    let text = std::fs::read_to_string(path).map_err(fail)?;
    uuid::Uuid::try_parse(text.trim()).map_err(|error| fail(std::io::Error::other(error)))
}

/// Whether someone disciplines the kernel's clock (adjtimex(2)).
fn kernel_synchronised() -> bool {
    // SAFETY: `timex` is plain data for which all zeros is valid, and `modes` 0 only reads.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    state >= 0 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_center_vouches_and_the_floor_lasts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("clock.json");
        let clock = Clock::load(TrustMode::Always, path.clone());
        assert!(clock.verdict().trusted());
        clock.save().unwrap();
        clock.raise_floor(wall_s() + 1000);
        assert_eq!(clock.verdict(), Verdict::BelowFloor);
        assert!(clock.tls_time().as_secs() >= (wall_s() + 999) as u64);
        let again = Clock::load(TrustMode::Always, path.clone());
        assert!(again.state().floor.unix_s() > FIRST_RELEASE);
        std::fs::write(&path, b"garbage").unwrap();
        assert_eq!(Clock::load(TrustMode::Always, path).state().floor.unix_s(), BUILT);
    }
}
