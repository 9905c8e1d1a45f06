//! Edges: registration before they first call, and what became of them.

use super::{check_name, owner_of};
use crate::center::Center;
use crate::clock;
use crate::db::addresses::{self, Holder};
use crate::db::edges::{self, Leave};
use crate::db::stock::{self, Credential};
use crate::entropy;
use crate::http::body::Json;
use crate::http::caller::Administrator;
use crate::http::failure::Failure;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use std::fmt::Display;
use std::sync::Arc;
use uuid::Uuid;
use verona_contract::api::{Edge, EdgeCreated, NewEdge};
use verona_contract::config::{LogsConfig, NetworkConfig};
use verona_contract::key::Secret;
use verona_contract::problem::Problem;

/// Life of an enrolment token, in seconds: from flashing to the customer's site.
const TOKEN_LIFE_S: i64 = 7 * 24 * 3600;

const MAX_ENDPOINTS: usize = 8;
const MAX_LAN: usize = 64;

/// Registers an edge.
#[utoipa::path(post, path = "/v1/admin/edges", tag = "administration", request_body = NewEdge,
    responses((status = 201, body = EdgeCreated), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "Serial number or fingerprint is taken", body = Problem)))]
pub(crate) async fn create(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Json(request): Json<NewEdge>,
) -> Result<(StatusCode, axum::Json<EdgeCreated>), Failure> {
    caller.operator()?;
    check(&request)?;
    let owner = owner_of(&center, caller.scope, request.owner.clone()).await?;
    let id = Uuid::from_bytes(random_uuid()?);
    let token = match request.fingerprint {
        // A box from stock has one already.
        _ if request.claim => None,
        Some(_) => None,
        None => Some(Secret::new(entropy::octets::<32>()?)),
    };
    let stored_token = token.as_ref().map(|token| (sha256(token.expose()), clock::now_s() + TOKEN_LIFE_S));
    center.signer.register_edge(id, owner.code.clone()).await?;
    let scope = caller.scope;
    let edge = center
        .db
        .write(move |transaction| {
            let shown = if request.claim {
                stock::take(transaction, &request.serial)?.ok_or_else(|| {
                    Failure::not_found(format!("no box {} is waiting for an owner", request.serial))
                })?
            } else {
                Credential { fingerprint: request.fingerprint, token: stored_token }
            };
            let host = addresses::take(transaction, owner.id, owner.network, Holder::Edge)?;
            let host = host.ok_or_else(|| Failure::conflict(format!("network {} is full", owner.network)))?;
            let row = edges::NewEdge {
                id,
                owner: owner.id,
                name: request.name,
                serial: request.serial,
                host,
                endpoints: request.endpoints,
                listen_port: request.listen_port,
                lan: request.lan,
                fingerprint: shown.fingerprint,
                token: shown.token,
            };
            let in_stock = stock::by_serial(transaction, &row.serial)?.is_some();
            if in_stock || !edges::insert(transaction, &row)? {
                return Err(Failure::conflict(
                    "a box with this serial number or fingerprint is registered; one in stock is claimed",
                ));
            }
            edges::by_id(transaction, scope, id)?.ok_or_else(|| unknown(id))
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(EdgeCreated { edge: edge.to_api(None, None), token })))
}

/// The edges that the caller may see.
#[utoipa::path(get, path = "/v1/admin/edges", tag = "administration",
    responses((status = 200, body = Vec<Edge>), (status = 401, body = Problem)))]
pub(crate) async fn list(
    State(center): State<Arc<Center>>,
    caller: Administrator,
) -> Result<axum::Json<Vec<Edge>>, Failure> {
    let edges = center.db.read(move |db| edges::list(db, caller.scope)).await?;
    let shown = edges.iter().map(|edge| {
        // Of thousands of edges the list shows what is wrong, and one edge alone everything.
        let brief = |edge: Edge| Edge { health: None, ..edge };
        brief(edge.to_api(center.seen.last(edge.id), center.heartbeats.last(edge.id)))
    });
    Ok(axum::Json(shown.collect()))
}

/// One edge.
#[utoipa::path(get, path = "/v1/admin/edges/{id}", tag = "administration",
    params(("id" = Uuid, Path, description = "The edge")),
    responses((status = 200, body = Edge), (status = 404, body = Problem)))]
pub(crate) async fn show(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<Edge>, Failure> {
    let id = parse(&id)?;
    let edge = center.db.read(move |db| edges::by_id(db, caller.scope, id)).await?;
    let edge = edge.ok_or_else(|| unknown(id))?;
    Ok(axum::Json(edge.to_api(center.seen.last(id), center.heartbeats.last(id))))
}

/// The edge's own network.
#[utoipa::path(get, path = "/v1/admin/edges/{id}/network", tag = "administration",
    params(("id" = Uuid, Path, description = "The edge")),
    responses((status = 200, description = "As in its configuration", body = serde_json::Value),
        (status = 404, body = Problem)))]
pub(crate) async fn network(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<NetworkConfig>, Failure> {
    let id = parse(&id)?;
    let edge = center.db.read(move |db| edges::by_id(db, caller.scope, id)).await?;
    Ok(axum::Json(edge.ok_or_else(|| unknown(id))?.network))
}

/// Replaces the edge's own network: uplinks, local networks, routes, firewall, names. What is left out is removed
/// from the box.
#[utoipa::path(post, path = "/v1/admin/edges/{id}/network", tag = "administration",
    request_body(content = serde_json::Value, description = "As in its configuration"),
    params(("id" = Uuid, Path, description = "The edge")),
    responses((status = 200, description = "As it is stored", body = serde_json::Value),
        (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn set_network(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
    Json(network): Json<NetworkConfig>,
) -> Result<axum::Json<NetworkConfig>, Failure> {
    let id = parse(&id)?;
    // Here it costs a message; on the box, the configuration.
    network.check().map_err(|error| Failure::bad(error.to_string()))?;
    let (scope, stored) = (caller.scope, network.clone());
    let owner = center
        .db
        .write(move |transaction| {
            let edge = edges::by_id(transaction, scope, id)?.ok_or_else(|| unknown(id))?;
            edges::set_network(transaction, id, &stored)?;
            Ok::<_, Failure>(edge.owner)
        })
        .await?;
    center.composer.mark(owner);
    Ok(axum::Json(network))
}

/// Where the edge's records go besides the center.
#[utoipa::path(get, path = "/v1/admin/edges/{id}/logs", tag = "administration",
    params(("id" = Uuid, Path, description = "The edge")),
    responses((status = 200, description = "As in its configuration", body = serde_json::Value),
        (status = 404, body = Problem)))]
pub(crate) async fn logs(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<LogsConfig>, Failure> {
    let id = parse(&id)?;
    let edge = center.db.read(move |db| edges::by_id(db, caller.scope, id)).await?;
    Ok(axum::Json(edge.ok_or_else(|| unknown(id))?.logs))
}

/// Replaces where the edge's records go besides the center: a customer's collector, by syslog over TLS.
#[utoipa::path(post, path = "/v1/admin/edges/{id}/logs", tag = "administration",
    request_body(content = serde_json::Value, description = "As in its configuration"),
    params(("id" = Uuid, Path, description = "The edge")),
    responses((status = 200, description = "As it is stored", body = serde_json::Value),
        (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn set_logs(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
    Json(logs): Json<LogsConfig>,
) -> Result<axum::Json<LogsConfig>, Failure> {
    let id = parse(&id)?;
    logs.check().map_err(|error| Failure::bad(error.to_string()))?;
    let (scope, stored) = (caller.scope, logs.clone());
    let owner = center
        .db
        .write(move |transaction| {
            let edge = edges::by_id(transaction, scope, id)?.ok_or_else(|| unknown(id))?;
            edges::set_logs(transaction, id, &stored)?;
            Ok::<_, Failure>(edge.owner)
        })
        .await?;
    center.composer.mark(owner);
    Ok(axum::Json(logs))
}

/// Lets the next configuration of an edge remove most of what it has: edges take such a one for an accident.
#[utoipa::path(post, path = "/v1/admin/edges/{id}/allow-shrink", tag = "administration",
    params(("id" = Uuid, Path, description = "The edge")),
    responses((status = 200, body = Edge), (status = 404, body = Problem)))]
pub(crate) async fn allow_shrink(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<Edge>, Failure> {
    let id = parse(&id)?;
    let edge = center
        .db
        .write(move |transaction| {
            let edge = edges::by_id(transaction, caller.scope, id)?.ok_or_else(|| unknown(id))?;
            edges::set_leave(transaction, id, Leave::Given)?;
            Ok::<_, Failure>(edge)
        })
        .await?;
    center.composer.mark(edge.owner);
    Ok(axum::Json(edge.to_api(center.seen.last(id), center.heartbeats.last(id))))
}

fn check(edge: &NewEdge) -> Result<(), Failure> {
    check_name("name", &edge.name)?;
    check_serial(&edge.serial)?;
    check_fingerprint(edge.fingerprint.as_deref())?;
    if edge.claim && edge.fingerprint.is_some() {
        return Err(Failure::bad("fingerprint must be left out with claim: the box in stock has one"));
    }
    if !(1..=MAX_ENDPOINTS).contains(&edge.endpoints.len()) {
        return Err(Failure::bad(format!("endpoints must be 1 to {MAX_ENDPOINTS}")));
    }
    if let Some(bad) = edge.endpoints.iter().find(|endpoint| !is_endpoint(endpoint)) {
        return Err(Failure::bad(format!("endpoint {bad:?} must be host:port, an IPv6 address in brackets")));
    }
    if edge.listen_port == 0 {
        return Err(Failure::bad("listen_port must be 1 to 65535"));
    }
    if edge.lan.len() > MAX_LAN {
        return Err(Failure::bad(format!("lan must be at most {MAX_LAN} networks")));
    }
    if let Some(bad) = edge.lan.iter().find(|network| **network != network.network()) {
        return Err(Failure::bad(format!("lan {bad} must have no host bits: {}", bad.network())));
    }
    Ok(())
}

pub(super) fn check_serial(serial: &str) -> Result<(), Failure> {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
    if (1..=64).contains(&serial.len()) && serial.bytes().all(allowed) {
        return Ok(());
    }
    Err(Failure::bad("serial must be 1 to 64 characters of A-Z a-z 0-9 . _ -"))
}

pub(super) fn check_fingerprint(fingerprint: Option<&str>) -> Result<(), Failure> {
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|octet| b"0123456789abcdef".contains(&octet));
    if fingerprint.is_none_or(hex) {
        return Ok(());
    }
    Err(Failure::bad("fingerprint must be 64 lower-case hex digits"))
}

fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_fits = match bracketed {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            (1..=253).contains(&host.len())
                && host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b".-".contains(&octet))
        }
    };
    host_fits
        && port.bytes().all(|octet| octet.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// What is no id names no edge either.
fn parse(id: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(id).map_err(|_| unknown(id))
}

fn unknown(id: impl Display) -> Failure {
    Failure::not_found(format!("no edge {id}"))
}

/// Octets of a random UUID (RFC 9562 §5.4).
pub(super) fn random_uuid() -> Result<[u8; 16], entropy::EntropyError> {
    let octets = entropy::octets::<16>()?;
    Ok(*uuid::Builder::from_random_bytes(octets).as_uuid().as_bytes())
}

pub(super) fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, octets).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_table() {
        for (text, good) in [
            ("edge.example:51820", true),
            ("192.0.2.1:51820", true),
            ("[2001:db8::1]:51820", true),
            ("2001:db8::1:51820", false),
            ("edge.example", false),
            ("edge.example:0", false),
            ("edge.example:+5", false),
            (":51820", false),
            ("a b:1", false),
        ] {
            assert_eq!(is_endpoint(text), good, "{text}");
        }
    }
}
