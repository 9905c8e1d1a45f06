//! What clients call: enrolment with a code, renewal and profile with the device certificate.

use super::body::Json;
use super::caller::ClientCaller;
use super::connection::{Connection, PostQuantum};
use super::failure::Failure;
use crate::center::Center;
use crate::enrolment;
use axum::extract::State;
use std::sync::Arc;
use verona_contract::api::{ClientProfile, EnrollRequest, Enrolled, RenewRequest};
use verona_contract::problem::Problem;

/// Enrols a client with its one-time code.
#[utoipa::path(post, path = "/v1/client/enroll", tag = "enrolment", request_body = EnrollRequest,
    responses((status = 200, body = Enrolled), (status = 400, body = Problem),
        (status = 403, description = "The code is not valid", body = Problem),
        (status = 409, description = "The key is another subject's", body = Problem),
        (status = 429, body = Problem)))]
pub(crate) async fn enroll(
    _: PostQuantum,
    State(center): State<Arc<Center>>,
    connection: Connection,
    Json(request): Json<EnrollRequest>,
) -> Result<axum::Json<Enrolled>, Failure> {
    enrolment::enroll_client(&center, &connection, request).await.map(axum::Json)
}

/// Renews a client's certificates, with the same or a new tunnel key.
#[utoipa::path(post, path = "/v1/client/renew", tag = "client", request_body = RenewRequest,
    responses((status = 200, body = Enrolled), (status = 400, body = Problem), (status = 403, body = Problem)))]
pub(crate) async fn renew(
    _: PostQuantum,
    State(center): State<Arc<Center>>,
    client: ClientCaller,
    connection: Connection,
    Json(request): Json<RenewRequest>,
) -> Result<axum::Json<Enrolled>, Failure> {
    enrolment::renew_client(&center, &client, &connection, &request).await.map(axum::Json)
}

/// Where the calling client connects, and how.
#[utoipa::path(get, path = "/v1/client/profile", tag = "client",
    responses((status = 200, body = ClientProfile), (status = 403, body = Problem)))]
pub(crate) async fn profile(
    _: PostQuantum,
    State(center): State<Arc<Center>>,
    client: ClientCaller,
) -> Result<axum::Json<ClientProfile>, Failure> {
    enrolment::profile(&center, client.owner, client.id).await.map(axum::Json)
}
