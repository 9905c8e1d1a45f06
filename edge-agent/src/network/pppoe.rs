//! The sessions of PPPoE of the uplinks: which ones there should be, what the dialler is told, what came of it.
//!
//! The dialler ([`crate::dialler`]) starts a program for each and passes on what that says. Here is decided when one is
//! dialled again: at once after one that worked for a while, later and later where nobody answers, and slowly where
//! the password is wrong, since some providers lock an account that knocks too often.

use crate::dialler::{Event, News, Order};
use edge_agent_core::network::lease::Lease;
use edge_agent_core::network::pppoe::{Failure, Said, Session, held};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::time::Instant;
use verona_contract::config::network::ZoneName;
use zeroize::Zeroizing;

/// Until it is dialled again: the first time, and at most; with a wrong password at least. One that stood for a while
/// begins anew.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
const REFUSED: Duration = Duration::from_secs(15);
const A_WHILE: Duration = Duration::from_secs(60);

/// The sessions of all uplinks that want one.
#[derive(Default)]
pub(crate) struct Sessions {
    /// Before it is used for the first time: that needs the runtime.
    socket: Option<StdUnixStream>,
    dialler: Option<Dialler>,
    lost: bool,
    lines: BTreeMap<ZoneName, Line>,
}

struct Dialler {
    news: Lines<BufReader<UnixStream>>,
    orders: StdUnixStream,
}

struct Line {
    /// None = not any more: it is only waited for its end.
    wanted: Option<Session>,
    state: State,
    pause: Duration,
    /// Why it is not up, as far as anything was said.
    failure: Option<String>,
    /// Whether there was a cable in its port, as it was told last.
    plugged: bool,
}

enum State {
    /// The program runs.
    Running {
        address: Option<Ipv4Addr>,
        servers: Vec<Ipv4Addr>,
        since: Instant,
        /// What it is, if it is not what is wanted any more.
        stopping: bool,
        /// The first thing that was said to be wrong: it is the cause of the others.
        said: Option<Failure>,
    },
    /// It will be dialled.
    Waiting(Instant),
}

impl Sessions {
    /// Will give orders through `socket`; none = nobody takes any.
    pub(crate) fn new(socket: Option<StdUnixStream>) -> Self {
        Self { socket, ..Self::default() }
    }

    /// Keeps these sessions and no others.
    pub(crate) fn run(&mut self, wanted: Vec<Session>) {
        for (name, line) in &mut self.lines {
            let now = wanted.iter().find(|session| session.line == *name);
            if line.wanted.as_ref() == now {
                continue;
            }
            line.wanted = now.cloned();
            line.pause = FIRST;
            match &mut line.state {
                State::Running { stopping, .. } => {
                    *stopping = true;
                    give(&mut self.dialler, &Order::Stop(name.clone()));
                }
                State::Waiting(until) => *until = Instant::now(),
            }
        }
        self.lines.retain(|_, line| line.wanted.is_some() || matches!(line.state, State::Running { .. }));
        for session in wanted {
            self.lines.entry(session.line.clone()).or_insert_with(|| Line {
                wanted: Some(session),
                state: State::Waiting(Instant::now()),
                pause: FIRST,
                failure: None,
                plugged: true,
            });
        }
        self.dial();
    }

    /// Tells whether there is a cable in the port of an uplink: one that is plugged in again is worth a try at once.
    pub(crate) fn plugged(&mut self, name: &ZoneName, now: bool) {
        let Some(line) = self.lines.get_mut(name) else { return };
        if !std::mem::replace(&mut line.plugged, now)
            && now
            && let State::Waiting(until) = &mut line.state
        {
            (*until, line.pause) = (Instant::now(), FIRST);
            self.dial();
        }
    }

    /// Waits for the next news and takes it. Cancel safe.
    pub(crate) async fn next(&mut self) {
        let due = self.lines.values().filter_map(|line| match line.state {
            State::Waiting(until) => Some(until),
            State::Running { .. } => None,
        });
        let due = due.min();
        let Some(dialler) = &mut self.dialler else { return std::future::pending().await };
        let redial = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            said = dialler.news.next_line() => match said {
                Ok(Some(text)) => self.take(&text),
                Ok(None) | Err(_) => self.lose(),
            },
            () = redial => self.dial(),
        }
    }

    /// What the session of an uplink has, while it is up.
    pub(crate) fn lease(&self, name: &ZoneName) -> Option<Lease> {
        match &self.lines.get(name)?.state {
            State::Running { address: Some(address), servers, stopping: false, .. } => {
                Some(held(*address, servers))
            }
            _ => None,
        }
    }

    /// Why the session of an uplink is not up.
    pub(crate) fn failure(&self, name: &ZoneName) -> Option<&str> {
        self.lines.get(name)?.failure.as_deref()
    }

    /// Begins those whose time has come.
    fn dial(&mut self) {
        let now = Instant::now();
        for line in self.lines.values_mut() {
            let (State::Waiting(until), Some(session)) = (&line.state, &line.wanted) else { continue };
            if *until > now {
                continue;
            }
            if self.dialler.is_none()
                && let Some(socket) = self.socket.take()
            {
                self.dialler = connect(socket).map_err(|error| tracing::error!(%error, "no dialler")).ok();
            }
            if !give(&mut self.dialler, &Order::Start(session.clone())) {
                line.failure.get_or_insert_with(|| "this box has no program for PPPoE".to_owned());
                line.state = State::Waiting(now + LONGEST);
                continue;
            }
            tracing::debug!(name = %session.line, port = %session.port, "dialling");
            let (address, servers) = (None, Vec::new());
            line.state = State::Running { address, servers, since: now, stopping: false, said: None };
        }
    }

    fn take(&mut self, text: &str) {
        let Ok(News { line: name, event }) = serde_json::from_str(text) else { return };
        let Some(line) = self.lines.get_mut(&name) else { return };
        let State::Running { address, servers, since, stopping, said } = &mut line.state else { return };
        match event {
            Event::Said(text) => {
                tracing::debug!(%name, text, "pppd");
                match Said::read(&text) {
                    Some(Said::Address(given)) => {
                        tracing::info!(%name, address = %given, "pppoe session");
                        (*address, *since, line.failure) = (Some(given), Instant::now(), None);
                    }
                    Some(Said::Server(server)) if !servers.contains(&server) => servers.push(server),
                    Some(Said::Failed(failure)) => _ = said.get_or_insert(failure),
                    Some(Said::Server(_)) | None => {}
                }
            }
            Event::Ended(ended) => {
                let reason = said.map_or_else(|| format!("pppd ended: {ended}"), |said| said.to_string());
                let worked = address.is_some() && since.elapsed() >= A_WHILE;
                let least = if *said == Some(Failure::Refused) { REFUSED } else { FIRST };
                let pause = if *stopping { Duration::ZERO } else { line.pause.max(least) };
                tracing::warn!(%name, reason, again_in = ?pause, "pppoe session ended");
                line.pause = if worked || *stopping { FIRST } else { (pause * 2).min(LONGEST).max(least) };
                line.failure = Some(reason);
                line.state = State::Waiting(Instant::now() + pause);
                self.lines.retain(|_, line| line.wanted.is_some());
                self.dial();
            }
        }
    }

    /// Its sessions went with it.
    fn lose(&mut self) {
        (self.dialler, self.lost) = (None, true);
        self.lines.clear();
    }

    /// Whether there is anybody who dials.
    pub(crate) const fn can_dial(&self) -> bool {
        self.socket.is_some() || self.dialler.is_some()
    }

    /// Whether the dialler has ended: the agent cannot start another any more.
    pub(crate) const fn is_lost(&self) -> bool {
        self.lost
    }
}

fn connect(socket: StdUnixStream) -> io::Result<Dialler> {
    socket.set_nonblocking(true)?;
    let orders = socket.try_clone()?;
    Ok(Dialler { news: BufReader::new(UnixStream::from_std(socket)?).lines(), orders })
}

/// Whether it was taken. Orders are few and small: a socket that is full belongs to a dialler that does not work.
fn give(dialler: &mut Option<Dialler>, order: &Order) -> bool {
    let Some(Dialler { orders, .. }) = dialler else { return false };
    let mut text = Zeroizing::new(Vec::with_capacity(4096));
    // Plain data always encodes.
    let _ = serde_json::to_writer(&mut *text, order);
    text.push(b'\n');
    orders.write(&text).is_ok_and(|written| written == text.len())
}
