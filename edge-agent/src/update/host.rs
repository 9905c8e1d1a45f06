//! The agent as the updates' surroundings, and the loop that follows the configuration.

use super::firmware::Firmware;
use super::source::{Source, SourceError, Web};
use super::{Host, Pass, Updater};
use crate::agent::Agent;
use crate::center::{chain, entropy};
use crate::clock::wall_s;
use crate::https::Channel;
use edge_agent_core::backoff::Backoff;
use edge_agent_core::update::trial::Health;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use verona_contract::api::UpdateAck;
use verona_contract::config::{UpdateConfig, Version};

/// How often the configuration and the window are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The widest window of the back-off after an update that could not be installed.
const BACKOFF_CAP: Duration = Duration::from_secs(3600);

/// The agent.
pub struct AgentHost(Arc<Agent>);

impl Host for AgentHost {
    fn wish(&self) -> Option<UpdateConfig> {
        self.0.update_wish()
    }

    fn now_s(&self) -> Result<i64, String> {
        let verdict = self.0.clock.verdict();
        if verdict.trusted() { Ok(wall_s()) } else { Err(verdict.to_string()) }
    }

    fn source(&self, wish: &UpdateConfig) -> Result<Source, SourceError> {
        match &wish.repository {
            Some(url) => Ok(Source::Web(Web::new(url)?)),
            None => Ok(Source::Center(Box::new(Channel::new(self.0.endpoint.clone())))),
        }
    }

    async fn health(&self) -> Health {
        self.0.health().await
    }

    async fn report(&self, ack: UpdateAck) {
        self.0.report_update(ack).await;
    }

    fn restart(&self) -> Result<(), String> {
        let program = self.0.settings.restart_with.as_ref();
        restart(program.ok_or("this system has no program that restarts it")?)
    }
}

/// Has the system's own program restart the box.
///
/// # Errors
///
/// One line that names it.
pub(crate) fn restart(program: &Path) -> Result<(), String> {
    match std::process::Command::new(program).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ended with {status}", program.display())),
        Err(error) => Err(format!("{}: {error}", program.display())),
    }
}

/// Follows the configuration for ever; returns at once when this system is no firmware image.
pub async fn follow(agent: Arc<Agent>) {
    let firmware = match Firmware::load(&agent.settings) {
        Ok(Some(firmware)) => firmware,
        Ok(None) => return,
        Err(error) => return tracing::error!(error = chain(&error), "no firmware updates"),
    };
    let (folder, limit) = (agent.settings.state.join("update"), agent.settings.prove_limit);
    let updater = match Updater::new(AgentHost(agent.clone()), firmware, &folder, limit) {
        Ok(updater) => updater,
        Err(error) => return tracing::error!(error = chain(&error), "no firmware updates"),
    };
    let mut backoff = Backoff::new(agent.settings.backoff_cap);
    // A new system proves itself before anything else is begun.
    loop {
        agent.show_update(updater.info());
        match updater.begin().await {
            Ok(Pass::Restarting) => return,
            Ok(_) => break,
            Err(error) => tracing::error!(error = chain(&error), "after the restart"),
        }
        tokio::time::sleep(backoff.delay(entropy(), None)).await;
    }
    pursue(&agent, &updater).await;
}

async fn pursue(agent: &Arc<Agent>, updater: &Updater<AgentHost>) {
    let mut backoff = Backoff::new(agent.settings.backoff_cap.min(BACKOFF_CAP));
    let mut seen: Option<UpdateConfig> = None;
    let mut pause = Duration::ZERO;
    loop {
        agent.show_update(updater.info());
        let wish = agent.update_wish();
        if wish != seen {
            let new_version = version(seen.as_ref()) != version(wish.as_ref());
            let spread_s = wish.as_ref().filter(|_| new_version).map_or(0, |wish| wish.spread_s);
            pause = spread(spread_s, entropy());
            seen = wish;
            backoff.succeeded();
        }
        if pause > LOOK_EVERY {
            tokio::time::sleep(LOOK_EVERY).await;
            pause -= LOOK_EVERY;
            continue;
        }
        tokio::time::sleep(pause).await;
        pause = match updater.pass().await {
            Ok(Pass::Restarting) => return agent.show_update(updater.info()),
            Ok(Pass::Idle | Pass::Waiting) => LOOK_EVERY,
            Err(_) => LOOK_EVERY + backoff.delay(entropy(), None),
        };
    }
}

fn version(wish: Option<&UpdateConfig>) -> Option<Version> {
    wish.map(|wish| wish.version)
}

/// A moment within `seconds`, evenly.
fn spread(seconds: u32, entropy: u64) -> Duration {
    let nanos = (u128::from(seconds) * 1_000_000_000 * u128::from(entropy)) >> 64;
    // At most a day: fits.
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Shown by `edgectl update` of a system that is no firmware image.
pub(crate) const NO_FIRMWARE: &str = "this system is no firmware image: there are no slots to update";
