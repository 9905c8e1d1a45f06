//! Looks after the clock: asks time servers, sets the clock by what they say, or by the center where they are silent.
//!
//! Nothing waits for it. Whom to believe and what to do is `edge_agent_core::time`; whether the clock is believed is
//! [`crate::clock`]. The clock is set only where the command line says so: elsewhere it is somebody else's.

mod query;
mod wall;

pub(crate) use query::past_the_tunnel_by;
pub use wall::{KernelClock, Wall};

use crate::center::chain;
use crate::clock::Clock;
use edge_agent_core::journal::Draft;
use edge_agent_core::time::discipline::{Action, Discipline, Now, Source};
use edge_agent_core::time::majority::{Consensus, consensus};
use edge_agent_core::time::packet::Unfit;
use edge_agent_core::time::{BANISHED, QUESTIONS, SPACING, Sample, best, next_pause};
use query::QueryError;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use verona_contract::config::network::TimeServer;
use verona_contract::log::{Severity, Stream};

/// How long a name may take to resolve.
const RESOLVE: Duration = Duration::from_secs(5);

/// After the servers asked for a step, before they are asked again.
const SOON: Duration = Duration::from_secs(4);

/// While the servers are silent the center may have been heard: how often that is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What `edgectl time` shows besides the clock itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TimeInfo {
    /// Whether the agent sets the clock.
    pub sets: bool,
    /// Each server that is asked.
    pub servers: Vec<ServerInfo>,
    /// How far the servers together are ahead of the clock, nanoseconds, when they were asked last; none = they have
    /// no word in common.
    pub offset_ns: Option<i64>,
    /// Why their word was not taken.
    pub doubt: Option<String>,
    /// What was done to the clock last.
    pub last_set: Option<LastSet>,
    /// Why the system did not let the clock be set.
    pub failure: Option<String>,
}

/// The last time that the clock was set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastSet {
    /// Unix nanoseconds, by the clock as it was then.
    pub at_ns: i64,
    /// By how much, nanoseconds.
    pub by_ns: i64,
    /// `servers`, `center` or `floor`.
    pub source: String,
    /// At once, or gently.
    pub step: bool,
}

/// One server in the last round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerInfo {
    /// As configured.
    pub name: String,
    /// The address that was asked; none = the name did not resolve.
    pub address: Option<IpAddr>,
    /// How far it is ahead of the clock, nanoseconds.
    pub offset_ns: Option<i64>,
    /// The way there and back, nanoseconds.
    pub delay_ns: Option<u64>,
    /// Its distance from a reference clock.
    pub stratum: Option<u8>,
    /// Whether it is one of those that agree.
    pub agrees: bool,
    /// Why it told no time.
    pub failure: Option<String>,
}

/// Looks after one clock.
pub struct Timekeeper {
    clock: Arc<Clock>,
    wall: Box<dyn Wall>,
    sets: bool,
    /// Servers for as long as no configuration names others.
    standing: Vec<TimeServer>,
    info: Mutex<TimeInfo>,
}

impl Timekeeper {
    /// `sets`: whether the clock is to be set, and not only compared.
    #[must_use]
    pub fn new(clock: Arc<Clock>, wall: Box<dyn Wall>, sets: bool, standing: Vec<TimeServer>) -> Self {
        let info = Mutex::new(TimeInfo { sets, ..TimeInfo::default() });
        Self { clock, wall, sets, standing, info }
    }

    /// What is known now.
    #[must_use]
    pub fn info(&self) -> TimeInfo {
        self.shown().clone()
    }

    /// Why the servers' word is not taken, where servers are configured; none = it is, or nobody was asked yet.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        let info = self.shown();
        info.failure.clone().or_else(|| info.doubt.clone().filter(|_| !info.servers.is_empty()))
    }

    /// Asks each server that the last round asked one question: how many there are, and how many tell the time.
    pub(crate) async fn ask_once(&self) -> (usize, usize) {
        let servers = self.info().servers;
        let pivot_s = self.clock.floor().unix_s();
        let asked = servers.iter().map(|server| async move {
            match server.address {
                Some(address) => query::ask(address, pivot_s, &*self.wall).await.is_ok(),
                None => false,
            }
        });
        let told = futures_util::future::join_all(asked).await.into_iter().filter(|told| *told).count();
        (servers.len(), told)
    }

    /// Runs for ever. `configured` are the servers of the configuration in force, empty = none; `note` takes records.
    pub async fn run(&self, configured: impl Fn() -> Vec<TimeServer>, note: impl Fn(Draft)) {
        let (begun, mut heard, mut discipline) = (Instant::now(), None, Discipline::default());
        let mut banished: HashMap<IpAddr, Instant> = HashMap::new();
        let (mut told, mut rounds) = (false, 0);
        // A box without a battery wakes up in 1970: at least it is not before the floor.
        self.act(Discipline::meanwhile(&self.now(begun, heard)), &note, 0, Duration::ZERO);
        loop {
            let servers = Some(configured()).filter(|servers| !servers.is_empty());
            let servers = servers.unwrap_or_else(|| self.standing.clone());
            let (mut infos, samples) = self.round(&servers, &mut banished).await;
            let outcome = consensus(&samples);
            let agreeing = outcome.as_ref().map_or(&[][..], |found| &found.agreeing);
            agreeing.iter().for_each(|place| infos[*place].agrees = true);
            let (action, doubt) = discipline.decide(&self.now(begun, heard), &outcome);
            let taken = doubt.is_none();
            (told, rounds) = (taken, if taken == told { rounds + 1 } else { 0 });
            let pause = if action == Action::AskAgain { SOON } else { next_pause(told, rounds) };
            self.show(infos, outcome.as_ref().ok(), doubt.map(|doubt| doubt.to_string()), &note);
            let distance = outcome.as_ref().map_or(0, |found| found.distance_ns);
            if self.act(action, &note, distance, pause) && taken {
                heard = Some(Instant::now());
            }
            let until = Instant::now() + if servers.is_empty() { LOOK } else { pause };
            while Instant::now() < until {
                tokio::time::sleep(LOOK.min(until - Instant::now())).await;
                if !told {
                    // The center may have been heard meanwhile.
                    self.act(Discipline::meanwhile(&self.now(begun, heard)), &note, 0, pause);
                }
            }
        }
    }

    fn now(&self, begun: Instant, heard: Option<Instant>) -> Now {
        Now {
            wall_ns: self.wall.now_ns(),
            floor: self.clock.floor(),
            center_s: self.clock.center_s(),
            running: begun.elapsed(),
            heard: heard.map(|at| at.elapsed()),
        }
    }

    /// Asks every server, each a few times. Samples stand where their servers do.
    async fn round(
        &self,
        servers: &[TimeServer],
        banished: &mut HashMap<IpAddr, Instant>,
    ) -> (Vec<ServerInfo>, Vec<Option<Sample>>) {
        banished.retain(|_, since| since.elapsed() < BANISHED);
        let asked = servers.iter().map(|server| self.ask(server, banished));
        let mut infos = Vec::new();
        let mut samples = Vec::new();
        for (info, sample, denied) in futures_util::future::join_all(asked).await {
            banished.extend(info.address.filter(|_| denied).map(|address| (address, Instant::now())));
            infos.push(info);
            samples.push(sample);
        }
        (infos, samples)
    }

    /// The last value: it wants to be left alone.
    async fn ask(
        &self,
        server: &TimeServer,
        banished: &HashMap<IpAddr, Instant>,
    ) -> (ServerInfo, Option<Sample>, bool) {
        let mut info = ServerInfo {
            name: server.to_string(),
            address: None,
            offset_ns: None,
            delay_ns: None,
            stratum: None,
            agrees: false,
            failure: None,
        };
        let address = match resolve(server).await {
            Ok(addresses) => addresses.into_iter().find(|address| !banished.contains_key(address)),
            Err(failure) => {
                info.failure = Some(failure);
                return (info, None, false);
            }
        };
        let Some(address) = address else {
            info.failure = Some(Unfit::Denied.to_string());
            return (info, None, false);
        };
        info.address = Some(address);
        let (mut samples, mut denied) = (Vec::new(), false);
        for question in 0..QUESTIONS {
            if question > 0 {
                tokio::time::sleep(SPACING).await;
            }
            match query::ask(address, self.clock.floor().unix_s(), &*self.wall).await {
                Ok(sample) => samples.push(sample),
                Err(error) => {
                    denied = matches!(error, QueryError::Unfit(Unfit::Denied));
                    let leave = denied || matches!(error, QueryError::Unfit(Unfit::TooOften));
                    info.failure = Some(error.to_string());
                    if leave {
                        break;
                    }
                }
            }
        }
        let sample = best(&samples);
        if let Some(sample) = sample {
            info.failure = None;
            (info.offset_ns, info.delay_ns) = (Some(sample.offset_ns), Some(sample.delay_ns));
            info.stratum = Some(sample.stratum);
        }
        (info, sample, denied)
    }

    /// Whether it is done, or would be if the clock were ours.
    fn act(&self, action: Action, note: &impl Fn(Draft), distance_ns: u64, pause: Duration) -> bool {
        let (by_ns, source, step) = match action {
            Action::None | Action::AskAgain => return false,
            Action::Slew { by_ns } => (by_ns, Source::Servers, false),
            Action::Step { by_ns, source } => (by_ns, source, true),
        };
        if !self.sets {
            return true;
        }
        let at_ns = self.wall.now_ns();
        let distance = Duration::from_nanos(distance_ns);
        let mut done = if step { self.wall.step(by_ns) } else { self.wall.slew(by_ns, distance, pause) };
        if step && source == Source::Servers {
            // From here on it is synchronised.
            done = done.and_then(|()| self.wall.slew(0, distance, pause));
        }
        let mut info = self.shown();
        let known = info.failure.take();
        match done {
            Ok(()) => {
                let source = source.as_str().to_owned();
                info.last_set = Some(LastSet { at_ns, by_ns, source: source.clone(), step });
                drop(info);
                if step {
                    let seconds = by_ns as f64 / 1e9;
                    tracing::warn!(seconds, source, "clock set");
                    let body = format!("the clock was set by {seconds:+.3} s, by the {source}'s word");
                    let draft = Draft::new(Stream::System, "clock.set", body).severity(Severity::Warn);
                    note(draft.with("by_ns", by_ns).with("source", source));
                }
                true
            }
            Err(error) => {
                let failure = format!("the system does not let the clock be set: {}", chain(&error));
                if known.as_ref() != Some(&failure) {
                    tracing::error!("{failure}");
                }
                info.failure = Some(failure);
                false
            }
        }
    }

    /// News about the servers become a record.
    fn show(
        &self,
        servers: Vec<ServerInfo>,
        found: Option<&Consensus>,
        doubt: Option<String>,
        note: &impl Fn(Draft),
    ) {
        let mut info = self.shown();
        let (asked, before) = (!servers.is_empty(), info.doubt.take());
        info.servers = servers;
        info.offset_ns = found.map(|found| found.offset_ns);
        info.doubt.clone_from(&doubt);
        drop(info);
        match (before, doubt) {
            (None, Some(doubt)) if asked => {
                tracing::warn!(doubt, "time servers");
                note(Draft::new(Stream::System, "clock.servers.lost", doubt).severity(Severity::Warn));
            }
            (Some(_), None) => {
                note(Draft::new(
                    Stream::System,
                    "clock.servers.back",
                    "the time servers tell the time again",
                ));
            }
            _ => {}
        }
    }

    fn shown(&self) -> MutexGuard<'_, TimeInfo> {
        // Plain values: a panic elsewhere cannot leave them half-changed.
        self.info.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn resolve(server: &TimeServer) -> Result<Vec<IpAddr>, String> {
    if let Some(address) = server.address() {
        return Ok(vec![address]);
    }
    let lookup = tokio::time::timeout(RESOLVE, tokio::net::lookup_host((server.as_str(), 0)));
    match lookup.await {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(format!("the name does not resolve: {error}")),
        Err(_) => Err(format!("the name does not resolve within {} s", RESOLVE.as_secs())),
    }
}
