//! Judges the configuration on trial: confirms it when what worked before works again, and brings the one before
//! back when its time is over. A technician may say the word himself.
//!
//! The rule is `edge_agent_core::trial`, the evidence [`crate::survey`], the steps on the disk [`crate::bundles`].
//! Runs beside [`crate::apply`], so that a configuration that breaks the tunnel's connection is judged, too.

use crate::acks::Acks;
use crate::bundles::{Bundles, Fate, OnTrial, RollBackError};
use crate::center::chain;
use crate::clock::{Clock, since_boot_ns, wall_ns};
use crate::spool::Spool;
use crate::survey::{DURING, Surveyor};
use edge_agent_core::journal::Draft;
use edge_agent_core::trial::{Moment, Subject, Survey, Verdict, describe};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as Turn;
use uuid::Uuid;
use verona_contract::api::{Ack, ConfigAck, ConfigState, Rejected};
use verona_contract::config::EdgeConfig;
use verona_contract::log::{Severity, Stream};

/// Between two looks while something is missing.
const PACE: Duration = Duration::from_millis(500);

/// How a trial stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The configuration.
    pub seq: u64,
    /// What worked before and does not now.
    pub lost: Vec<Subject>,
    /// Seconds until the one before comes back.
    pub left_s: u64,
}

/// The judge.
pub struct Trial {
    /// The configurations.
    pub bundles: Arc<Bundles>,
    /// Who finds out what works.
    pub surveyor: Surveyor,
    /// This boot.
    pub boot: Uuid,
    /// Whose floor rises with a confirmed configuration.
    pub clock: Arc<Clock>,
    /// Where outcomes are queued for the center.
    pub acks: Arc<Acks>,
    /// Where records go.
    pub journal: Spool,
    /// The last look.
    pub standing: Mutex<Option<Standing>>,
    /// One verdict at a time: a technician's word and the evidence may come together.
    pub turn: Turn<()>,
}

impl Trial {
    /// This moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment { boot: self.boot, ns: since_boot_ns() }
    }

    /// How the trial stands; none = there is none, or nobody has looked yet.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        // A plain value: a panic elsewhere cannot leave it half-changed.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stand(&self, standing: Option<Standing>) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// Judges for ever.
    pub async fn run(self: Arc<Self>) {
        let mut trials = self.bundles.trial();
        loop {
            let trial = trials.borrow_and_update().clone();
            let Some(trial) = trial else {
                self.stand(None);
                if trials.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if !self.look(&trial).await {
                // Carried out meanwhile, ended, or another one: no need to wait.
                let _ = tokio::time::timeout(PACE, trials.changed()).await;
            }
        }
    }

    /// Returns whether the trial is over.
    async fn look(&self, trial: &OnTrial) -> bool {
        let config = trial.bundle.config();
        let before = trial.ledger.before.unwrap_or_default();
        let works = match trial.carried_out {
            Some(_) => self.surveyor.survey(&before, config.seq, DURING).await,
            // What the tunnel took may not be in the kernel yet.
            None => Survey::default(),
        };
        match trial.ledger.judge(&works, self.now(), config.confirm_s) {
            Verdict::Confirm => {
                self.confirmed(trial).await;
                true
            }
            Verdict::Revert { lost } => {
                self.reverted(trial, &describe(&lost)).await;
                true
            }
            Verdict::Wait { lost, left_s } => {
                let standing = Some(Standing { seq: config.seq, lost, left_s });
                let before = self.standing();
                if before.map(|one| one.lost) != standing.as_ref().map(|one| one.lost.clone()) {
                    tracing::info!(seq = config.seq, ?standing, "configuration on trial");
                }
                self.stand(standing);
                false
            }
        }
    }

    async fn confirmed(&self, trial: &OnTrial) {
        let _turn = self.turn.lock().await;
        if !self.goes_on(trial) {
            return;
        }
        let config = trial.bundle.config();
        self.clock.raise_floor(config.issued_at.as_second());
        let (bundles, bundle) = (self.bundles.clone(), trial.bundle.clone());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || bundles.confirm(&bundle)).await {
            tracing::error!(error = chain(&error), "the confirmation is not on the disk");
        }
        self.stand(None);
        let rejected = trial.carried_out.clone().unwrap_or_default();
        if trial.ledger.instead_of.is_some() {
            // The center was told of the one that is not in force any more.
            let draft = Draft::new(Stream::Audit, "config.confirmed", format!("back at {}", config.seq));
            self.append(draft.with("seq", config.seq)).await;
            return;
        }
        tell_confirmed(config, rejected, &self.journal, &self.acks).await;
    }

    async fn reverted(&self, trial: &OnTrial, reason: &str) {
        let _turn = self.turn.lock().await;
        if !self.goes_on(trial) {
            return;
        }
        let seq = trial.bundle.config().seq;
        tracing::error!(seq, reason, "configuration reverted");
        let (bundles, bundle, text) = (self.bundles.clone(), trial.bundle.clone(), reason.to_owned());
        let stored = tokio::task::spawn_blocking(move || bundles.reject(&bundle, Fate::Reverted, &text));
        if let Ok(Err(error)) = stored.await {
            tracing::error!(error = chain(&error), "the reversion is not on the disk");
        }
        self.stand(None);
        let in_force = self.bundles.current().map(|bundle| bundle.config().seq);
        if trial.ledger.instead_of.is_some() {
            let draft = Draft::new(Stream::Audit, "config.reverted", format!("not back at {seq}: {reason}"));
            self.append(draft.severity(Severity::Error).with("seq", seq)).await;
            // The newest is in force again after all.
            if let Some(bundle) = self.bundles.current() {
                self.push_confirmed(bundle.config()).await;
            }
            return;
        }
        self.tell_reverted(seq, reason, in_force).await;
    }

    async fn push_confirmed(&self, config: &EdgeConfig) {
        let (state, applied_at_ns) = (ConfigState::Confirmed, wall_ns());
        let ack = ConfigAck { seq: config.seq, state, rejected: vec![], applied_at_ns };
        self.acks.push(Ack::Config(ack)).await;
    }

    async fn tell_reverted(&self, seq: u64, reason: &str, in_force: Option<u64>) {
        let draft = Draft::new(Stream::Audit, "config.reverted", format!("configuration {seq}: {reason}"));
        let named = in_force.map_or_else(|| "none".to_owned(), |seq| seq.to_string());
        self.append(draft.severity(Severity::Error).with("seq", seq).with("in_force", named)).await;
        let rejected = Rejected {
            path: ".".to_owned(),
            reason: reason.to_owned(),
            used_instead: in_force.map(|seq| format!("configuration {seq}")),
        };
        let (state, applied_at_ns) = (ConfigState::Reverted, wall_ns());
        self.acks.push(Ack::Config(ConfigAck { seq, state, rejected: vec![rejected], applied_at_ns })).await;
    }

    /// Confirms at a technician's word.
    ///
    /// # Errors
    ///
    /// One line: there is nothing to confirm, or the center would be lost and he does not accept that.
    pub async fn confirm_by_hand(&self, lose_center: bool) -> Result<u64, String> {
        let trial = self.bundles.trial().borrow().clone().ok_or("no configuration is on trial")?;
        let seq = trial.bundle.config().seq;
        if trial.carried_out.is_none() {
            return Err(format!("configuration {seq} is not carried out yet: nothing to confirm"));
        }
        let before = trial.ledger.before.unwrap_or_default();
        let lost = before.lost(&self.surveyor.survey(&before, seq, DURING).await);
        if lost.contains(&Subject::Center) && !lose_center {
            return Err(format!(
                "configuration {seq} has cut the center off: once confirmed, only somebody at the box can change it. \
                 If that is meant: --accept-risk=lose-center"
            ));
        }
        let draft = Draft::new(Stream::Audit, "config.confirmed-by-hand", "a technician confirmed");
        let named: Vec<String> = lost.iter().map(ToString::to_string).collect();
        self.append(draft.with("seq", seq).with("lost", named.join(","))).await;
        self.confirmed(&trial).await;
        Ok(seq)
    }

    /// Goes back at a technician's word: ends the trial if there is one, otherwise puts an older configuration on
    /// trial.
    ///
    /// # Errors
    ///
    /// One line: there is nothing to go back to, or the disk failed.
    pub async fn roll_back(&self, seq: Option<u64>) -> Result<u64, String> {
        let trial = self.bundles.trial().borrow().clone();
        if let (Some(trial), None) = (trial, seq) {
            let in_force = self.bundles.current().ok_or("no configuration was in force before")?;
            self.reverted(&trial, "ended by a technician").await;
            return Ok(in_force.config().seq);
        }
        let _turn = self.turn.lock().await;
        let newest = self.bundles.current().map(|bundle| bundle.config().seq);
        let bundles = self.bundles.clone();
        let staged = tokio::task::spawn_blocking(move || bundles.roll_back(seq)).await;
        let staged = staged.map_err(|error| error.to_string())?;
        let target = staged.map_err(|error: RollBackError| chain(&error))?.config().seq;
        if let Some(newest) = newest {
            self.tell_reverted(newest, "a technician goes back to an older one", Some(target)).await;
        }
        Ok(target)
    }

    /// Whether nobody ended it meanwhile.
    fn goes_on(&self, trial: &OnTrial) -> bool {
        let now = self.bundles.trial().borrow().clone();
        now.is_some_and(|now| Arc::ptr_eq(&now.bundle, &trial.bundle))
    }

    async fn append(&self, draft: Draft) {
        if let Err(error) = self.journal.append(draft).await {
            tracing::error!(%error, "log");
        }
    }
}

/// Logs that a configuration is in force and tells the center, once.
pub async fn tell_confirmed(config: &EdgeConfig, rejected: Vec<Rejected>, journal: &Spool, acks: &Acks) {
    let seq = config.seq;
    // A crash between the two would otherwise leave the center without an answer.
    if acks.config().await >= seq {
        return;
    }
    tracing::info!(seq, rejected = rejected.len(), "configuration confirmed");
    let draft = Draft::new(Stream::Audit, "config.confirmed", format!("configuration {seq} is in force"));
    if let Err(error) = journal.append(draft.with("seq", seq).with("rejected", rejected.len())).await {
        tracing::error!(%error, "log");
    }
    let state = ConfigState::Confirmed;
    acks.push(Ack::Config(ConfigAck { seq, state, rejected, applied_at_ns: wall_ns() })).await;
}
