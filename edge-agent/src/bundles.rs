//! The configuration bundles: the one in force, the one on trial, and the way back.
//!
//! downloaded → verified → staged → active, unconfirmed → confirmed or reverted. Every step is on the disk before it
//! counts, in an order that leaves the old or the new configuration after a crash anywhere between. Rules of
//! acceptance: `edge_agent_core::bundle`; of the trial: `edge_agent_core::trial`. Who carries a bundle out, and who
//! judges its trial, is elsewhere ([`crate::apply`], [`crate::trial`]).

mod files;
mod history;

pub use history::{Fate, Revision};

use crate::clock::wall_s;
use crate::store::{self, StoreError};
use edge_agent_core::bundle::{Accepted, Mark, Refusal, Rules};
use edge_agent_core::shrink::{self, Shrinks};
use edge_agent_core::trial::{Exhausted, Ledger, Moment, Survey};
use files::{Barred, Files, Found};
use history::History;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch;
use verona_contract::api::Rejected;

/// The bundle that the data plane should carry out.
#[derive(Clone)]
pub struct Wanted {
    /// The bundle.
    pub bundle: Arc<Accepted>,
    /// Whether its trial is over. If not, a refusal or a lost center brings the one before back.
    pub confirmed: bool,
}

/// A trial that has begun.
#[derive(Clone)]
pub struct OnTrial {
    /// The bundle.
    pub bundle: Arc<Accepted>,
    /// The measure and the time.
    pub ledger: Ledger,
    /// What the kernel or the tunnel did not do, once it is carried out; none = it is not yet.
    pub carried_out: Option<Vec<Rejected>>,
}

/// The store of bundles.
pub struct Bundles {
    files: Files,
    history: History,
    rules: Rules,
    state: Mutex<State>,
    wanted: watch::Sender<Option<Wanted>>,
    /// Of `wanted`, what may be carried out: the one in force, or the one whose trial has begun.
    released: watch::Sender<Option<Wanted>>,
    trial: watch::Sender<Option<OnTrial>>,
    /// Held while files and `wanted` change together.
    order: Mutex<()>,
}

#[derive(Default)]
struct State {
    mark: Option<Mark>,
    current: Option<Arc<Accepted>>,
    refused: Option<String>,
    barred: Option<Barred>,
    /// Of the bundle that is staged.
    ledger: Option<Ledger>,
    /// The envelopes of bundles that somebody may still confirm: `staged.json` holds the newest only.
    trials: Vec<(Weak<Accepted>, Vec<u8>)>,
}

impl State {
    /// Takes out the envelope of a bundle whose trial is over, and forgets those that nobody can confirm.
    fn end_trial(&mut self, bundle: &Arc<Accepted>) -> Option<Vec<u8>> {
        self.trials.retain(|(one, _)| one.strong_count() > 0);
        let at = self.trials.iter().position(|(one, _)| one.as_ptr() == Arc::as_ptr(bundle))?;
        Some(self.trials.swap_remove(at).1)
    }
}

/// Why a bundle was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// It breaks a rule.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It would remove most of what is there.
    #[error(transparent)]
    Shrinks(#[from] Shrinks),
    /// The disk failed; to be tried again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a trial did not begin. Nothing was carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeginError {
    /// It was begun too often.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The disk failed; to be tried again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why there is no going back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RollBackError {
    /// Nothing is in force.
    #[error("no configuration is in force")]
    Nothing,
    /// It is in force.
    #[error("configuration {0} is in force")]
    InForce(u64),
    /// It is not kept, or was never confirmed.
    #[error("no confirmed configuration {0} is kept: see edgectl config history")]
    Unknown(u64),
    /// There is none before the one in force.
    #[error("no confirmed configuration before {0} is kept")]
    Oldest(u64),
    /// What is kept does not hold any more.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Bundles {
    /// Reads what is stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the disk fails. What does not read or hold is no error: it is left out and traced.
    pub fn load(directory: PathBuf, rules: Rules) -> Result<Self, StoreError> {
        store::make_directory(&directory)?;
        let history = History::open(directory.join("history"));
        let files = Files::new(directory);
        let Found { mark, current, staged, barred } = Found::read(&files, &rules)?;
        let wanted = match (&staged, &current) {
            (Some((bundle, _)), _) => Some(Wanted { bundle: bundle.clone(), confirmed: false }),
            (None, Some(bundle)) => Some(Wanted { bundle: bundle.clone(), confirmed: true }),
            (None, None) => None,
        };
        let in_force = current.clone().map(|bundle| Wanted { bundle, confirmed: true });
        let ledger = staged.map(|(_, ledger)| ledger);
        if let Some(mark) = ledger.as_ref().and_then(|ledger| ledger.instead_of) {
            // A crash may have come before it was written. If the disk is full it is written at the next start.
            if let Err(error) = files.keep_barred(&going_back(mark)) {
                tracing::error!(error = crate::center::chain(&error), "which configuration was left");
            }
        }
        let barred = ledger.as_ref().and_then(|ledger| ledger.instead_of).map(going_back).or(barred);
        let state = State { mark, current, barred, ledger, ..State::default() };
        Ok(Self {
            files,
            history,
            rules,
            state: Mutex::new(state),
            wanted: watch::Sender::new(wanted),
            released: watch::Sender::new(in_force),
            trial: watch::Sender::new(None),
            order: Mutex::new(()),
        })
    }

    /// Follows the bundle that the data plane should carry out.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<Option<Wanted>> {
        self.wanted.subscribe()
    }

    /// Follows the bundle that may be carried out already: the one in force until the trial of the wanted one has
    /// begun.
    #[must_use]
    pub fn released(&self) -> watch::Receiver<Option<Wanted>> {
        self.released.subscribe()
    }

    /// Follows the trial that has begun.
    #[must_use]
    pub fn trial(&self) -> watch::Receiver<Option<OnTrial>> {
        self.trial.subscribe()
    }

    /// The configuration in force.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Accepted>> {
        self.state().current.clone()
    }

    /// Why the newest bundle was refused; none = it was not.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.state().refused.clone()
    }

    /// Why the newest bundle, which was accepted, is not in force and will not be; none = it is, or is on trial.
    #[must_use]
    pub fn barred(&self) -> Option<Revision> {
        let state = self.state();
        let barred = state.barred.as_ref()?;
        let (seq, fate) = (barred.mark.seq, barred.fate);
        Some(Revision { seq, fate, reason: Some(barred.reason.clone()), at: 0 })
    }

    /// The number to ask the center for a successor of; none = anything.
    #[must_use]
    pub fn held(&self) -> Option<u64> {
        let barred = self.state().barred.as_ref().map(|barred| barred.mark.seq);
        self.wanted.borrow().as_ref().map(|wanted| wanted.bundle.config().seq).max(barred)
    }

    /// The configurations of the past, the newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn history(&self) -> Result<Vec<Revision>, StoreError> {
        self.history.list()
    }

    /// A configuration by its number: in force, on trial or of the past. Reads the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn revision(&self, seq: u64) -> Result<Option<Arc<Accepted>>, StoreError> {
        let wanted = self.wanted.borrow().as_ref().map(|wanted| wanted.bundle.clone());
        let live = wanted.into_iter().chain(self.current()).find(|bundle| bundle.config().seq == seq);
        if live.is_some() {
            return Ok(live);
        }
        let envelope = self.history.envelope(seq)?;
        Ok(envelope.and_then(|envelope| self.rules.accept(&envelope, None).ok()).map(Arc::new))
    }

    /// Checks and stages an envelope from the center. Returns none when it is the one that is held. Works for
    /// seconds on a large one: not for an async task.
    ///
    /// # Errors
    ///
    /// [`TakeError`].
    pub fn take(&self, envelope: &[u8]) -> Result<Option<Arc<Accepted>>, TakeError> {
        let mark = self.state().mark;
        let checked =
            self.rules.accept(envelope, mark.as_ref()).map_err(TakeError::from).and_then(|accepted| {
                if let Some(current) = self.current().filter(|current| current.mark() != accepted.mark()) {
                    shrink::check(current.config(), accepted.config())?;
                }
                Ok(accepted)
            });
        let accepted = Arc::new(checked.inspect_err(|refusal| {
            self.state().refused = Some(refusal.to_string());
        })?);
        self.state().refused = None;
        if self.held() == Some(accepted.config().seq) {
            return Ok(None);
        }
        let _order = self.order();
        // The bundle before the mark: with the mark alone, a crash in between would leave nothing to apply
        // until the center is back.
        store::replace(&self.files.staged(), envelope)?;
        self.files.keep_mark(&accepted.mark())?;
        {
            let mut state = self.state();
            state.mark = Some(accepted.mark());
            state.ledger = Some(Ledger::staged(accepted.config().seq, None, state.ledger.as_ref()));
            state.trials.retain(|(one, _)| one.strong_count() > 0);
            state.trials.push((Arc::downgrade(&accepted), envelope.to_owned()));
        }
        self.trial.send_replace(None);
        self.wanted.send_replace(Some(Wanted { bundle: accepted.clone(), confirmed: false }));
        Ok(Some(accepted))
    }

    /// Whether what works now is to be found out before the trial of `bundle` begins.
    #[must_use]
    pub fn wants_survey(&self, bundle: &Accepted) -> bool {
        let state = self.state();
        state.ledger.as_ref().is_some_and(|one| one.seq == bundle.config().seq && one.wants_survey())
    }

    /// Begins the trial of `bundle`, or goes on with it after a restart: from now on it may be carried out. Once
    /// begun it is not begun again by this agent.
    ///
    /// # Errors
    ///
    /// [`BeginError`].
    pub fn begin(
        &self,
        bundle: &Arc<Accepted>,
        before: Option<Survey>,
        now: Moment,
    ) -> Result<(), BeginError> {
        let _order = self.order();
        let seq = bundle.config().seq;
        if self.trial.borrow().as_ref().is_some_and(|trial| Arc::ptr_eq(&trial.bundle, bundle)) {
            return Ok(());
        }
        let ledger = self.state().ledger.clone().filter(|ledger| ledger.seq == seq);
        let ledger = ledger.unwrap_or_else(|| Ledger::staged(seq, None, None)).begin(before, now)?;
        self.files.keep_ledger(&ledger)?;
        self.state().ledger = Some(ledger.clone());
        self.trial.send_replace(Some(OnTrial { bundle: bundle.clone(), ledger, carried_out: None }));
        self.released.send_replace(Some(Wanted { bundle: bundle.clone(), confirmed: false }));
        Ok(())
    }

    /// The data plane and the kernel carry `bundle` out, but for `not_done`.
    pub fn carried_out(&self, bundle: &Arc<Accepted>, not_done: Vec<Rejected>) {
        self.trial.send_if_modified(|trial| {
            let trial = trial.as_mut().filter(|trial| Arc::ptr_eq(&trial.bundle, bundle));
            trial.map(|trial| trial.carried_out = Some(not_done)).is_some()
        });
    }

    /// The trial of `bundle` is over: from now on it is the one in force, also after a restart.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it is then on trial again after a restart.
    pub fn confirm(&self, bundle: &Arc<Accepted>) -> Result<(), StoreError> {
        let _order = self.order();
        let mut staged = false;
        self.wanted.send_if_modified(|wanted| {
            if let Some(wanted) = wanted.as_mut().filter(|wanted| Arc::ptr_eq(&wanted.bundle, bundle)) {
                wanted.confirmed = true;
                staged = true;
            }
            // No news for who carried it out.
            false
        });
        let (envelope, ledger) = {
            let mut state = self.state();
            state.current = Some(bundle.clone());
            state.refused = None;
            let ledger = if staged { state.ledger.take() } else { None };
            (state.end_trial(bundle), ledger)
        };
        if staged {
            self.trial.send_replace(None);
        }
        let envelope = match envelope {
            None if staged => self.files.read_staged()?,
            envelope => envelope,
        };
        let (seq, fate) = (bundle.config().seq, Fate::Confirmed);
        self.remember(&Revision { seq, fate, reason: None, at: wall_s() }, envelope.as_deref());
        match envelope {
            _ if staged => store::rename(&self.files.staged(), &self.files.current())?,
            // A newer one was staged meanwhile and may yet be refused: the file is that one's.
            Some(envelope) => return store::replace(&self.files.current(), &envelope),
            None => return Ok(()),
        }
        match ledger.and_then(|ledger| ledger.instead_of) {
            Some(mark) => self.note_rolled_back(mark.seq),
            None => {
                self.state().barred = None;
                self.files.forget_barred()?;
            }
        }
        self.files.forget_trial()
    }

    /// `bundle` is not to be: the one before is wanted again. One that was refused is tried again when the agent
    /// starts anew, one that was reverted is not.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it is then tried again after a restart.
    pub fn reject(&self, bundle: &Arc<Accepted>, fate: Fate, reason: &str) -> Result<(), StoreError> {
        let _order = self.order();
        let seq = bundle.config().seq;
        let (current, envelope, ledger) = {
            let mut state = self.state();
            state.refused = (fate == Fate::Refused).then(|| format!("bundle {seq}: {reason}"));
            let envelope = state.end_trial(bundle);
            let ours = state.ledger.as_ref().is_some_and(|ledger| ledger.seq == seq);
            (state.current.clone(), envelope, if ours { state.ledger.take() } else { None })
        };
        let is_wanted = self.wanted.borrow().as_ref().is_some_and(|one| Arc::ptr_eq(&one.bundle, bundle));
        if !is_wanted {
            return Ok(());
        }
        // The files first: whoever sees the one before come back may rely on it.
        let ended = self.end_on_disk(bundle, (fate, reason), envelope, ledger);
        self.trial.send_replace(None);
        let before = current.map(|bundle| Wanted { bundle, confirmed: true });
        self.released.send_replace(before.clone());
        self.wanted.send_replace(before);
        ended
    }

    fn end_on_disk(
        &self,
        bundle: &Accepted,
        (fate, reason): (Fate, &str),
        envelope: Option<Vec<u8>>,
        ledger: Option<Ledger>,
    ) -> Result<(), StoreError> {
        if ledger.is_some_and(|ledger| ledger.instead_of.is_some()) {
            // Going back failed, so the newest stays in force and is not barred.
            self.state().barred = None;
            self.files.forget_staged()?;
            self.files.forget_barred()?;
            return self.files.forget_trial();
        }
        if fate != Fate::Refused {
            let barred = Barred { mark: bundle.mark(), fate, reason: reason.to_owned() };
            self.state().barred = Some(barred.clone());
            self.files.keep_barred(&barred)?;
            let envelope = envelope.map_or_else(|| self.files.read_staged(), |one| Ok(Some(one)))?;
            let (seq, reason) = (bundle.config().seq, Some(reason.to_owned()));
            self.remember(&Revision { seq, fate, reason, at: wall_s() }, envelope.as_deref());
        }
        self.files.forget_staged()?;
        self.files.forget_trial()
    }

    /// Puts an older configuration on trial: `seq`, or the one that was in force before. Reads and writes the disk.
    ///
    /// # Errors
    ///
    /// [`RollBackError`]; nothing has changed.
    pub fn roll_back(&self, seq: Option<u64>) -> Result<Arc<Accepted>, RollBackError> {
        let current = self.current().ok_or(RollBackError::Nothing)?;
        let in_force = current.config().seq;
        let confirmed = |one: &&Revision| one.fate == Fate::Confirmed && one.seq != in_force;
        let history = self.history.list()?;
        let mut candidates = history.iter().filter(confirmed);
        let target = match seq {
            Some(seq) if seq == in_force => return Err(RollBackError::InForce(seq)),
            Some(seq) => candidates.find(|one| one.seq == seq).ok_or(RollBackError::Unknown(seq))?.seq,
            None => candidates.find(|one| one.seq < in_force).ok_or(RollBackError::Oldest(in_force))?.seq,
        };
        let envelope = self.history.envelope(target)?.ok_or(RollBackError::Unknown(target))?;
        let accepted = Arc::new(self.rules.accept(&envelope, None)?);
        let _order = self.order();
        let mark = self.state().mark.unwrap_or_else(|| current.mark());
        let ledger = Ledger::staged(target, Some(mark), None);
        // The ledger first: it says why an older one is staged.
        self.files.keep_ledger(&ledger)?;
        store::replace(&self.files.staged(), &envelope)?;
        let barred = going_back(mark);
        self.files.keep_barred(&barred)?;
        {
            let mut state = self.state();
            (state.ledger, state.barred) = (Some(ledger), Some(barred));
            state.trials.push((Arc::downgrade(&accepted), envelope));
        }
        self.trial.send_replace(None);
        self.wanted.send_replace(Some(Wanted { bundle: accepted.clone(), confirmed: false }));
        Ok(accepted)
    }

    fn note_rolled_back(&self, seq: u64) {
        if let Ok(Some(envelope)) = self.history.envelope(seq) {
            let revision = Revision { seq, fate: Fate::RolledBack, reason: None, at: wall_s() };
            self.remember(&revision, Some(&envelope));
        }
    }

    /// The history is for people: a full disk must not keep a configuration from being confirmed.
    fn remember(&self, revision: &Revision, envelope: Option<&[u8]>) {
        if let Some(Err(error)) = envelope.map(|envelope| self.history.note(revision, envelope)) {
            tracing::error!(error = crate::center::chain(&error), "history of configurations");
        }
    }

    fn order(&self) -> MutexGuard<'_, ()> {
        // It guards an order, no data.
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain values: a panic elsewhere cannot leave them half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn going_back(mark: Mark) -> Barred {
    Barred { mark, fate: Fate::RolledBack, reason: "a technician went back to an older one".into() }
}

#[cfg(test)]
mod tests;
