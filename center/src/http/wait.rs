//! Long-polling: `If-None-Match` says what the caller has, `Prefer: wait=55` (RFC 7240 §4.3) how long it
//! would wait for something newer.

use axum::http::{HeaderMap, HeaderValue, header};
use std::time::Duration;
use tokio::time::Instant;
use verona_contract::api::MAX_WAIT_S;

/// What a caller has and how long it would wait.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    has: Vec<u64>,
    /// When to give up.
    pub(crate) until: Instant,
}

impl Wish {
    /// Reads the request's header fields.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let has = tags.flat_map(|value| value.split(',')).filter_map(entity_tag).collect();
        Self { has, until: Instant::now() + wait(headers) }
    }

    /// Whether the caller has this version already.
    pub(crate) fn has(&self, version: u64) -> bool {
        self.has.contains(&version)
    }
}

/// The entity tag of a version.
pub(crate) fn tag(version: u64) -> HeaderValue {
    // Digits and quotes are always a header value.
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

fn entity_tag(text: &str) -> Option<u64> {
    // If-None-Match compares weakly (RFC 9110 §13.1.2).
    let text = text.trim();
    text.strip_prefix("W/").unwrap_or(text).strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

fn wait(headers: &HeaderMap) -> Duration {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let seconds = preferences
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.trim().strip_prefix("wait=")?.parse::<u64>().ok())
        .next()
        .unwrap_or(0);
    Duration::from_secs(seconds.min(MAX_WAIT_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_table() {
        for (tag, prefer, has, seconds) in [
            (Some("\"7\""), Some("wait=55"), true, 55),
            (Some("W/\"7\", \"6\""), Some("respond-async, wait=10"), true, 10),
            (Some("\"6\""), Some("wait=100000"), false, MAX_WAIT_S),
            (Some("7"), Some("wait=-1"), false, 0),
            (None, None, false, 0),
        ] {
            let mut headers = HeaderMap::new();
            tag.map(|tag| headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(tag)));
            prefer.map(|prefer| headers.insert("prefer", HeaderValue::from_static(prefer)));
            assert_eq!(Wish::read(&headers).has(7), has, "{tag:?}");
            assert_eq!(wait(&headers), Duration::from_secs(seconds), "{prefer:?}");
        }
    }
}
