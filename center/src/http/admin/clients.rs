//! Clients: registration with a code, and what they may.

use super::edges::{random_uuid, sha256};
use super::{check_name, owner_of};
use crate::center::Center;
use crate::clock;
use crate::db::addresses::{self, Holder};
use crate::db::{clients, owners};
use crate::entropy;
use crate::http::body::Json;
use crate::http::caller::Administrator;
use crate::http::failure::Failure;
use crate::revocation;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;
use verona_contract::api::{Client, ClientAction, ClientCreated, ClientDetail, NewClient, StateChanged};
use verona_contract::config::OwnerCode;
use verona_contract::enrolment::EnrolmentCode;
use verona_contract::problem::Problem;
use zeroize::Zeroizing;

/// Life of an enrolment code, in seconds.
const CODE_LIFE_S: i64 = 24 * 3600;

/// Registers a client.
#[utoipa::path(post, path = "/v1/admin/clients", tag = "administration", request_body = NewClient,
    responses((status = 201, body = ClientCreated), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn create(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Json(request): Json<NewClient>,
) -> Result<(StatusCode, axum::Json<ClientCreated>), Failure> {
    check_name("name", &request.name)?;
    let owner = match (caller.scope.owner(), request.owner) {
        (_, Some(code)) => owner_of(&center, caller.scope, code).await?,
        (Some(own), None) => {
            let owner = center.db.read(move |db| owners::by_id(db, own)).await?;
            owner.ok_or_else(|| Failure::not_found("no such owner"))?
        }
        (None, None) => return Err(Failure::bad("owner must be given by an operator")),
    };
    let secret = Zeroizing::new(entropy::octets::<16>()?);
    let (id, code_hash) = (Uuid::from_bytes(random_uuid()?), sha256(secret.as_slice()));
    let code_expires = clock::now_s() + CODE_LIFE_S;
    let scope = caller.scope;
    let client = center
        .db
        .write(move |transaction| {
            let host = addresses::take(transaction, owner.id, owner.network, Holder::Client)?;
            let host = host.ok_or_else(|| Failure::conflict(format!("network {} is full", owner.network)))?;
            let (owner, name, push) = (owner.id, request.name, request.push);
            let row = clients::NewClient { id, owner, name, host, push, code_hash, code_expires };
            clients::insert(transaction, &row)?;
            clients::by_id(transaction, scope, id)?.ok_or_else(|| unknown(&id.to_string()))
        })
        .await?;
    let code = EnrolmentCode { pin: center.pin, secret, center: center.url.clone() };
    let created = ClientCreated {
        client: client.to_api(),
        code: code.to_text().to_string(),
        expires: clock::timestamp_s(code_expires),
    };
    Ok((StatusCode::CREATED, axum::Json(created)))
}

/// Narrows a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    owner: Option<OwnerCode>,
}

/// The clients that the caller may see.
#[utoipa::path(get, path = "/v1/admin/clients", tag = "administration",
    params(("owner" = Option<String>, Query, description = "Only this owner's")),
    responses((status = 200, body = Vec<Client>), (status = 401, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn list(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<axum::Json<Vec<Client>>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad(format!("query: {}", error.body_text())))?;
    let scope = match query.owner {
        None => caller.scope,
        Some(code) => {
            let owner = owner_of(&center, caller.scope, code).await?;
            caller.scope.narrow(owner.id).ok_or_else(|| Failure::not_found("no such owner"))?
        }
    };
    let clients = center.db.read(move |db| clients::list(db, scope)).await?;
    Ok(axum::Json(clients.iter().map(clients::ClientRow::to_api).collect()))
}

/// One client with the proof of its last change: which edge has put it in force, and after how long.
#[utoipa::path(get, path = "/v1/admin/clients/{id}", tag = "administration",
    params(("id" = Uuid, Path, description = "The client")),
    responses((status = 200, body = ClientDetail), (status = 404, body = Problem)))]
pub(crate) async fn show(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<ClientDetail>, Failure> {
    let id = parse(&id)?;
    revocation::detail(&center, caller.scope, id).await.map(axum::Json)
}

/// Puts a client's certificates on hold.
#[utoipa::path(post, path = "/v1/admin/clients/{id}/disable", tag = "administration",
    params(("id" = Uuid, Path, description = "The client")),
    responses((status = 200, body = StateChanged), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, description = "Stored; the list follows", body = Problem)))]
pub(crate) async fn disable(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<StateChanged>, Failure> {
    let id = parse(&id)?;
    revocation::order(&center, &caller, id, ClientAction::Disable).await.map(axum::Json)
}

/// Takes the hold back.
#[utoipa::path(post, path = "/v1/admin/clients/{id}/enable", tag = "administration",
    params(("id" = Uuid, Path, description = "The client")),
    responses((status = 200, body = StateChanged), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, description = "Stored; the list follows", body = Problem)))]
pub(crate) async fn enable(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<StateChanged>, Failure> {
    let id = parse(&id)?;
    revocation::order(&center, &caller, id, ClientAction::Enable).await.map(axum::Json)
}

/// Revokes a client for good.
#[utoipa::path(post, path = "/v1/admin/clients/{id}/revoke", tag = "administration",
    params(("id" = Uuid, Path, description = "The client")),
    responses((status = 200, body = StateChanged), (status = 404, body = Problem),
        (status = 503, description = "Stored; the list follows", body = Problem)))]
pub(crate) async fn revoke(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<StateChanged>, Failure> {
    let id = parse(&id)?;
    revocation::order(&center, &caller, id, ClientAction::Revoke).await.map(axum::Json)
}

fn parse(id: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(id).map_err(|_| unknown(id))
}

fn unknown(id: &str) -> Failure {
    Failure::not_found(format!("no client {id}"))
}
