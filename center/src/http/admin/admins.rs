//! Admins of owners: an ID, a password, and a certificate by the owner's admin CA.

use super::edges::random_uuid;
use super::owner_of;
use crate::center::Center;
use crate::db::certificates::{self, Use};
use crate::db::{admins, issuers};
use crate::enrolment::stored;
use crate::http::body::Json;
use crate::http::caller::Administrator;
use crate::http::failure::Failure;
use crate::signer::state::IssuerKind;
use axum::extract::State;
use axum::http::StatusCode;
use std::sync::Arc;
use uuid::Uuid;
use verona_contract::api::{AdminCreated, NewAdmin};
use verona_contract::base64::Octets;
use verona_contract::csr::VerifiedCsr;
use verona_contract::problem::Problem;

/// Registers an admin.
#[utoipa::path(post, path = "/v1/admin/admins", tag = "administration", request_body = NewAdmin,
    responses((status = 201, body = AdminCreated), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 409, description = "The ID is taken", body = Problem)))]
pub(crate) async fn create(
    State(center): State<Arc<Center>>,
    caller: Administrator,
    Json(request): Json<NewAdmin>,
) -> Result<(StatusCode, axum::Json<AdminCreated>), Failure> {
    caller.operator()?;
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"._@-".contains(&octet);
    if !(1..=64).contains(&request.id.len()) || !request.id.bytes().all(allowed) {
        return Err(Failure::bad("id must be 1 to 64 characters of A-Z a-z 0-9 . _ @ -"));
    }
    if !(12..=128).contains(&request.password.chars().count()) {
        return Err(Failure::bad("password must be 12 to 128 characters"));
    }
    VerifiedCsr::parse(&request.csr.0).map_err(|error| Failure::bad(format!("csr: {error}")))?;
    let owner = owner_of(&center, caller.scope, request.owner).await?.id;
    let hash = center.passwords.hash(request.password).await?;
    let (id, login) = (Uuid::from_bytes(random_uuid()?), request.id.clone());
    let issuer = center.db.read(move |db| issuers::of_owner(db, owner, IssuerKind::Admin)).await?;
    let leaf = center.signer.device_leaf(issuer.key_id.clone(), id, &request.csr.0).await?;
    let row = stored(&issuer.key_id, id, Use::Device, &leaf)?;
    center
        .db
        .write(move |transaction| {
            if !admins::insert(transaction, id, owner, &login, &hash)? {
                return Err(Failure::conflict(format!("id {login} is taken")));
            }
            Ok(certificates::insert(transaction, &row)?)
        })
        .await?;
    Ok((StatusCode::CREATED, axum::Json(AdminCreated { id: request.id, certificate: Octets(leaf) })))
}
