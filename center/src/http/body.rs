//! Reads request bodies: type, size and time are limited before anything is parsed.

use super::failure::Failure;
use crate::center::Center;
use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Largest JSON body; what clients and edges send is a few kB.
pub(crate) const MAX_JSON: usize = 256 * 1024;

/// For the whole body.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON body. Unknown fields and wrong values are named by their path.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Center>> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _center: &Arc<Center>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        if media_type(&parts.headers) != Some("application/json") {
            return Err(Failure::media_type("application/json"));
        }
        // Codes and passwords come in such bodies.
        let octets = Zeroizing::new(read(body, MAX_JSON).await?);
        parse(&octets).map(Self)
    }
}

/// Parses a whole JSON document.
///
/// # Errors
///
/// 400, with the path of the field.
pub(crate) fn parse<T: DeserializeOwned>(octets: &[u8]) -> Result<T, Failure> {
    let mut json = serde_json::Deserializer::from_slice(octets);
    let value = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| Failure::bad(format!("body, {}: {}", error.path(), error.inner())))?;
    json.end().map_err(|error| Failure::bad(format!("body: {error}")))?;
    Ok(value)
}

/// Content-Type without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}

/// Reads at most `limit` octets.
///
/// # Errors
///
/// 413 and 408, or 400 when the connection breaks.
pub(crate) async fn read(body: Body, limit: usize) -> Result<Vec<u8>, Failure> {
    // Announced sizes are refused before the first octet.
    if body.size_hint().lower() > limit as u64 {
        return Err(Failure::too_large(limit));
    }
    tokio::time::timeout(TIMEOUT, collect(body, limit))
        .await
        .map_err(|_| Failure::slow(format!("body must arrive within {} s", TIMEOUT.as_secs())))?
}

async fn collect(mut body: Body, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::bad("body ended early"))?;
        if let Some(data) = frame.data_ref() {
            if octets.len() + data.len() > limit {
                return Err(Failure::too_large(limit));
            }
            octets.extend_from_slice(data);
        }
    }
    Ok(octets)
}
