//! Enrolment over Secure Transport (RFC 7030, RFC 8951): an edge's operational certificate.
//!
//! Who may enrol was registered before: a serial number with a one-time token, or the fingerprint of a device
//! key, which the box then shows at TLS in whatever certificate it has. An edge keeps its device key for
//! life: another key for the same edge is refused, the same key is answered again.

use super::body::{self, media_type};
use super::caller::{Basic, Caller, basic, identify};
use super::connection::Connection;
use super::failure::Failure;
use crate::center::Center;
use crate::clock;
use crate::db::DbError;
use crate::db::certificates::{self, Use};
use crate::db::edges::{self, EdgeRow};
use crate::db::{issuers, stock};
use crate::enrolment::stored;
use crate::signer::state::IssuerKind;
use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use cms::content_info::ContentInfo;
use der::{Decode as _, Encode as _};
use rusqlite::Transaction;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use verona_contract::csr::{MAX_CSR, VerifiedCsr};
use verona_contract::key::Secret;
use verona_contract::problem::Problem;
use x509_cert::Certificate;

/// Seconds after which a box without an owner asks again. With as much jitter of its own, it is at work within ten
/// seconds of being claimed.
const CLAIM_RETRY_S: u32 = 4;

/// Enrols an edge.
#[utoipa::path(post, path = "/.well-known/est/simpleenroll", tag = "enrolment",
    request_body(content = String, content_type = "application/pkcs10", description = "PKCS#10, base64"),
    responses((status = 200, description = "Certs-only PKCS#7, base64", content_type = "application/pkcs7-mime"),
        (status = 202, description = "Known, and nobody's yet: ask again after Retry-After", body = Problem),
        (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem)))]
pub(crate) async fn simple_enroll(
    State(center): State<Arc<Center>>,
    connection: Connection,
    request: Request,
) -> Result<Response, Failure> {
    let (edge, shown) = applicant(&center, &connection, request.headers()).await?;
    let (csr, der) = read_csr(request).await?;
    if shown.is_some_and(|shown| shown != csr.fingerprint()) {
        return Err(Failure::forbidden("PKCS#10: its key must be the one of the TLS certificate"));
    }
    certify(&center, edge, csr, der).await
}

/// Renews the operational certificate of an edge.
#[utoipa::path(post, path = "/.well-known/est/simplereenroll", tag = "edge",
    request_body(content = String, content_type = "application/pkcs10", description = "PKCS#10, base64"),
    responses((status = 200, description = "Certs-only PKCS#7, base64", content_type = "application/pkcs7-mime"),
        (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem)))]
pub(crate) async fn simple_reenroll(
    State(center): State<Arc<Center>>,
    caller: super::caller::EdgeCaller,
    request: Request,
) -> Result<Response, Failure> {
    let (csr, der) = read_csr(request).await?;
    let scope = crate::db::Scope::of(caller.owner);
    let edge = center.db.read(move |db| edges::by_id(db, scope, caller.id)).await?;
    let edge = edge.ok_or_else(|| Failure::not_found(format!("no edge {}", caller.id)))?;
    certify(&center, edge, csr, der).await
}

/// The CA of the calling edge's owner.
#[utoipa::path(get, path = "/.well-known/est/cacerts", tag = "enrolment",
    responses((status = 200, description = "Certs-only PKCS#7, base64", content_type = "application/pkcs7-mime"),
        (status = 401, body = Problem)))]
pub(crate) async fn ca_certs(
    State(center): State<Arc<Center>>,
    connection: Connection,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (edge, _) = applicant(&center, &connection, &headers).await?;
    let issuer = center.db.read(move |db| issuers::of_owner(db, edge.owner, IssuerKind::Edge)).await?;
    certs_only(&issuer.certificate)
}

/// The registered edge that calls, with the fingerprint of the key that it showed instead of a token.
async fn applicant(
    center: &Center,
    connection: &Connection,
    headers: &HeaderMap,
) -> Result<(EdgeRow, Option<String>), Failure> {
    if let Some(basic) = basic(headers) {
        return Ok((by_token(center, connection, basic).await?, None));
    }
    let fingerprint = match identify(center, connection).await? {
        Caller::Unknown { fingerprint } => fingerprint,
        Caller::Edge { owner, id, fingerprint } => {
            let scope = crate::db::Scope::of(owner);
            let edge = center.db.read(move |db| edges::by_id(db, scope, id)).await?;
            let edge = edge.ok_or_else(|| Failure::not_found(format!("no edge {id}")))?;
            return Ok((edge, Some(fingerprint)));
        }
        _ => {
            return Err(Failure::unauthorized(
                "enrolment needs serial number and token, or a registered key",
            ));
        }
    };
    let shown = fingerprint.clone();
    let found = center.db.read(move |db| {
        Ok::<_, DbError>((edges::by_fingerprint(db, &shown)?, stock::by_fingerprint(db, &shown)?))
    });
    match found.await? {
        (Some(edge), _) => Ok((edge, Some(fingerprint))),
        (None, Some(serial)) => Err(unclaimed(center, serial).await?),
        (None, None) => Err(Failure::unauthorized(format!(
            "no edge is registered with device key fingerprint {fingerprint}"
        ))),
    }
}

/// The answer to a box that is known and has no owner yet (RFC 7030 §4.2.3).
async fn unclaimed(center: &Center, serial: String) -> Result<Failure, Failure> {
    let detail = format!("box {serial} has no owner yet; the center waits for one to claim it");
    let seen = move |transaction: &Transaction<'_>| {
        Ok::<_, Failure>(stock::seen(transaction, &serial, clock::now_ns())?)
    };
    center.db.write(seen).await?;
    Ok(Failure::accepted(detail, CLAIM_RETRY_S))
}

async fn by_token(center: &Center, connection: &Connection, basic: Basic) -> Result<EdgeRow, Failure> {
    let source = connection.source();
    center.throttle.check(source)?;
    let wrong = || {
        center.throttle.failed(source);
        Failure::unauthorized("serial number or token is wrong, or the token has ended")
    };
    let token: Secret = basic.password.parse().map_err(|_| wrong())?;
    let shown = digest(&SHA256, token.expose());
    let right = |hash: Option<[u8; 32]>, expires: Option<i64>| {
        let matches = hash.is_some_and(|hash| hash.ct_eq(shown.as_ref()).into());
        matches && expires.is_some_and(|expires| expires > clock::now_s())
    };
    let serial = basic.user.clone();
    let found = center
        .db
        .read(move |db| Ok::<_, DbError>((edges::by_serial(db, &serial)?, stock::by_serial(db, &serial)?)));
    match found.await? {
        (Some(edge), _) if right(edge.token_hash, edge.token_expires) => Ok(edge),
        (None, Some(in_stock)) if right(in_stock.token.map(|of| of.0), in_stock.token.map(|of| of.1)) => {
            Err(unclaimed(center, basic.user).await?)
        }
        _ => Err(wrong()),
    }
}

async fn read_csr(request: Request) -> Result<(VerifiedCsr, Vec<u8>), Failure> {
    let (parts, body) = request.into_parts();
    if media_type(&parts.headers) != Some("application/pkcs10") {
        return Err(Failure::media_type("application/pkcs10"));
    }
    let mut text = body::read(body, MAX_CSR * 2).await?;
    text.retain(|octet| !octet.is_ascii_whitespace());
    let text = String::from_utf8(text).map_err(|_| Failure::bad("PKCS#10: body must be base64"))?;
    let der = verona_contract::base64::decode(&text)
        .map_err(|error| Failure::bad(format!("PKCS#10: body must be base64: {error}")))?;
    let csr = VerifiedCsr::parse(&der).map_err(|error| Failure::bad(format!("PKCS#10: {error}")))?;
    Ok((csr, der))
}

async fn certify(
    center: &Center,
    edge: EdgeRow,
    csr: VerifiedCsr,
    der: Vec<u8>,
) -> Result<Response, Failure> {
    let (id, owner, fingerprint) = (edge.id, edge.owner, csr.fingerprint());
    if edge.fingerprint.is_some_and(|registered| registered != fingerprint) {
        return Err(Failure::forbidden("PKCS#10: its key must be the registered device key"));
    }
    let issuer = center
        .db
        .write(move |transaction| {
            if !edges::bind_device(transaction, id, &fingerprint)? {
                return Err(Failure::forbidden("PKCS#10: this edge enrolled with another device key")
                    .kind("urn:verona:problem:other-device-key"));
            }
            Ok(issuers::of_owner(transaction, owner, IssuerKind::Edge)?)
        })
        .await?;
    let leaf = center.signer.device_leaf(issuer.key_id.clone(), id, &der).await?;
    let row = stored(&issuer.key_id, id, Use::Device, &leaf)?;
    center.db.write(move |transaction| Ok::<_, Failure>(certificates::insert(transaction, &row)?)).await?;
    center.seen.note(id);
    tracing::info!(edge = %id, "operational certificate issued");
    certs_only(&leaf)
}

fn certs_only(certificate: &[u8]) -> Result<Response, Failure> {
    // Our own signer made the certificate.
    let message = Certificate::from_der(certificate)
        .and_then(ContentInfo::try_from)
        .and_then(|message| message.to_der())
        .map_err(|_| crate::signer::SignerError::Protocol)?;
    let text = verona_contract::base64::encode(message);
    // `openssl base64 -d` reads no endless line, `base64 -d` no carriage return; RFC 8951 allows any space.
    let mut lines = String::with_capacity(text.len() + text.len() / 32);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(76));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    let content_type = (header::CONTENT_TYPE, "application/pkcs7-mime; smime-type=certs-only");
    Ok(([content_type], [("content-transfer-encoding", "base64")], lines).into_response())
}
