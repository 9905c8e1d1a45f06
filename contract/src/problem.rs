//! Problem documents (RFC 9457): how the center says no.

use serde::{Deserialize, Serialize};

/// The media type.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// One problem. `detail` names the thing and the rule in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `about:blank`, or `urn:verona:problem:<code>` where a program should tell problems apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for every problem of this type.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong with this request.
    pub detail: String,
}
