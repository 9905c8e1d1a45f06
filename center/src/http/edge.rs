//! What enrolled edges call: tunnel key, configuration, acks. Log records are in [`super::logs`].

use super::accept::stopped;
use super::body::Json;
use super::caller::EdgeCaller;
use super::connection::{Connection, PostQuantum};
use super::failure::Failure;
use super::wait::{Wish, tag};
use crate::center::Center;
use crate::clock;
use crate::db::edges::Leave;
use crate::db::{Scope, acks, configs, edges, firmware, issuers};
use crate::enrolment;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rusqlite::Transaction;
use std::sync::Arc;
use verona_contract::api::{
    Ack, Challenge, ChallengeRequest, ConfigState, Heartbeat, MAX_UPDATE_REASON, TunnelCertificate,
    TunnelKeyRequest,
};
use verona_contract::config::network::MAX_WANS;
use verona_contract::problem::Problem;

/// Most conditions of a heartbeat, and octets of one text in it.
const MAX_CONDITIONS: usize = 64;
const MAX_TEXT: usize = 2048;

/// Asks for a one-use ephemeral key for a proof of possession.
#[utoipa::path(post, path = "/v1/pop/challenge", tag = "enrolment", request_body = ChallengeRequest,
    responses((status = 200, body = Challenge), (status = 429, body = Problem)))]
pub(crate) async fn challenge(
    State(center): State<Arc<Center>>,
    connection: Connection,
    Json(ChallengeRequest {}): Json<ChallengeRequest>,
) -> Result<axum::Json<Challenge>, Failure> {
    center.challenges.open(connection.source()).map(axum::Json)
}

/// Certifies an edge's tunnel key.
#[utoipa::path(post, path = "/v1/edge/tunnel-key", tag = "edge", request_body = TunnelKeyRequest,
    responses((status = 200, body = TunnelCertificate), (status = 400, body = Problem),
        (status = 409, description = "The key is another subject's", body = Problem)))]
pub(crate) async fn tunnel_key(
    State(center): State<Arc<Center>>,
    edge: EdgeCaller,
    connection: Connection,
    Json(request): Json<TunnelKeyRequest>,
) -> Result<axum::Json<TunnelCertificate>, Failure> {
    enrolment::edge_tunnel_key(&center, &edge, &connection, &request).await.map(axum::Json)
}

/// The newest configuration of the calling edge, a DSSE envelope.
#[utoipa::path(get, path = "/v1/edge/config", tag = "edge",
    params(("If-None-Match" = Option<String>, Header, description = "The seq that the caller has, in quotes"),
        ("Prefer" = Option<String>, Header, description = "`wait=55`: wait so many seconds for a newer one")),
    responses((status = 200, description = "DSSE envelope", content_type = "application/json"),
        (status = 304, description = "Nothing newer"),
        (status = 404, description = "No configuration yet", body = Problem)))]
pub(crate) async fn config(
    _: PostQuantum,
    State(center): State<Arc<Center>>,
    edge: EdgeCaller,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let wish = Wish::read(&headers);
    let (mut news, mut stop) = (center.configs.watch(edge.id), center.stop.clone());
    loop {
        news.borrow_and_update();
        let newest = center.db.read(move |db| configs::envelope(db, edge.id)).await?;
        let seq = newest.as_ref().map(|(seq, _)| *seq);
        if let Some((seq, envelope)) = newest.filter(|(seq, _)| !wish.has(*seq)) {
            // It holds the root of the preshared keys.
            let fields = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
            return Ok((fields, [(header::ETAG, tag(seq))], envelope).into_response());
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return Err(Failure::unavailable("the center restarts", 1)),
            changed = news.changed() => if changed.is_err() { return Err(none_yet()) },
            () = tokio::time::sleep_until(wish.until) => {
                let seq = seq.ok_or_else(none_yet)?;
                return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag(seq))]).into_response());
            }
        }
    }
}

fn none_yet() -> Failure {
    Failure::not_found("this edge has no configuration yet: it comes with its tunnel key")
}

/// Takes an edge's word on what it did. The time of arrival is the center's own.
#[utoipa::path(post, path = "/v1/acks", tag = "edge", request_body = Ack,
    responses((status = 204), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn ack(
    State(center): State<Arc<Center>>,
    edge: EdgeCaller,
    Json(ack): Json<Ack>,
) -> Result<StatusCode, Failure> {
    let arrived_ns = clock::now_ns();
    center.db.write(move |transaction| store_ack(transaction, &edge, &ack, arrived_ns)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes what an edge tells of itself; the newest counts.
#[utoipa::path(post, path = "/v1/edge/heartbeat", tag = "edge", request_body = Heartbeat,
    responses((status = 204), (status = 400, body = Problem)))]
pub(crate) async fn heartbeat(
    State(center): State<Arc<Center>>,
    edge: EdgeCaller,
    connection: Connection,
    Json(heartbeat): Json<Heartbeat>,
) -> Result<StatusCode, Failure> {
    check(&heartbeat)?;
    center.heartbeats.note(edge.id, connection.remote.ip().to_canonical(), heartbeat);
    Ok(StatusCode::NO_CONTENT)
}

/// It is kept in memory: one edge must not fill it.
fn check(heartbeat: &Heartbeat) -> Result<(), Failure> {
    let long = |text: &str| text.len() > MAX_TEXT;
    let fail = |what: &str, rule: String| Err(Failure::bad(format!("heartbeat, {what}: {rule}")));
    if heartbeat.conditions.len() > MAX_CONDITIONS {
        return fail("conditions", format!("at most {MAX_CONDITIONS}"));
    }
    if heartbeat.uplinks.len() > MAX_WANS {
        return fail("uplinks", format!("at most {MAX_WANS}"));
    }
    let versions = &heartbeat.versions;
    let texts = heartbeat.conditions.iter().flat_map(|one| [&one.code, &one.detail]);
    let texts = texts.chain(heartbeat.uplinks.iter().map(|one| &one.name));
    let texts = texts.chain(heartbeat.uplinks.iter().filter_map(|one| one.captive.as_ref()));
    let texts = texts.chain([&versions.agent, &heartbeat.clock.reason]);
    let mut texts =
        texts.chain([&versions.tunnel, &versions.kernel, &versions.firmware].into_iter().flatten());
    if texts.any(|text| long(text)) {
        return fail("texts", format!("at most {MAX_TEXT} octets each"));
    }
    Ok(())
}

/// An ack of what was never made is refused: it would count as proof of what comes later.
fn store_ack(
    transaction: &Transaction<'_>,
    edge: &EdgeCaller,
    ack: &Ack,
    arrived_ns: i64,
) -> Result<(), Failure> {
    let never = |what: &str, number: u64| Failure::bad(format!("ack: {what} {number} was never made"));
    match ack {
        Ack::Crl(ack) => {
            let known = issuers::by_key_id(transaction, Scope::of(edge.owner), &ack.issuer)?;
            let known = known.ok_or_else(|| Failure::not_found(format!("ack: no issuer {}", ack.issuer)))?;
            if !(1..=issuers::newest_number(transaction, &known.key_id)?).contains(&ack.crl_number) {
                return Err(never("list", ack.crl_number));
            }
            acks::insert_crl(transaction, edge.id, ack, arrived_ns)?;
        }
        Ack::Config(ack) => {
            if !(1..=configs::newest_seq(transaction, edge.id)?).contains(&ack.seq) {
                return Err(never("configuration", ack.seq));
            }
            acks::insert_config(transaction, edge.id, ack, arrived_ns)?;
            let newest = ack.seq == configs::newest_seq(transaction, edge.id)?;
            let row = edges::by_id(transaction, Scope::of(edge.owner), edge.id)?;
            let used = row.is_some_and(|row| row.allow_shrink == Leave::Signed);
            if newest && used && ack.state == ConfigState::Confirmed {
                edges::set_leave(transaction, edge.id, Leave::None)?;
            }
        }
        Ack::Update(ack) => {
            if ack.reason.as_ref().is_some_and(|reason| reason.len() > MAX_UPDATE_REASON) {
                return Err(Failure::bad(format!("ack: reason must be at most {MAX_UPDATE_REASON} octets")));
            }
            firmware::insert_ack(transaction, edge.id, ack, arrived_ns)?;
        }
    }
    Ok(())
}
