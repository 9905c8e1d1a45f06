//! Tells the center once a minute how the box is, and within seconds when a condition comes or goes.
//!
//! Nothing depends on it: one that does not arrive is not repeated, the next one says all that it said.

use crate::agent::Agent;
use crate::center::{Caller, chain, entropy};
use crate::clock::{since_boot_ns, wall_ns};
use crate::https::Request;
use crate::local::State;
use edge_agent_core::condition::Code;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use verona_contract::api::{
    HEARTBEAT, HEARTBEAT_EVERY_S, Heartbeat, HeartbeatClock, HeartbeatCondition, Versions,
};

/// How often conditions are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Of an answer: the center is one or it is not there.
const LIMIT: Duration = Duration::from_secs(15);

/// Characters of a reason; a condition is one line.
const DETAIL: usize = 500;

/// Runs for ever.
pub(crate) async fn follow(agent: Arc<Agent>, mut caller: Caller) {
    let mut told: Option<(Instant, Vec<Code>, Duration)> = None;
    loop {
        let state = agent.state().await;
        let codes: Vec<Code> = state.conditions.iter().map(|condition| condition.code).collect();
        let due = told.as_ref().is_none_or(|(at, before, pause)| at.elapsed() >= *pause || *before != codes);
        if due {
            let heartbeat = compose(&agent, &state).await;
            // Plain data always encodes.
            let body = serde_json::to_vec(&heartbeat).unwrap_or_default();
            let request = Request { limit: LIMIT, ..Request::post(HEARTBEAT, "application/json", body) };
            let pause = match caller.call(request).await {
                Ok(_) => pause(entropy()),
                Err(failure) => {
                    tracing::debug!(error = chain(&failure.error), "heartbeat");
                    sleep(failure.delay).await;
                    pause(entropy())
                }
            };
            told = Some((Instant::now(), codes, pause));
        }
        sleep(LOOK).await;
    }
}

/// Ten thousand boxes that came up together drift apart.
fn pause(entropy: u64) -> Duration {
    let spread = HEARTBEAT_EVERY_S * 1000 / 10;
    Duration::from_millis(HEARTBEAT_EVERY_S * 1000 - spread / 2 + entropy % spread)
}

async fn compose(agent: &Agent, state: &State) -> Heartbeat {
    let status = state.tunnel.status.as_ref();
    let firmware = agent.update().ok();
    let unsent = |usage: &crate::spool::Usage| {
        usage.streams.values().map(|one| one.last_seq.saturating_sub(one.sent_seq)).sum::<u64>()
    };
    Heartbeat {
        at_ns: wall_ns(),
        uptime_s: since_boot_ns() / 1_000_000_000,
        versions: Versions {
            agent: state.agent.clone(),
            tunnel: agent.tunnel_software().await,
            kernel: nix::sys::utsname::uname()
                .ok()
                .and_then(|name| Some(name.release().to_str()?.to_owned())),
            firmware: firmware.map(|info| format!("{} {}, slot {}", info.edition, info.running, info.slot)),
        },
        conditions: state
            .conditions
            .iter()
            .map(|one| HeartbeatCondition {
                code: one.code.to_string(),
                detail: one.detail.chars().take(DETAIL).collect(),
            })
            .collect(),
        clock: HeartbeatClock {
            trusted: state.clock.trusted,
            reason: state.clock.reason.clone(),
            servers_ahead_ns: agent.timekeeper.info().offset_ns,
        },
        config_seq: state.config.seq,
        sessions: status.map(|status| status.sessions as u64),
        unsent_records: state.spool.as_ref().map_or(0, unsent),
        watchdog_fed: agent.watchdog_fed(),
        uplinks: agent.lines.facts(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_drift_apart_around_a_minute() {
        let pauses: Vec<Duration> = (0..20_000_u64).map(|number| pause(number * 7919)).collect();
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(57) && *most <= Duration::from_secs(63), "{least:?} {most:?}");
        assert!(*most - *least > Duration::from_secs(5));
    }
}
