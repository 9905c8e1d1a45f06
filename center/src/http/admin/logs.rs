//! Log records, their chains and alarms, as an administrator reads them.

use crate::center::Center;
use crate::http::caller::Administrator;
use crate::http::failure::Failure;
use crate::logs;
use axum::extract::{Query, State};
use serde::Deserialize;
use std::sync::Arc;
use uuid::Uuid;
use verona_contract::api::{ChainReport, LogAlarm, LogPage};
use verona_contract::log::Stream;
use verona_contract::problem::Problem;

/// Records of a page when the caller names no number.
const DEFAULT_PAGE: u32 = 100;

/// Which records.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    edge: Option<Uuid>,
    stream: Option<Stream>,
    event: Option<String>,
    #[serde(default)]
    after: u64,
    limit: Option<u32>,
}

/// One page of log records, in the order of arrival.
#[utoipa::path(get, path = "/v1/admin/logs", tag = "administration",
    params(("edge" = Option<Uuid>, Query, description = "Of this edge"),
        ("stream" = Option<Stream>, Query, description = "Of this stream"),
        ("event" = Option<String>, Query, description = "Of this event"),
        ("after" = Option<u64>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, by default 100")),
    responses((status = 200, body = LogPage), (status = 400, body = Problem)))]
pub(crate) async fn page(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    query: Result<Query<PageQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<axum::Json<LogPage>, Failure> {
    let Query(query) = query.map_err(|error| Failure::bad(format!("query: {}", error.body_text())))?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=logs::MAX_PAGE).contains(&limit) {
        return Err(Failure::bad(format!("query: limit must be 1 to {}", logs::MAX_PAGE)));
    }
    let PageQuery { edge, stream, event, after, .. } = query;
    let query = logs::Query { edge, stream, event, after, limit };
    Ok(axum::Json(center.logs.page(caller.scope, query).await?))
}

/// The state of each chain of records, hashed anew from what is stored.
#[utoipa::path(get, path = "/v1/admin/logs/chains", tag = "administration",
    responses((status = 200, body = Vec<ChainReport>), (status = 401, body = Problem)))]
pub(crate) async fn chains(
    State(center): State<Arc<Center>>,
    caller: Administrator,
) -> Result<axum::Json<Vec<ChainReport>>, Failure> {
    Ok(axum::Json(center.logs.chains(caller.scope).await?))
}

/// Records that were refused because they claim the place of others.
#[utoipa::path(get, path = "/v1/admin/logs/alarms", tag = "administration",
    responses((status = 200, body = Vec<LogAlarm>), (status = 401, body = Problem)))]
pub(crate) async fn alarms(
    State(center): State<Arc<Center>>,
    caller: Administrator,
) -> Result<axum::Json<Vec<LogAlarm>>, Failure> {
    Ok(axum::Json(center.logs.alarms(caller.scope).await?))
}
