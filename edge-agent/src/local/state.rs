//! The state of the box as the local tool shows it. Times are Unix seconds or nanoseconds; people get civil
//! time from `edgectl`.

use crate::spool::Usage;
use crate::time::TimeInfo;
use edge_agent_core::condition::Condition;
use edge_agent_core::difference::Change;
use edge_agent_core::trial::Subject;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
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
    /// How the trial of that one stands; none = it has not begun.
    #[serde(default)]
    pub trial: Option<Standing>,
    /// Why the newest one was refused.
    pub refused: Option<String>,
    /// Why the newest one was taken back, and will not be tried again.
    #[serde(default)]
    pub reverted: Option<String>,
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
    /// Carried out, and not yet confirmed: what worked before must work again.
    OnTrial,
    /// In force.
    Confirmed,
    /// The newest was refused, an older one is in force.
    Refused,
    /// With the newest something did not work that worked before; an older one is in force.
    Reverted,
    /// A technician went back to an older one.
    RolledBack,
}

/// How a trial stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// What worked before and does not now.
    pub lost: Vec<Subject>,
    /// Seconds until the configuration before comes back.
    pub left_s: u64,
}

/// Two configurations side by side, without secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// The one.
    pub before: u64,
    /// The other.
    pub after: u64,
    /// What differs.
    pub changes: Vec<Change>,
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

/// The clock, and all that is known about the time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TimeState {
    /// The clock.
    pub clock: ClockState,
    /// What it cannot be before, Unix seconds.
    pub floor_s: i64,
    /// What the center's last answer, carried on, says now, Unix seconds; none = it was not heard since the start.
    pub center_s: Option<i64>,
    /// Time servers, and who sets the clock.
    pub servers: TimeInfo,
}
