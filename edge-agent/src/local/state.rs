//! The state of the box as the local tool shows it. Times are Unix seconds or nanoseconds; people get civil
//! time from `edgectl`.

use crate::spool::Usage;
use edge_agent_core::condition::Condition;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use verona_contract::config::EdgeConfig;
use verona_contract::control::Status;

/// The whole state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The agent's package version.
    pub agent: String,
    /// On the box's label.
    pub serial: String,
    /// Which edge this is; none = not enrolled.
    pub edge: Option<Uuid>,
    /// The operational certificate; none = not enrolled.
    pub certificate: Option<Certificate>,
    /// What is wrong now. Empty = nothing.
    pub conditions: Vec<Condition>,
    /// The center.
    pub center: CenterState,
    /// The configuration.
    pub config: ConfigInfo,
    /// The tunnel.
    pub tunnel: TunnelState,
    /// The clock.
    pub clock: ClockState,
    /// The log spool; none = not enrolled.
    pub spool: Option<Usage>,
    /// Acknowledgements on their way.
    pub acks_pending: usize,
}

/// The life of a certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
}

/// The center as seen from here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CenterState {
    /// From the factory record.
    pub url: String,
    /// Whether it answers.
    pub reachable: bool,
    /// Its last answer of any kind, Unix nanoseconds.
    pub last_contact_ns: Option<i64>,
    /// Why it does not answer.
    pub failure: Option<String>,
}

/// The configuration in force and on trial.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigInfo {
    /// Number of the one in force; none = none.
    pub seq: Option<u64>,
    /// In words.
    pub state: ConfigState,
    /// When the one in force was composed, Unix seconds.
    pub issued_at: Option<i64>,
    /// Number of the one that is accepted and not yet in force.
    pub staged: Option<u64>,
    /// Why the newest one was refused.
    pub refused: Option<String>,
    /// The content, without secrets and certificates; only where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<serde_json::Value>,
}

/// What the box does with its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigState {
    /// There is none.
    Missing,
    /// Accepted, waiting for the tunnel.
    Staged,
    /// In force.
    Confirmed,
    /// The newest was refused, an older one is in force.
    Refused,
}

/// The tunnel as seen from here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TunnelState {
    /// Whether it answers.
    pub up: bool,
    /// Why it does not.
    pub failure: Option<String>,
    /// What it says of itself.
    pub status: Option<Status>,
}

/// The clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClockState {
    /// Whether it is believed.
    pub trusted: bool,
    /// Why, or why not.
    pub reason: String,
    /// What it shows, Unix nanoseconds.
    pub now_ns: i64,
}

/// `config` for people who may look but not hold secrets: roots are left out, certificates are counted.
pub(crate) fn without_secrets(config: &EdgeConfig) -> serde_json::Value {
    let owners: Vec<serde_json::Value> = config
        .tunnel
        .owners
        .iter()
        .map(|owner| {
            serde_json::json!({
                "owner": owner.owner, "anchors": owner.anchors.len(), "crl": owner.crl,
                "psk_root": { "id": owner.psk_root.id },
                "psk_previous": owner.psk_previous.as_ref().map(|root| serde_json::json!({ "id": root.id })),
                "clients": owner.clients.len(),
                "max_clients": owner.max_clients,
            })
        })
        .collect();
    let tunnel = &config.tunnel;
    serde_json::json!({
        "edge_id": config.edge_id, "issued_at": config.issued_at, "minimum_agent": config.minimum_agent,
        "tunnel": {
            "addresses": tunnel.addresses, "listen_port": tunnel.listen_port, "mtu": tunnel.mtu,
            "routes": tunnel.routes, "owners": owners,
        },
    })
}
