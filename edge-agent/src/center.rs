//! Calls to the center: each activity has its channel and its back-off, and all of them together know whether
//! the center is there.

use crate::clock::wall_ns;
use crate::endpoint::Endpoint;
use crate::https::{Answer, Channel, HttpError, Request};
use crate::spool::Spool;
use edge_agent_core::backoff::Backoff;
use edge_agent_core::journal::Draft;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use verona_contract::log::{Severity, Stream};

/// One failure may be a connection that an idle timer closed; the second in a row is news.
const UNREACHABLE_AFTER: u32 = 2;

/// Widest window after answers that were of no use: a center that serves an old list is asked again soon, since
/// the next one may cut somebody, and not in a loop.
const USELESS_CAP: Duration = Duration::from_secs(30);

/// Whether the center answers.
pub struct Contact {
    authority: String,
    state: Mutex<State>,
    journal: OnceLock<Spool>,
}

#[derive(Default)]
struct State {
    last_ns: Option<i64>,
    failures: u32,
    failure: Option<String>,
    told: bool,
    /// Why the last answer was that we are not who we say, or may not.
    refusal: Option<String>,
}

impl Contact {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(endpoint: &Endpoint) -> Self {
        let authority = endpoint.authority().to_owned();
        Self { authority, state: Mutex::default(), journal: OnceLock::new() }
    }

    /// From now on changes are logged.
    pub fn log_to(&self, spool: Spool) {
        // The spool is opened once.
        let _ = self.journal.set(spool);
    }

    /// Last answer of any kind, Unix nanoseconds.
    #[must_use]
    pub fn last_ns(&self) -> Option<i64> {
        self.state().last_ns
    }

    /// Why it counts as unreachable; none = it does not.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let state = self.state();
        state.failure.clone().filter(|_| state.failures >= UNREACHABLE_AFTER || state.last_ns.is_none())
    }

    /// Why the center does not accept us; none = it does, or was not heard.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        self.state().refusal.clone()
    }

    fn answered(&self, refusal: Option<String>) {
        let mut state = self.state();
        let back = state.told;
        *state = State { last_ns: Some(wall_ns()), refusal, ..State::default() };
        drop(state);
        if back {
            tracing::info!(center = self.authority, "center is reachable again");
            self.note(Draft::new(Stream::System, "center.reachable", "the center answers again"));
        }
    }

    fn failed(&self, error: &HttpError) {
        let mut state = self.state();
        let reason = chain(error);
        state.failures = state.failures.saturating_add(1);
        state.failure = Some(reason.clone());
        let news = state.failures >= UNREACHABLE_AFTER && !state.told;
        state.told |= news;
        drop(state);
        if news {
            tracing::warn!(center = self.authority, reason, "center is unreachable");
            let draft = Draft::new(Stream::System, "center.unreachable", reason).severity(Severity::Warn);
            self.note(draft);
        }
    }

    fn note(&self, draft: Draft) {
        if let Some(journal) = self.journal.get() {
            journal.note(draft);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain values: a panic elsewhere cannot leave them half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text += ": ";
            text += &cause_text;
        }
        source = cause.source();
    }
    text
}

/// The calls of one activity.
pub struct Caller {
    channel: Channel,
    contact: Arc<Contact>,
    backoff: Backoff,
    useless: Backoff,
}

/// A call that failed, and how long to wait before the next one.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: HttpError,
    /// Drawn from the back-off's window.
    pub delay: Duration,
}

impl Caller {
    /// `cap` is the widest window of the back-off.
    #[must_use]
    pub const fn new(endpoint: Arc<Endpoint>, contact: Arc<Contact>, cap: Duration) -> Self {
        let (backoff, useless) = (Backoff::new(cap), Backoff::new(USELESS_CAP));
        Self { channel: Channel::new(endpoint), contact, backoff, useless }
    }

    /// One call.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn call(&mut self, request: Request<'_>) -> Result<Answer, Failure> {
        let answer = self.channel.send(request).await;
        self.judge(answer.as_ref().err());
        answer.map_err(|error| {
            let delay = self.delay(error.retry_after());
            Failure { error, delay }
        })
    }

    /// The channel itself, for exchanges of several steps; tell [`Caller::judge`] how they went.
    pub const fn channel(&mut self) -> &mut Channel {
        &mut self.channel
    }

    /// Notes how a call went.
    pub fn judge(&mut self, error: Option<&HttpError>) {
        match error {
            None => {
                self.backoff.succeeded();
                self.contact.answered(None);
            }
            Some(error) if error.is_answer() => {
                self.contact.answered(error.refuses_us().then(|| chain(error)));
            }
            Some(error) => self.contact.failed(error),
        }
    }

    /// The last answer was of use.
    pub const fn useful(&mut self) {
        self.useless.succeeded();
    }

    /// The last answer was of no use: how long to wait before the next attempt.
    pub fn useless(&mut self) -> Duration {
        self.useless.delay(entropy(), None)
    }

    /// How long to wait before the next attempt.
    pub fn delay(&mut self, retry_after: Option<Duration>) -> Duration {
        self.backoff.delay(entropy(), retry_after)
    }
}

/// 64 random bits, for jitter.
#[must_use]
pub fn entropy() -> u64 {
    let mut octets = [0; 8];
    // Without randomness the delay is zero windows of jitter, not a failure: the next call will tell.
    let _ = aws_lc_rs::rand::fill(&mut octets);
    u64::from_le_bytes(octets)
}
