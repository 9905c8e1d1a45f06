//! Firmware: the vendor says which ring of edges gets which version, the customer when his boxes may restart, and
//! both see what came of it.

use crate::center::Center;
use crate::db::{Scope, firmware, owners};
use crate::http::body::Json;
use crate::http::caller::Administrator;
use crate::http::failure::Failure;
use axum::extract::{Path, State};
use std::sync::Arc;
use uuid::Uuid;
use verona_contract::api::{EdgeFirmware, EdgeUpdate, Ring};
use verona_contract::config::Window;
use verona_contract::problem::Problem;

const MAX_SPREAD_S: u32 = 86_400;

/// The rings.
#[utoipa::path(get, path = "/v1/admin/rings", tag = "administration",
    responses((status = 200, body = Vec<Ring>), (status = 403, body = Problem)))]
pub(crate) async fn rings(
    State(center): State<Arc<Center>>,
    caller: Administrator,
) -> Result<axum::Json<Vec<Ring>>, Failure> {
    caller.operator()?;
    Ok(axum::Json(center.db.read(firmware::rings).await?))
}

/// Makes a ring or gives it another version: its edges begin to update.
#[utoipa::path(post, path = "/v1/admin/rings", tag = "administration", request_body = Ring,
    responses((status = 200, body = Ring), (status = 400, body = Problem), (status = 403, body = Problem)))]
pub(crate) async fn set_ring(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Json(ring): Json<Ring>,
) -> Result<axum::Json<Ring>, Failure> {
    caller.operator()?;
    check_name(&ring.name)?;
    if ring.spread_s > MAX_SPREAD_S {
        return Err(Failure::bad(format!("spread_s must be at most {MAX_SPREAD_S}")));
    }
    let stored = ring.clone();
    let owners = center
        .db
        .write(move |transaction| {
            firmware::set_ring(transaction, &stored)?;
            Ok::<_, Failure>(owners::list(transaction, Scope::EVERY_OWNER)?)
        })
        .await?;
    owners.iter().for_each(|owner| center.composer.mark(owner.id));
    Ok(axum::Json(ring))
}

/// One edge's firmware.
#[utoipa::path(get, path = "/v1/admin/edges/{id}/update", tag = "administration",
    params(("id" = Uuid, Path, description = "The edge")),
    responses((status = 200, body = EdgeFirmware), (status = 404, body = Problem)))]
pub(crate) async fn of_edge(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
) -> Result<axum::Json<EdgeFirmware>, Failure> {
    let id = parse(&id)?;
    let found = center.db.read(move |db| firmware::of_edge(db, caller.scope, id)).await?;
    found.map(axum::Json).ok_or_else(|| unknown(&id))
}

/// Changes when, and in which ring, an edge is updated.
#[utoipa::path(post, path = "/v1/admin/edges/{id}/update", tag = "administration", request_body = EdgeUpdate,
    params(("id" = Uuid, Path, description = "The edge")),
    responses((status = 200, body = EdgeFirmware), (status = 400, body = Problem),
        (status = 403, description = "A ring, asked for by an admin", body = Problem),
        (status = 404, body = Problem)))]
pub(crate) async fn change(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Path(id): Path<String>,
    Json(wish): Json<EdgeUpdate>,
) -> Result<axum::Json<EdgeFirmware>, Failure> {
    let (id, scope) = (parse(&id)?, caller.scope);
    if let Some(ring) = &wish.ring {
        // What a customer may not do: run ahead of the vendor's tests, or stay behind for ever.
        caller.operator()?;
        check_name(ring)?;
    }
    if wish.window.as_ref().is_some_and(|window| !(5..=1440).contains(&window.minutes)) {
        return Err(Failure::bad("window.minutes must be 5 to 1440"));
    }
    let (owner, firmware) = center
        .db
        .write(move |transaction| {
            let edge = crate::db::edges::by_id(transaction, scope, id)?.ok_or_else(|| unknown(&id))?;
            if let Some(ring) = &wish.ring {
                if !firmware::rings(transaction)?.iter().any(|known| known.name == *ring) {
                    return Err(Failure::not_found(format!("no ring {ring}")));
                }
                firmware::join_ring(transaction, id, ring)?;
            }
            let window: Option<&Window> = wish.window.as_ref();
            if window.is_some() || wish.any_time {
                firmware::set_window(transaction, id, window)?;
            }
            let changed = firmware::of_edge(transaction, scope, id)?.ok_or_else(|| unknown(&id))?;
            Ok::<_, Failure>((edge.owner, changed))
        })
        .await?;
    center.composer.mark(owner);
    Ok(axum::Json(firmware))
}

fn check_name(name: &str) -> Result<(), Failure> {
    let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    if (1..=32).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Failure::bad("ring must be 1 to 32 characters of a-z, 0-9 and -"))
}

fn parse(id: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(id).map_err(|_| unknown(&id))
}

fn unknown(id: &dyn std::fmt::Display) -> Failure {
    Failure::not_found(format!("no edge {id}"))
}
