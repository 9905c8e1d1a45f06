//! Asks the data plane for pulses, and feeds the hardware watchdog while they come.
//!
//! The device runs already when the agent starts (`image/init/src/watchdog.rs`), and is never disarmed: an agent that dies
//! is back within a second, one that hangs, or a data plane that does, lets the box restart. The rules are `edge_agent_core::watchdog`.

use crate::control::{self, ControlError};
use crate::store::{self, StoreError};
use crate::sys;
use edge_agent_core::journal::Draft;
use edge_agent_core::watchdog::{Limits, Past, Watch};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use verona_contract::control::Command;
use verona_contract::log::{Severity, Stream};

/// The file of what outlives a restart is some octets.
const MAX_PAST: usize = 1024;

/// The data plane's pulse, and the device that depends on it.
pub struct Watchdog {
    device: Option<Mutex<File>>,
    /// Of what outlives a restart.
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why the data plane, which answers, showed no pulse the last time; none = it did, or does not answer at all.
    stuck: Option<String>,
    fed: bool,
}

impl Watchdog {
    /// Opens `device`, if there is to be one, and gives it `limit`. `path` is the file of what outlives a restart.
    #[must_use]
    pub fn open(device: Option<&Path>, limit: Duration, path: PathBuf) -> Self {
        let opened = device.and_then(|device| match open(device, limit) {
            Ok(file) => Some(Mutex::new(file)),
            Err(error) => {
                // A box without one runs as well as it can.
                tracing::warn!(device = %device.display(), %error, "no hardware watchdog");
                None
            }
        });
        Self { device: opened, path, state: Mutex::new(State { stuck: None, fed: true }) }
    }

    /// Whether the device is fed; none = there is none.
    #[must_use]
    pub fn is_fed(&self) -> Option<bool> {
        self.device.as_ref().map(|_| self.state().fed)
    }

    /// Why the data plane shows no pulse although it answers; none = it does, or is not there.
    #[must_use]
    pub fn stuck(&self) -> Option<String> {
        self.state().stuck.clone()
    }

    /// Runs for ever. `tunnel` is its control socket; `note` takes records.
    pub async fn run(&self, limits: Limits, tunnel: &Path, note: impl Fn(Draft)) {
        let begun = Instant::now();
        let mut watch = Watch::new(limits, self.past());
        let mut rounds = interval(limits.every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let mut answers = true;
            let missing = match timeout(limits.patience, control::ask(tunnel, Command::Pulse)).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => {
                    answers = !matches!(error, ControlError::Connection { .. });
                    Some(crate::center::chain(&error))
                }
                Err(_) => Some(format!("the data plane took no turn within {:?}", limits.patience)),
            };
            let decision = watch.pulse(begun.elapsed(), missing.is_none());
            if let Some(past) = decision.keep
                && self.device.is_some()
                && let Err(error) = self.keep(past)
            {
                tracing::error!(error = crate::center::chain(&error), "watchdog");
            }
            let was_fed = {
                let mut state = self.state();
                state.stuck = missing.clone().filter(|_| answers);
                std::mem::replace(&mut state.fed, decision.feed)
            };
            if self.device.is_some() && was_fed && !decision.feed {
                let why = missing.unwrap_or_default();
                tracing::error!(why, "the watchdog is not fed any more: the box will restart");
                let body = format!("the data plane does not forward, the box will restart: {why}");
                note(Draft::new(Stream::System, "watchdog.starved", body).severity(Severity::Error));
            }
            if decision.feed {
                self.feed();
            }
        }
    }

    fn feed(&self) {
        let Some(device) = &self.device else { return };
        let mut device = device.lock().unwrap_or_else(PoisonError::into_inner);
        // Anything but `V`, which would disarm it.
        if let Err(error) = device.write_all(b"\0") {
            tracing::error!(%error, "watchdog");
        }
    }

    /// What does not read counts as nothing.
    fn past(&self) -> Past {
        let octets = store::read(&self.path, MAX_PAST).ok().flatten();
        octets.and_then(|octets| serde_json::from_slice(&octets).ok()).unwrap_or_default()
    }

    fn keep(&self, past: Past) -> Result<(), StoreError> {
        // Plain data always encodes.
        store::replace(&self.path, &serde_json::to_vec(&past).unwrap_or_default())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Plain values: a panic elsewhere cannot leave them half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Feeds `device`, if there is one, for an agent that ends at once.
pub fn feed_once(device: Option<&Path>, limit: Duration) {
    // To open it is to feed it. A box without one needs nothing.
    let _ = device.map(|device| open(device, limit));
}

fn open(device: &Path, limit: Duration) -> io::Result<File> {
    let file = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(device)?;
    match sys::set_watchdog_limit(file.as_raw_fd(), limit) {
        Ok(seconds) => tracing::info!(device = %device.display(), seconds, "hardware watchdog"),
        // It keeps its own, then.
        Err(error) => tracing::warn!(device = %device.display(), %error, "watchdog's time not set"),
    }
    Ok(file)
}
