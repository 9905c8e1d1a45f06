//! What an edge tells of itself once a minute, and at once when something goes wrong or right.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// `POST` [`Heartbeat`] → 204. An edge that is silent for some minutes is in trouble, or its line is.
pub const HEARTBEAT: &str = "/v1/edge/heartbeat";

/// Seconds between two heartbeats.
pub const HEARTBEAT_EVERY_S: u64 = 60;

/// An edge's state in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// The edge's clock, Unix nanoseconds.
    pub at_ns: i64,
    /// Seconds since the box booted.
    pub uptime_s: u64,
    /// What runs there.
    pub versions: Versions,
    /// What is wrong now. Empty = nothing.
    pub conditions: Vec<HeartbeatCondition>,
    /// Whether its clock is believed, and why or why not.
    pub clock: HeartbeatClock,
    /// Number of the configuration in force.
    pub config_seq: Option<u64>,
    /// Sessions alive; none = the data plane does not answer.
    pub sessions: Option<u64>,
    /// Log records on its disk that the center does not have.
    pub unsent_records: u64,
    /// Who feeds the hardware watchdog, and whether it is fed now; none = there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog_fed: Option<bool>,
    /// Its lines as seen from outside.
    pub uplinks: Vec<UplinkFacts>,
}

/// Software of an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Versions {
    /// `edge-agent`.
    pub agent: String,
    /// `edge-tunnel`; none = it does not answer.
    pub tunnel: Option<String>,
    /// The kernel.
    pub kernel: Option<String>,
    /// The firmware and its slot; none = the box was not started from an image.
    pub firmware: Option<String>,
}

/// One condition of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatCondition {
    /// For programs. A newer edge may have codes that an older center does not know.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// An edge's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HeartbeatClock {
    /// Whether it is believed.
    pub trusted: bool,
    /// Why, or why not.
    pub reason: String,
    /// How far its time servers are ahead of it, nanoseconds; none = they tell nothing.
    pub servers_ahead_ns: Option<i64>,
}

/// One line of an edge, as a question to the center showed it. What is none is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UplinkFacts {
    /// As in the configuration; `default` for the line of a box whose configuration names none.
    pub name: String,
    /// The box's own address on it.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub address: Option<IpAddr>,
    /// The address under which the center knows it.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub public: Option<IpAddr>,
    /// What is in between.
    pub nat: Option<Nat>,
    /// Largest IP packet that reaches the center, octets.
    pub path_mtu: Option<u16>,
    /// Where a portal wants a login instead of letting packets pass; empty = it does not tell.
    pub captive: Option<String>,
    /// When it was looked at, the edge's clock, Unix nanoseconds.
    pub at_ns: i64,
}

/// What is between a line and the center (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Nat {
    /// Nothing that translates.
    None,
    /// Addresses are translated, the same way whatever the destination.
    EndpointIndependent,
    /// Each destination sees another address or port: two such sites do not find each other.
    EndpointDependent,
    /// No UDP comes back.
    UdpBlocked,
}
