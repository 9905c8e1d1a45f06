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

/// [`Problem::kind`]s of a client's calls that a program must tell apart.
pub mod kind {
    /// No such enrolment code.
    pub const CODE_UNKNOWN: &str = "urn:verona:problem:code-unknown";
    /// The enrolment code was used, by another key.
    pub const CODE_USED: &str = "urn:verona:problem:code-used";
    /// The enrolment code's time is over.
    pub const CODE_EXPIRED: &str = "urn:verona:problem:code-expired";
    /// The client is disabled: it may come back.
    pub const CLIENT_DISABLED: &str = "urn:verona:problem:client-disabled";
    /// The client is revoked for good: it needs a new enrolment.
    pub const CLIENT_REVOKED: &str = "urn:verona:problem:client-revoked";
}
