//! The long-poll for configuration bundles.

use crate::acks::Acks;
use crate::apply::report_refused;
use crate::bundles::{Bundles, TakeError};
use crate::center::{Caller, chain};
use crate::https::Request;
use crate::spool::Spool;
use edge_agent_core::bundle::Refusal;
use hyper::{Method, StatusCode, header};
use std::sync::Arc;
use std::time::Duration;
use verona_contract::api::{EDGE_CONFIG, MAX_WAIT_S};
use verona_contract::config::MAX_ENVELOPE;

/// For the wait and the transfer of the largest bundle over a slow line; a dead line is noticed by keepalive.
const ANSWER_LIMIT: Duration = Duration::from_secs(MAX_WAIT_S + 300);

/// Follows the configuration of this edge, for ever.
pub async fn follow(bundles: Arc<Bundles>, mut caller: Caller, journal: Spool, acks: Arc<Acks>) {
    // What the center served last, taken or refused: it is not asked for again.
    let mut seen: Option<String> = None;
    loop {
        let known = seen.clone().or_else(|| bundles.held().map(|seq| format!("\"{seq}\"")));
        let answer = match caller.call(request(known)).await {
            Ok(answer) => answer,
            Err(failure) => {
                tracing::debug!(error = chain(&failure.error), "configuration");
                tokio::time::sleep(failure.delay).await;
                continue;
            }
        };
        if answer.status == StatusCode::NOT_MODIFIED {
            continue;
        }
        let etag = answer.etag;
        let repeated = etag.is_some() && etag == seen;
        let (store, body) = (bundles.clone(), answer.body);
        let taken = tokio::task::spawn_blocking(move || store.take(&body)).await;
        let delay = match taken {
            Ok(Ok(taken)) => {
                let seq = taken.as_ref().map(|bundle| bundle.config().seq);
                tracing::info!(?seq, "configuration received");
                seen = etag;
                // The center repeats itself although it knows what is held: not without a pause.
                if seq.is_some() {
                    caller.useful();
                    continue;
                }
                caller.useless()
            }
            Ok(Err(TakeError::Refused(refusal))) => {
                if !repeated {
                    refused(&refusal, etag.as_deref(), &journal, &acks).await;
                }
                seen = etag;
                caller.useless()
            }
            Ok(Err(TakeError::Shrinks(refusal))) => {
                if !repeated {
                    let seq = etag.as_deref().and_then(number);
                    tracing::error!(%refusal, "configuration refused");
                    report_refused(&journal, &acks, seq, "tunnel", &refusal.to_string(), false).await;
                }
                seen = etag;
                caller.useless()
            }
            Ok(Err(TakeError::Store(error))) => {
                tracing::error!(error = chain(&error), "configuration is not on the disk");
                caller.useless()
            }
            Err(error) => {
                tracing::error!(%error, "configuration");
                caller.useless()
            }
        };
        tokio::time::sleep(delay).await;
    }
}

fn request<'a>(known: Option<String>) -> Request<'a> {
    // Also without anything to compare: the first configuration comes when the tunnel key is certified.
    let mut headers = vec![(header::HeaderName::from_static("prefer"), format!("wait={MAX_WAIT_S}"))];
    headers.extend(known.map(|etag| (header::IF_NONE_MATCH, etag)));
    Request {
        method: Method::GET,
        path: EDGE_CONFIG,
        headers,
        body: hyper::body::Bytes::new(),
        limit: ANSWER_LIMIT,
        max_answer: MAX_ENVELOPE,
    }
}

async fn refused(refusal: &Refusal, etag: Option<&str>, journal: &Spool, acks: &Acks) {
    tracing::error!(%refusal, alarm = refusal.is_alarm(), "configuration refused");
    let path = match refusal {
        Refusal::Config(error) => error.path.clone(),
        Refusal::MinimumAgent { .. } => "minimum_agent".to_owned(),
        _ => ".".to_owned(),
    };
    // What is not signed as it must be has no number that could be believed.
    let seq = etag.and_then(number);
    let seq = seq.filter(|_| matches!(refusal, Refusal::Config(_) | Refusal::MinimumAgent { .. }));
    report_refused(journal, acks, seq, &path, &refusal.to_string(), refusal.is_alarm()).await;
}

fn number(etag: &str) -> Option<u64> {
    etag.trim_matches('"').parse().ok()
}
