//! Owners, and the lists of their issuers.

use super::check_name;
use crate::center::Center;
use crate::clock;
use crate::db::{issuers, owners};
use crate::entropy;
use crate::http::body::Json;
use crate::http::caller::Administrator;
use crate::http::failure::Failure;
use crate::signer::state::IssuerKind;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use rusqlite::Connection;
use std::sync::Arc;
use verona_contract::api::{CrlSummary, NewOwner, NewPskRoot, Owner};
use verona_contract::cert::Issuer;
use verona_contract::config::OwnerCode;
use verona_contract::ipnet::IpNet;
use verona_contract::key::{KeyId, Secret};
use verona_contract::problem::Problem;

/// Longest overlap of two roots of preshared keys, in seconds.
const MAX_OVERLAP_S: u64 = 90 * 24 * 3600;

/// Registers an owner with a client CA, an edge CA and an admin CA.
#[utoipa::path(post, path = "/v1/admin/owners", tag = "administration", request_body = NewOwner,
    responses((status = 201, body = Owner), (status = 400, body = Problem), (status = 403, body = Problem)))]
pub(crate) async fn create(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Json(request): Json<NewOwner>,
) -> Result<(StatusCode, axum::Json<Owner>), Failure> {
    caller.operator()?;
    check_name("name", &request.name)?;
    check_network(request.network)?;
    let code = new_code()?;
    let psk_root = Secret::new(entropy::octets::<32>()?);
    let cas = center.signer.create_owner(code.clone(), request.network).await?;
    let parse = |der: &[u8]| Issuer::parse(der).map_err(|_| crate::signer::SignerError::Protocol);
    let parsed = [
        (IssuerKind::Client, parse(&cas.client.0)?),
        (IssuerKind::Edge, parse(&cas.edge.0)?),
        (IssuerKind::Admin, parse(&cas.admin.0)?),
    ];
    let owner = center
        .db
        .write(move |transaction| {
            let owner = owners::insert(transaction, &code, &request.name, request.network, &psk_root)?;
            for (kind, ca) in &parsed {
                issuers::insert(transaction, &ca.key_id, Some(owner.id), *kind, &ca.der)?;
            }
            to_api(transaction, &owner)
        })
        .await?;
    // An edge denies everyone until it has a list, so the first ones are made at once.
    if let Err(error) = center.lists.make_due().await {
        tracing::error!(error = &error as &dyn std::error::Error, "first lists not made yet");
    }
    Ok((StatusCode::CREATED, axum::Json(owner)))
}

/// All owners.
#[utoipa::path(get, path = "/v1/admin/owners", tag = "administration",
    responses((status = 200, body = Vec<Owner>), (status = 403, body = Problem)))]
pub(crate) async fn list(
    State(center): State<Arc<Center>>,
    caller: Administrator,
) -> Result<axum::Json<Vec<Owner>>, Failure> {
    caller.operator()?;
    let scope = caller.scope;
    let owners = center.db.read(move |db| Ok((owners::list(db, scope)?, issuers::list(db, scope)?))).await?;
    let (owners, ids) = owners;
    let id = |owner, kind| ids.iter().find(|issuer| issuer.owner == Some(owner) && issuer.kind == kind);
    let api = owners.into_iter().filter_map(|owner| {
        let of = |kind| Some(id(owner.id, kind)?.key_id.clone());
        Some(describe(&owner, of(IssuerKind::Client)?, of(IssuerKind::Edge)?))
    });
    Ok(axum::Json(api.collect()))
}

/// Rotates the root of an owner's preshared keys. Every edge gets both roots first; a client gets its new key for an
/// edge once that edge has confirmed.
#[utoipa::path(post, path = "/v1/admin/owners/{code}/psk-root", tag = "administration", request_body = NewPskRoot,
    params(("code" = OwnerCode, Path)),
    responses((status = 200, body = Owner), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn rotate_psk(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(code): Path<OwnerCode>,
    Json(request): Json<NewPskRoot>,
) -> Result<axum::Json<Owner>, Failure> {
    caller.operator()?;
    if request.overlap_s > MAX_OVERLAP_S {
        return Err(Failure::bad(format!("overlap_s must be at most {MAX_OVERLAP_S} (90 days)")));
    }
    let overlap = i64::try_from(request.overlap_s).ok().filter(|seconds| *seconds > 0);
    let overlap_ends = overlap.map(|seconds| clock::now_s() + seconds);
    let psk_root = Secret::new(entropy::octets::<32>()?);
    let (id, owner) = center
        .db
        .write(move |transaction| {
            let before = owners::by_code(transaction, caller.scope, &code)?;
            let before = before.ok_or_else(|| Failure::not_found(format!("no owner {code}")))?;
            let rotated = owners::rotate(transaction, before.id, &psk_root, overlap_ends)?;
            let Some(owner) = rotated else { return Err(under_way(&before)) };
            Ok((owner.id, to_api(transaction, &owner)?))
        })
        .await?;
    center.composer.mark(id);
    Ok(axum::Json(owner))
}

fn under_way(owner: &owners::Owner) -> Failure {
    let until = owner.psk_overlap_ends.map(clock::timestamp_s).unwrap_or_default();
    Failure::conflict(format!(
        "the overlap of the rotation before lasts until {until}; overlap_s = 0 ends it and the root before it"
    ))
}

/// The newest list of each issuer.
#[utoipa::path(get, path = "/v1/admin/crls", tag = "administration",
    responses((status = 200, body = Vec<CrlSummary>), (status = 401, body = Problem)))]
pub(crate) async fn crls(
    State(center): State<Arc<Center>>,
    caller: Administrator,
) -> Result<axum::Json<Vec<CrlSummary>>, Failure> {
    let lists = center.db.read(move |db| issuers::lists(db, caller.scope)).await?;
    let summary = |list: issuers::StoredCrl| CrlSummary {
        issuer: list.issuer.key_id,
        kind: list.issuer.kind.as_str().to_owned(),
        number: list.number,
        entries: list.entries,
        this_update: clock::timestamp_s(list.this_update),
        next_update: clock::timestamp_s(list.next_update),
    };
    Ok(axum::Json(lists.into_iter().map(summary).collect()))
}

fn to_api(db: &Connection, owner: &owners::Owner) -> Result<Owner, Failure> {
    let id = |kind| issuers::of_owner(db, owner.id, kind).map(|issuer| issuer.key_id);
    Ok(describe(owner, id(IssuerKind::Client)?, id(IssuerKind::Edge)?))
}

fn describe(owner: &owners::Owner, client_ca: KeyId, edge_ca: KeyId) -> Owner {
    Owner {
        code: owner.code.clone(),
        name: owner.name.clone(),
        network: owner.network,
        client_ca,
        edge_ca,
        psk_root: owner.psk_root.id,
        psk_overlap_ends: owner.psk_overlap_ends.map(clock::timestamp_s),
    }
}

fn check_network(network: IpNet) -> Result<(), Failure> {
    let prefixes = if network.address().is_ipv4() { 8..=29 } else { 32..=120 };
    if !prefixes.contains(&network.prefix()) {
        let rule = "network must have a prefix of 8 to 29 (IPv4) or 32 to 120 (IPv6)";
        return Err(Failure::bad(format!("{rule}, not {}", network.prefix())));
    }
    if network != network.network() {
        return Err(Failure::bad(format!("network must have no host bits: {}", network.network())));
    }
    let usable = match network.address() {
        std::net::IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_loopback() && !v4.is_unspecified(),
        std::net::IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_loopback() && !v6.is_unspecified(),
    };
    if usable { Ok(()) } else { Err(Failure::bad("network must be of unicast addresses")) }
}

/// A code of 8 random letters and digits: it says nothing about the owner.
fn new_code() -> Result<OwnerCode, Failure> {
    const ALPHABET: [u8; 32] = *b"abcdefghijkmnpqrstuvwxyz23456789";
    let text: String =
        entropy::octets::<8>()?.iter().map(|octet| char::from(ALPHABET[usize::from(octet % 32)])).collect();
    text.parse().map_err(|error: verona_contract::config::OwnerCodeError| Failure::bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_table() {
        for (network, good) in [
            ("10.8.0.0/24", true),
            ("10.8.0.0/29", true),
            ("10.8.0.0/30", false),
            ("10.8.0.1/24", false),
            ("0.0.0.0/8", false),
            ("127.0.0.0/8", false),
            ("224.0.0.0/8", false),
            ("fd00:8::/64", true),
            ("fd00:8::/121", false),
        ] {
            assert_eq!(check_network(network.parse().unwrap()).is_ok(), good, "{network}");
        }
    }
}
