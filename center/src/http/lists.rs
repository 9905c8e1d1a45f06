//! `GET /v1/crl/<issuer key id>`: an issuer's newest list, with long-poll.

use super::accept::stopped;
use super::caller::Reader;
use super::failure::Failure;
use super::wait::{Wish, tag};
use crate::center::Center;
use crate::db::issuers;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use std::sync::Arc;
use verona_contract::key::KeyId;
use verona_contract::problem::Problem;

/// The newest revocation list of an issuer, DER.
#[utoipa::path(get, path = "/v1/crl/{issuer}", tag = "lists",
    params(("issuer" = String, Path, description = "Key identifier of the issuer, lower-case hex"),
        ("If-None-Match" = Option<String>, Header, description = "The cRLNumber that the caller has, in quotes"),
        ("Prefer" = Option<String>, Header, description = "`wait=55`: wait so many seconds for a newer one")),
    responses((status = 200, description = "CertificateList", content_type = "application/pkix-crl"),
        (status = 304, description = "Nothing newer"),
        (status = 404, description = "No such issuer of this owner", body = Problem)))]
pub(crate) async fn crl(
    State(center): State<Arc<Center>>,
    reader: Reader,
    Path(issuer): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let unknown = || Failure::not_found(format!("no list of issuer {issuer}"));
    let key_id: KeyId = issuer.parse().map_err(|_| unknown())?;
    let (id, scope) = (key_id.clone(), reader.scope);
    center.db.read(move |db| issuers::by_key_id(db, scope, &id)).await?.ok_or_else(unknown)?;
    let wish = Wish::read(&headers);
    let (mut news, mut stop) = (center.lists.watch(key_id), center.stop.clone());
    loop {
        let newest = news.borrow_and_update().clone();
        match newest {
            Some(list) if !wish.has(list.number) => {
                let fields =
                    [(header::CONTENT_TYPE, "application/pkix-crl"), (header::CACHE_CONTROL, "no-cache")];
                return Ok((fields, [(header::ETAG, tag(list.number))], list.der.clone()).into_response());
            }
            _ => {}
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return Err(Failure::unavailable("the center restarts", 1)),
            changed = news.changed() => if changed.is_err() { return Err(unknown()) },
            () = tokio::time::sleep_until(wish.until) => {
                // One answer for both: there is nothing newer than what the caller has.
                let newest = news.borrow().as_ref().map(|list| list.number);
                let number = newest.ok_or_else(unknown)?;
                return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag(number))]).into_response());
            }
        }
    }
}
