//! Firmware as administration sees it: which ring of edges gets which version, and what each edge made of it.

use crate::config::{Version, Window};
use serde::{Deserialize, Serialize};

use super::UpdateState;

/// `GET` → [`Ring`]s; `POST` [`Ring`] → [`Ring`] makes or changes one. Operators only.
pub const ADMIN_RINGS: &str = "/v1/admin/rings";
/// `POST` [`EdgeUpdate`] to `/v1/admin/edges/<id>/update` → [`EdgeFirmware`], `GET` → [`EdgeFirmware`].
pub const EDGE_UPDATE: &str = "update";

/// Edges that get a version together. A version goes from ring to ring as it proves itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Ring {
    /// 1 to 32 characters of `a-z`, `0-9` and `-`. An edge is in `stable` unless it was put elsewhere.
    pub name: String,
    /// The version that its edges should run.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub version: Version,
    /// Seconds over which its edges spread their downloads, at most 86,400.
    pub spread_s: u32,
}

/// Changes when and in which ring an edge is updated. What is left out stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EdgeUpdate {
    /// The ring; for operators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
    /// When the edge may restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// It may restart at any time again.
    #[serde(default)]
    pub any_time: bool,
}

/// An edge's firmware.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EdgeFirmware {
    /// The ring that it is in.
    pub ring: String,
    /// The version of that ring; none = its edges stay as they are.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub wanted: Option<Version>,
    /// When it may restart; none = at any time.
    pub window: Option<Window>,
    /// The version that ran when the edge was heard last about it.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub running: Option<Version>,
    /// What the edge told, the newest first.
    pub history: Vec<UpdateEvent>,
}

/// One word of an edge about an update.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UpdateEvent {
    /// The version.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub version: Version,
    /// How far it came.
    pub state: UpdateState,
    /// Why it came no further.
    pub reason: Option<String>,
    /// The version that ran then.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub running: Version,
    /// By the edge's clock, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub at: jiff::Timestamp,
    /// When the center heard of it, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub heard_at: jiff::Timestamp,
}
