//! The configuration bundles on the disk: the confirmed one, the one on trial, and the newest ever accepted.
//!
//! `config/current.json` is in force, `config/staged.json` was accepted and is not confirmed yet,
//! `config/mark.json` remembers number and hash of the newest. Rules of acceptance: `edge_agent_core::bundle`.

use crate::store::{self, StoreError};
use edge_agent_core::bundle::{Accepted, Mark, Refusal, Rules};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch;
use verona_contract::config::MAX_ENVELOPE;

/// The bundle that the data plane should carry out.
#[derive(Clone)]
pub struct Wanted {
    /// The bundle.
    pub bundle: Arc<Accepted>,
    /// Whether it was in force before. If not, a refusal by the data plane brings the one before back.
    pub confirmed: bool,
}

/// The store of bundles.
pub struct Bundles {
    directory: PathBuf,
    rules: Rules,
    state: Mutex<State>,
    wanted: watch::Sender<Option<Wanted>>,
    /// Held while files and `wanted` change together.
    files: Mutex<()>,
}

#[derive(Default)]
struct State {
    mark: Option<Mark>,
    current: Option<Arc<Accepted>>,
    refused: Option<String>,
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
    /// The disk failed; to be tried again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Bundles {
    /// Reads what is stored and checks it as if it came from the wire. What does not hold is left out and
    /// traced: the center has it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the disk fails.
    pub fn load(directory: PathBuf, rules: Rules) -> Result<Self, StoreError> {
        store::make_directory(&directory)?;
        let mark = store::read_replaceable(&directory.join("mark.json"), 4096)?;
        let mark: Option<Mark> = mark.and_then(|json| {
            let read = serde_json::from_slice(&json);
            read.map_err(|error| tracing::error!(%error, "mark of the newest bundle does not read")).ok()
        });
        let read = |name: &str, mark: Option<&Mark>| -> Result<Option<Arc<Accepted>>, StoreError> {
            let path = directory.join(name);
            let Some(envelope) = store::read_replaceable(&path, MAX_ENVELOPE)? else { return Ok(None) };
            let accepted = rules.accept(&envelope, mark);
            let refused = |error: &Refusal| tracing::error!(path = %path.display(), %error, "stored bundle");
            Ok(accepted.inspect_err(refused).ok().map(Arc::new))
        };
        // The one in force may be older than the newest accepted: that one may have been refused later.
        let current = read("current.json", None)?;
        let staged = read("staged.json", mark.as_ref())?;
        let newest = [mark, current.as_deref().map(Accepted::mark), staged.as_deref().map(Accepted::mark)];
        let mark = newest.into_iter().flatten().max_by_key(|mark| mark.seq);
        let wanted = staged.map(|bundle| Wanted { bundle, confirmed: false });
        let wanted = wanted.or_else(|| current.clone().map(|bundle| Wanted { bundle, confirmed: true }));
        let state = Mutex::new(State { mark, current, ..State::default() });
        Ok(Self { directory, rules, state, wanted: watch::Sender::new(wanted), files: Mutex::new(()) })
    }

    /// Follows the bundle that the data plane should carry out.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<Option<Wanted>> {
        self.wanted.subscribe()
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

    /// The number to ask the center for a successor of; none = anything.
    #[must_use]
    pub fn held(&self) -> Option<u64> {
        self.wanted.borrow().as_ref().map(|wanted| wanted.bundle.config().seq)
    }

    /// Checks and stages an envelope from the center. Returns none when it is the one that is held. Works for
    /// seconds on a large one: not for an async task.
    ///
    /// # Errors
    ///
    /// [`TakeError`].
    pub fn take(&self, envelope: &[u8]) -> Result<Option<Arc<Accepted>>, TakeError> {
        let mark = self.state().mark;
        let accepted = self.rules.accept(envelope, mark.as_ref());
        let accepted = Arc::new(accepted.inspect_err(|refusal| {
            self.state().refused = Some(refusal.to_string());
        })?);
        self.state().refused = None;
        if self.held() == Some(accepted.config().seq) {
            return Ok(None);
        }
        let _files = self.files();
        // The bundle before the mark: with the mark alone, a crash in between would leave nothing to apply
        // until the center is back.
        store::replace(&self.directory.join("staged.json"), envelope)?;
        // Plain data always encodes.
        let mark = serde_json::to_vec(&accepted.mark()).unwrap_or_default();
        store::replace(&self.directory.join("mark.json"), &mark)?;
        {
            let mut state = self.state();
            state.mark = Some(accepted.mark());
            state.trials.retain(|(one, _)| one.strong_count() > 0);
            state.trials.push((Arc::downgrade(&accepted), envelope.to_owned()));
        }
        self.wanted.send_replace(Some(Wanted { bundle: accepted.clone(), confirmed: false }));
        Ok(Some(accepted))
    }

    /// The data plane carries `bundle` out: from now on it is the one in force, also after a restart.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it is then on trial again after a restart.
    pub fn confirm(&self, bundle: &Arc<Accepted>) -> Result<(), StoreError> {
        let _files = self.files();
        let mut staged = false;
        self.wanted.send_if_modified(|wanted| {
            if let Some(wanted) = wanted.as_mut().filter(|wanted| Arc::ptr_eq(&wanted.bundle, bundle)) {
                wanted.confirmed = true;
                staged = true;
            }
            // No news for who carried it out.
            false
        });
        let envelope = {
            let mut state = self.state();
            state.current = Some(bundle.clone());
            state.refused = None;
            state.end_trial(bundle)
        };
        let (from, to) = (self.directory.join("staged.json"), self.directory.join("current.json"));
        match envelope {
            _ if staged => store::rename(&from, &to),
            // A newer one was staged meanwhile and may yet be refused: the file is that one's.
            Some(envelope) => store::replace(&to, &envelope),
            None => Ok(()),
        }
    }

    /// The data plane refused `bundle`: the one before is wanted again.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it is then tried again after a restart.
    pub fn reject(&self, bundle: &Arc<Accepted>, reason: &str) -> Result<(), StoreError> {
        let _files = self.files();
        let current = {
            let mut state = self.state();
            state.refused = Some(format!("bundle {}: {reason}", bundle.config().seq));
            state.end_trial(bundle);
            state.current.clone()
        };
        let mut was_wanted = false;
        self.wanted.send_if_modified(|wanted| {
            was_wanted = wanted.as_ref().is_some_and(|wanted| Arc::ptr_eq(&wanted.bundle, bundle));
            if was_wanted {
                *wanted = current.map(|bundle| Wanted { bundle, confirmed: true });
            }
            was_wanted
        });
        if was_wanted { store::remove(&self.directory.join("staged.json")) } else { Ok(()) }
    }

    fn files(&self) -> MutexGuard<'_, ()> {
        // It guards an order, no data.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain values: a panic elsewhere cannot leave them half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
