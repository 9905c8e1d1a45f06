//! Groups of clients: each change reaches the edges as a new configuration.

use super::edges::random_uuid;
use super::{check_name, owner_of};
use crate::center::Center;
use crate::db::groups::{self, GroupRow};
use crate::db::{DbError, clients, owners};
use crate::http::body::Json;
use crate::http::caller::Administrator;
use crate::http::failure::Failure;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use rusqlite::Transaction;
use std::sync::Arc;
use uuid::Uuid;
use verona_contract::api::{ClientGroup, GroupMember, GroupRules, NewGroup};
use verona_contract::groups::{MAX_GROUPS, MAX_RULES, Rule};
use verona_contract::problem::Problem;

/// Makes a group.
#[utoipa::path(post, path = "/v1/admin/groups", tag = "administration", request_body = NewGroup,
    responses((status = 201, body = ClientGroup), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(crate) async fn create(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Json(request): Json<NewGroup>,
) -> Result<(StatusCode, axum::Json<ClientGroup>), Failure> {
    check_name("name", &request.name)?;
    check_rules(&request.rules)?;
    let owner = match (caller.scope.owner(), request.owner) {
        (_, Some(code)) => owner_of(&center, caller.scope, code).await?,
        (Some(own), None) => {
            let owner = center.db.read(move |db| owners::by_id(db, own)).await?;
            owner.ok_or_else(|| Failure::not_found("no such owner"))?
        }
        (None, None) => return Err(Failure::bad("owner must be given by an operator")),
    };
    let (id, scope, owner) = (Uuid::from_bytes(random_uuid()?), caller.scope, owner.id);
    let made = center
        .db
        .write(move |transaction| {
            if groups::count(transaction, owner)? >= MAX_GROUPS {
                return Err(Failure::conflict(format!("an owner has at most {MAX_GROUPS} groups")));
            }
            if !groups::insert(transaction, owner, (id, &request.name, &request.rules))? {
                return Err(Failure::conflict("name is the name of another group"));
            }
            groups::by_id(transaction, scope, id)?.ok_or_else(|| unknown(&id.to_string()))
        })
        .await?;
    center.composer.mark(made.owner);
    Ok((StatusCode::CREATED, axum::Json(made.group)))
}

/// The groups that the caller may see.
#[utoipa::path(get, path = "/v1/admin/groups", tag = "administration",
    responses((status = 200, body = Vec<ClientGroup>), (status = 401, body = Problem)))]
pub(crate) async fn list(
    State(center): State<Arc<Center>>,
    caller: Administrator,
) -> Result<axum::Json<Vec<ClientGroup>>, Failure> {
    let rows = center.db.read(move |db| groups::list(db, caller.scope)).await?;
    Ok(axum::Json(rows.into_iter().map(|row| row.group).collect()))
}

/// One group.
#[utoipa::path(get, path = "/v1/admin/groups/{id}", tag = "administration",
    params(("id" = Uuid, Path, description = "The group")),
    responses((status = 200, body = ClientGroup), (status = 404, body = Problem)))]
pub(crate) async fn show(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<ClientGroup>, Failure> {
    let group = parse(&id)?;
    let row = center.db.read(move |db| groups::by_id(db, caller.scope, group)).await?;
    row.map(|row| axum::Json(row.group)).ok_or_else(|| unknown(&id))
}

/// Replaces the rules of a group.
#[utoipa::path(post, path = "/v1/admin/groups/{id}/rules", tag = "administration", request_body = GroupRules,
    params(("id" = Uuid, Path, description = "The group")),
    responses((status = 200, body = ClientGroup), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn rules(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
    Json(request): Json<GroupRules>,
) -> Result<axum::Json<ClientGroup>, Failure> {
    check_rules(&request.rules)?;
    let change = move |transaction: &Transaction<'_>, row: &GroupRow| {
        Ok(groups::set_rules(transaction, row.group.id, &request.rules)?)
    };
    changed(&center, &caller, &id, change).await
}

/// Puts a client into a group.
#[utoipa::path(post, path = "/v1/admin/groups/{id}/members", tag = "administration", request_body = GroupMember,
    params(("id" = Uuid, Path, description = "The group")),
    responses((status = 200, body = ClientGroup), (status = 404, body = Problem)))]
pub(crate) async fn join(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
    Json(request): Json<GroupMember>,
) -> Result<axum::Json<ClientGroup>, Failure> {
    member(&center, &caller, &id, (request.client, true)).await
}

/// Takes a client out of a group.
#[utoipa::path(post, path = "/v1/admin/groups/{id}/members/remove", tag = "administration",
    request_body = GroupMember, params(("id" = Uuid, Path, description = "The group")),
    responses((status = 200, body = ClientGroup), (status = 404, body = Problem)))]
pub(crate) async fn leave(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
    Json(request): Json<GroupMember>,
) -> Result<axum::Json<ClientGroup>, Failure> {
    member(&center, &caller, &id, (request.client, false)).await
}

/// Removes a group. Who was in no other goes wherever the edges route again.
#[utoipa::path(delete, path = "/v1/admin/groups/{id}", tag = "administration",
    params(("id" = Uuid, Path, description = "The group")),
    responses((status = 200, description = "As it was", body = ClientGroup), (status = 404, body = Problem)))]
pub(crate) async fn remove(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<ClientGroup>, Failure> {
    let (group, scope) = (parse(&id)?, caller.scope);
    let removed = center
        .db
        .write(move |transaction| {
            let row = groups::by_id(transaction, scope, group)?.ok_or_else(|| unknown(&id))?;
            groups::remove(transaction, group)?;
            Ok::<_, Failure>(row)
        })
        .await?;
    center.composer.mark(removed.owner);
    Ok(axum::Json(removed.group))
}

async fn member(
    center: &Center,
    caller: &Administrator,
    id: &str,
    (client, is_in): (Uuid, bool),
) -> Result<axum::Json<ClientGroup>, Failure> {
    let change = move |transaction: &Transaction<'_>, row: &GroupRow| {
        // A client of another owner is none at all.
        let scope = crate::db::Scope::of(row.owner);
        if clients::by_id(transaction, scope, client)?.is_none() {
            return Err(Failure::not_found(format!("no client {client}")));
        }
        Ok(groups::set_member(transaction, (row.group.id, client), is_in)?)
    };
    changed(center, caller, id, change).await
}

async fn changed(
    center: &Center,
    caller: &Administrator,
    id: &str,
    change: impl FnOnce(&Transaction<'_>, &GroupRow) -> Result<(), Failure> + Send + 'static,
) -> Result<axum::Json<ClientGroup>, Failure> {
    let (group, scope, id) = (parse(id)?, caller.scope, id.to_owned());
    let after = center
        .db
        .write(move |transaction| {
            let find = || -> Result<Option<GroupRow>, DbError> { groups::by_id(transaction, scope, group) };
            let row = find()?.ok_or_else(|| unknown(&id))?;
            change(transaction, &row)?;
            find()?.ok_or_else(|| unknown(&id))
        })
        .await?;
    center.composer.mark(after.owner);
    Ok(axum::Json(after.group))
}

fn check_rules(rules: &[Rule]) -> Result<(), Failure> {
    if rules.len() > MAX_RULES {
        return Err(Failure::bad(format!("rules: at most {MAX_RULES}")));
    }
    for (index, rule) in rules.iter().enumerate() {
        rule.check().map_err(|(field, broken)| Failure::bad(format!("rules[{index}].{field}: {broken}")))?;
    }
    Ok(())
}

fn parse(id: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(id).map_err(|_| unknown(id))
}

fn unknown(id: &str) -> Failure {
    Failure::not_found(format!("no group {id}"))
}
