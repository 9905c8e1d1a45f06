//! What the agent tells of its configuration: state, content, history, differences; and a technician's word on it.

use crate::agent::{Agent, Enrolled};
use crate::bundles::{Fate, Revision};
use crate::center::chain;
use crate::local::{ConfigInfo, ConfigState, Difference, Standing};
use edge_agent_core::bundle::Accepted;
use edge_agent_core::difference::{changes, shown};
use std::sync::Arc;

/// Two numbers of configurations; none = what is meant most of the time.
pub(crate) type Pair = (Option<u64>, Option<u64>);

impl Agent {
    /// The configuration, with its content if `content`.
    #[must_use]
    pub fn config(&self, content: bool) -> ConfigInfo {
        let parts = self.enrolled();
        let current = parts.and_then(|parts| parts.bundles.current());
        let wanted = parts.and_then(|parts| parts.bundles.wanted().borrow().clone());
        let staged = wanted.filter(|wanted| !wanted.confirmed).map(|wanted| wanted.bundle.config().seq);
        let begun = parts.is_some_and(|parts| parts.bundles.trial().borrow().is_some());
        let refused = parts.and_then(|parts| parts.bundles.refused());
        let barred = parts.and_then(|parts| parts.bundles.barred()).filter(|_| staged.is_none());
        let state = match (&staged, &refused, &barred, &current) {
            (Some(_), _, _, _) if begun => ConfigState::OnTrial,
            (Some(_), _, _, _) => ConfigState::Staged,
            (None, Some(_), _, _) => ConfigState::Refused,
            (None, None, Some(barred), _) if barred.fate == Fate::RolledBack => ConfigState::RolledBack,
            (None, None, Some(_), _) => ConfigState::Reverted,
            (None, None, None, Some(_)) => ConfigState::Confirmed,
            (None, None, None, None) => ConfigState::Missing,
        };
        let standing = parts.and_then(|parts| parts.trial.standing());
        let config = current.as_ref().map(|bundle| bundle.config());
        ConfigInfo {
            seq: config.map(|config| config.seq),
            state,
            issued_at: config.map(|config| config.issued_at.as_second()),
            staged,
            trial: standing.map(|one| Standing { lost: one.lost, left_s: one.left_s }),
            refused,
            reverted: barred
                .map(|barred| format!("configuration {}: {}", barred.seq, barred.reason.unwrap_or_default())),
            content: config.filter(|_| content).map(shown),
        }
    }

    /// The configurations of the past, the newest first. Reads the disk.
    ///
    /// # Errors
    ///
    /// One line.
    pub fn config_history(&self) -> Result<Vec<Revision>, String> {
        self.parts()?.bundles.history().map_err(|error| chain(&error))
    }

    /// What differs between two configurations: without numbers, between the one in force and the one on trial, or
    /// if there is none, between the one in force and the one before it. Reads the disk.
    ///
    /// # Errors
    ///
    /// One line: one of them is not kept.
    pub(crate) fn config_difference(&self, (before, after): Pair) -> Result<Difference, String> {
        let bundles = &self.parts()?.bundles;
        let current = bundles.current().map(|bundle| bundle.config().seq);
        let staged = bundles.wanted().borrow().as_ref().map(|wanted| wanted.bundle.config().seq);
        let after = after.or(staged).or(current).ok_or("no configuration is in force")?;
        let before = match before.or(current.filter(|current| *current != after)) {
            Some(before) => before,
            None => {
                let history = bundles.history().map_err(|error| chain(&error))?;
                let older = history.iter().find(|one| one.fate == Fate::Confirmed && one.seq < after);
                older.ok_or_else(|| format!("no confirmed configuration before {after} is kept"))?.seq
            }
        };
        let read = |seq: u64| -> Result<Arc<Accepted>, String> {
            let found = bundles.revision(seq).map_err(|error| chain(&error))?;
            found.ok_or_else(|| format!("configuration {seq} is not kept: see edgectl config history"))
        };
        let changes = changes(read(before)?.config(), read(after)?.config());
        Ok(Difference { before, after, changes })
    }

    /// Confirms the configuration on trial.
    ///
    /// # Errors
    ///
    /// One line that says why not.
    pub async fn confirm_config(&self, lose_center: bool) -> Result<u64, String> {
        self.parts()?.trial.confirm_by_hand(lose_center).await
    }

    /// Goes back to an older configuration.
    ///
    /// # Errors
    ///
    /// One line that says why not.
    pub async fn roll_back_config(&self, seq: Option<u64>) -> Result<u64, String> {
        self.parts()?.trial.roll_back(seq).await
    }

    /// Every configuration that is kept. Reads the disk; what does not read is left out.
    pub(crate) fn configurations(&self) -> Vec<Arc<Accepted>> {
        let Ok(bundles) = self.parts().map(|parts| &parts.bundles) else { return Vec::new() };
        let wanted = bundles.wanted().borrow().as_ref().map(|wanted| wanted.bundle.clone());
        let history = bundles.history().unwrap_or_default();
        let kept = history.iter().filter_map(|one| bundles.revision(one.seq).ok().flatten());
        wanted.into_iter().chain(bundles.current()).chain(kept).collect()
    }

    fn parts(&self) -> Result<&Enrolled, String> {
        self.enrolled().ok_or_else(|| "the box is not enrolled yet: it has no configuration".to_owned())
    }
}
