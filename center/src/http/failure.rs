//! How a request fails: a status and a problem document (RFC 9457) with one line that names the thing and
//! the rule. Trouble of our own is logged whole and told without its inside.

use crate::db::DbError;
use crate::entropy::EntropyError;
use crate::logs::LogError;
use crate::signer::SignerError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use verona_contract::problem::{CONTENT_TYPE, Problem};

/// Longest detail, in characters: what the caller sent may be a part of it.
const MAX_DETAIL: usize = 500;

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    retry_after_s: Option<u32>,
}

impl Failure {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, kind: "about:blank", detail: one_line(detail.into()), retry_after_s: None }
    }

    /// 400: the request breaks a rule.
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 401: nobody whom we know, or not for this.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403: known, and may not.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 404: not there, or another owner's.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405.
    pub(crate) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
    }

    /// 409: it does not fit the present state.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 408: the body came too slowly.
    pub(crate) fn slow(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, detail)
    }

    /// 202: nothing is wrong, and nothing is done yet.
    pub(crate) fn accepted(detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(StatusCode::ACCEPTED, detail) }
    }

    /// 413.
    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("body must be at most {limit} octets"))
    }

    /// 415.
    pub(crate) fn media_type(wanted: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("Content-Type must be {wanted}"))
    }

    /// 416: behind the end of something that is `length` octets long.
    pub(crate) fn range(length: u64) -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("Range must be within {length} octets"))
    }

    /// 429.
    pub(crate) fn too_many(detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    /// 503: later it will work.
    pub(crate) fn unavailable(detail: impl Into<String>, retry_after_s: u32) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// Gives the problem a type of its own, for programs.
    #[must_use]
    pub(crate) const fn kind(mut self, urn: &'static str) -> Self {
        self.kind = urn;
        self
    }

    fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the center could not do this; its log says why")
    }
}

fn one_line(detail: String) -> String {
    if detail.len() <= MAX_DETAIL && !detail.contains(char::is_control) {
        return detail;
    }
    let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    detail.chars().take(MAX_DETAIL).map(printable).collect()
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Self::internal(&error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        DbError::from(error).into()
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::internal(&error)
    }
}

impl From<EntropyError> for Failure {
    fn from(error: EntropyError) -> Self {
        Self::internal(&error)
    }
}

impl From<SignerError> for Failure {
    fn from(error: SignerError) -> Self {
        match error {
            SignerError::Away { .. } => {
                tracing::error!(error = &error as &dyn std::error::Error, "signer is away");
                Self::unavailable("the center's signer cannot be reached; try again", 5)
            }
            // Requests are checked before they go to the signer: what it refuses is our mistake.
            SignerError::Refused(_) | SignerError::Protocol => Self::internal(&error),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: self.kind.to_owned(),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
        };
        // A struct of strings and a number always encodes.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"verona\", charset=\"UTF-8\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
