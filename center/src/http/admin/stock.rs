//! Boxes on their way: made and flashed, and not yet anybody's. Such a box may call and is told to wait; an operator who
//! registers an edge with `claim` gives it an owner, and its next call enrols it.

use super::edges::{check_fingerprint, check_serial, sha256};
use crate::center::Center;
use crate::clock;
use crate::db::stock::{self, Credential};
use crate::entropy;
use crate::http::body::Json;
use crate::http::caller::Administrator;
use crate::http::failure::Failure;
use axum::extract::State;
use axum::http::StatusCode;
use std::sync::Arc;
use verona_contract::api::{NewStockBox, StockBox, StockBoxCreated};
use verona_contract::key::Secret;
use verona_contract::problem::Problem;

/// Life of the token of a box in stock, in seconds: two years of warehouse and freight.
const TOKEN_LIFE_S: i64 = 2 * 365 * 24 * 3600;

/// Adds a box without an owner.
#[utoipa::path(post, path = "/v1/admin/stock", tag = "administration", request_body = NewStockBox,
    responses((status = 201, body = StockBoxCreated), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "Serial number or fingerprint is taken", body = Problem)))]
pub(crate) async fn create(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Json(request): Json<NewStockBox>,
) -> Result<(StatusCode, axum::Json<StockBoxCreated>), Failure> {
    caller.operator()?;
    check_serial(&request.serial)?;
    check_fingerprint(request.fingerprint.as_deref())?;
    let token = match request.fingerprint {
        Some(_) => None,
        None => Some(Secret::new(entropy::octets::<32>()?)),
    };
    let stored = token.as_ref().map(|token| (sha256(token.expose()), clock::now_s() + TOKEN_LIFE_S));
    let credential = Credential { fingerprint: request.fingerprint, token: stored };
    let serial = request.serial.clone();
    let inserted = center
        .db
        .write(move |transaction| Ok::<_, Failure>(stock::insert(transaction, &serial, &credential)?))
        .await?;
    if !inserted {
        return Err(Failure::conflict("a box with this serial number or fingerprint is registered"));
    }
    let stock_box = StockBox { serial: request.serial, last_seen: None };
    Ok((StatusCode::CREATED, axum::Json(StockBoxCreated { stock_box, token })))
}

/// Boxes without an owner.
#[utoipa::path(get, path = "/v1/admin/stock", tag = "administration",
    responses((status = 200, body = Vec<StockBox>), (status = 401, body = Problem), (status = 403, body = Problem)))]
pub(crate) async fn list(
    State(center): State<Arc<Center>>,
    caller: Administrator,
) -> Result<axum::Json<Vec<StockBox>>, Failure> {
    caller.operator()?;
    Ok(axum::Json(center.db.read(stock::list).await?))
}
