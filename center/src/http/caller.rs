//! Who calls: decided from the TLS client certificate, and for admins from ID and password as well.
//!
//! A certificate counts when we issued it (its octets are stored), its signature holds under its CA, its
//! dates hold and nobody put it on hold. From the caller follows the [`Scope`] of every query.

use super::connection::Connection;
use super::failure::Failure;
use crate::center::Center;
use crate::db::certificates::{self, Shown, Status};
use crate::db::{OwnerId, Scope, admins};
use crate::signer::state::IssuerKind;
use axum::extract::FromRequestParts;
use axum::http::{HeaderMap, header, request::Parts};
use base64::Engine as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use verona_contract::key::{KeyId, Serial};
use verona_contract::problem::kind;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};
use zeroize::Zeroizing;

/// Who calls, by certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// No certificate.
    Anonymous,
    /// A certificate that we did not issue, or that has ended: its key is proven, nothing else.
    Unknown {
        /// SHA-256 of the `SubjectPublicKeyInfo`, hex.
        fingerprint: String,
    },
    /// The vendor's staff.
    Operator,
    /// An owner's admin; the password is still to be checked.
    Admin {
        /// Whose.
        owner: OwnerId,
        /// Which.
        id: Uuid,
    },
    /// An enrolled edge.
    Edge {
        /// Whose.
        owner: OwnerId,
        /// Which.
        id: Uuid,
        /// Of its device key.
        fingerprint: String,
    },
    /// An enrolled client that is enabled.
    Client {
        /// Whose.
        owner: OwnerId,
        /// Which.
        id: Uuid,
        /// Of its device key.
        fingerprint: String,
    },
}

/// Finds out who calls.
///
/// # Errors
///
/// [`Failure`] of the database, or 403 for a certificate that is on hold or revoked.
pub(crate) async fn identify(center: &Center, connection: &Connection) -> Result<Caller, Failure> {
    let Some(der) = connection.certificate.clone() else { return Ok(Caller::Anonymous) };
    let Some(names) = Names::read(&der) else {
        return Err(Failure::unauthorized("the client certificate cannot be read"));
    };
    let fingerprint = names.fingerprint;
    let Some((issuer, serial)) = names.issued else { return Ok(Caller::Unknown { fingerprint }) };
    let octets = Arc::clone(&der);
    let shown = center.db.read(move |db| certificates::find_device(db, &issuer, &serial, &octets)).await?;
    let Some(shown) = shown.filter(|shown| holds(&der, &shown.issuer)) else {
        return Ok(Caller::Unknown { fingerprint });
    };
    match shown.status {
        Status::Good => {}
        Status::Hold => {
            return Err(Failure::forbidden("this certificate is disabled").kind(kind::CLIENT_DISABLED));
        }
        Status::Superseded | Status::Withdrawn => {
            return Err(Failure::forbidden("this certificate is revoked").kind(kind::CLIENT_REVOKED));
        }
    }
    Ok(caller(&shown, fingerprint))
}

fn caller(shown: &Shown, fingerprint: String) -> Caller {
    match (shown.kind, shown.owner) {
        (IssuerKind::Operator, _) => Caller::Operator,
        (IssuerKind::Admin, Some(owner)) => Caller::Admin { owner, id: shown.subject },
        (IssuerKind::Edge, Some(owner)) => Caller::Edge { owner, id: shown.subject, fingerprint },
        (IssuerKind::Client, Some(owner)) => Caller::Client { owner, id: shown.subject, fingerprint },
        _ => Caller::Unknown { fingerprint },
    }
}

struct Names {
    fingerprint: String,
    issued: Option<(KeyId, Serial)>,
}

impl Names {
    fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let fingerprint = verona_contract::csr::fingerprint(certificate.tbs_certificate.subject_pki.raw);
        let authority =
            certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(authority) => authority.key_identifier.as_ref(),
                _ => None,
            });
        let issuer = authority.and_then(|id| KeyId::new(id.0).ok());
        let serial = Serial::new(certificate.raw_serial()).ok();
        Some(Self { fingerprint, issued: issuer.zip(serial) })
    }
}

fn holds(leaf: &[u8], issuer: &[u8]) -> bool {
    let (leaf, issuer) = (CertificateDer::from(leaf), CertificateDer::from(issuer));
    let now = Duration::from_secs(u64::try_from(crate::clock::now_s()).unwrap_or(0));
    let (Ok(leaf), Ok(anchor)) = (EndEntityCert::try_from(&leaf), anchor_from_trusted_cert(&issuer)) else {
        return false;
    };
    leaf.verify_for_usage(
        &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
        &[anchor],
        &[],
        UnixTime::since_unix_epoch(now),
        KeyUsage::client_auth(),
        None,
        None,
    )
    .is_ok()
}

/// `Authorization: Basic` (RFC 7617).
pub(crate) struct Basic {
    /// Before the first colon.
    pub(crate) user: String,
    /// After it.
    pub(crate) password: Zeroizing<String>,
}

/// Reads `Authorization: Basic`; none when it is absent or malformed.
pub(crate) fn basic(headers: &HeaderMap) -> Option<Basic> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > 1024 {
        return None;
    }
    let octets = Zeroizing::new(base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?);
    let (user, password) = std::str::from_utf8(&octets).ok()?.split_once(':')?;
    Some(Basic { user: user.to_owned(), password: Zeroizing::new(password.to_owned()) })
}

/// An operator or an admin, with what they may see.
#[derive(Clone, Debug)]
pub(crate) struct Administrator {
    /// What every query of this request is scoped by.
    pub(crate) scope: Scope,
    /// Who it is, for the records: an admin's login name, or `operator`.
    pub(crate) name: String,
}

impl Administrator {
    /// Refuses everyone but operators.
    ///
    /// # Errors
    ///
    /// 403.
    pub(crate) fn operator(&self) -> Result<(), Failure> {
        match self.scope.owner() {
            None => Ok(()),
            Some(_) => Err(Failure::forbidden("only an operator may do this")),
        }
    }
}

impl FromRequestParts<Arc<Center>> for Administrator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, center: &Arc<Center>) -> Result<Self, Failure> {
        let connection = connection(parts)?;
        match identify(center, connection).await? {
            Caller::Operator => Ok(Self { scope: Scope::EVERY_OWNER, name: "operator".to_owned() }),
            Caller::Admin { owner, id } => {
                let name = check_password(center, connection, owner, id, basic(&parts.headers)).await?;
                Ok(Self { scope: Scope::of(owner), name })
            }
            _ => Err(Failure::unauthorized("administration needs an operator's or an admin's certificate")),
        }
    }
}

/// Returns the login name.
async fn check_password(
    center: &Center,
    connection: &Connection,
    owner: OwnerId,
    id: Uuid,
    basic: Option<Basic>,
) -> Result<String, Failure> {
    let source = connection.source();
    center.throttle.check(source)?;
    let wrong = || Failure::unauthorized("ID or password is wrong");
    let Some(basic) = basic else {
        return Err(Failure::unauthorized("an admin's certificate needs ID and password beside it"));
    };
    let login = center.db.read(move |db| admins::login(db, owner, id)).await?;
    let (login, hash) = login.ok_or_else(wrong)?;
    let same_login = login == basic.user;
    let right = center.passwords.verify(basic.password, hash, || center.throttle.check(source)).await?;
    if same_login && right {
        Ok(login)
    } else {
        center.throttle.failed(source);
        Err(wrong())
    }
}

/// An enrolled edge.
#[derive(Clone, Debug)]
pub(crate) struct EdgeCaller {
    /// Whose.
    pub(crate) owner: OwnerId,
    /// Which.
    pub(crate) id: Uuid,
    /// Of its device key.
    pub(crate) fingerprint: String,
}

impl FromRequestParts<Arc<Center>> for EdgeCaller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, center: &Arc<Center>) -> Result<Self, Failure> {
        match identify(center, connection(parts)?).await? {
            Caller::Edge { owner, id, fingerprint } => {
                center.seen.note(id);
                Ok(Self { owner, id, fingerprint })
            }
            _ => Err(Failure::unauthorized("this needs an edge's operational certificate")),
        }
    }
}

/// An enrolled client that is enabled.
#[derive(Clone, Debug)]
pub(crate) struct ClientCaller {
    /// Which.
    pub(crate) id: Uuid,
    /// Whose.
    pub(crate) owner: OwnerId,
    /// Of its device key.
    pub(crate) fingerprint: String,
}

impl FromRequestParts<Arc<Center>> for ClientCaller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, center: &Arc<Center>) -> Result<Self, Failure> {
        match identify(center, connection(parts)?).await? {
            Caller::Client { owner, id, fingerprint } => Ok(Self { id, owner, fingerprint }),
            _ => Err(Failure::unauthorized("this needs a client's device certificate")),
        }
    }
}

/// Who may read an owner's lists: operators, and that owner's edges and clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    /// What may be read.
    pub(crate) scope: Scope,
}

impl FromRequestParts<Arc<Center>> for Reader {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, center: &Arc<Center>) -> Result<Self, Failure> {
        match identify(center, connection(parts)?).await? {
            Caller::Operator => Ok(Self { scope: Scope::EVERY_OWNER }),
            Caller::Edge { owner, id, .. } => {
                center.seen.note(id);
                Ok(Self { scope: Scope::of(owner) })
            }
            Caller::Client { owner, .. } => Ok(Self { scope: Scope::of(owner) }),
            _ => Err(Failure::unauthorized("this needs the certificate of an edge or a client")),
        }
    }
}

impl FromRequestParts<Arc<Center>> for Connection {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _center: &Arc<Center>) -> Result<Self, Failure> {
        connection(parts).cloned()
    }
}

/// The TLS connection under a request.
pub(super) fn connection(parts: &Parts) -> Result<&Connection, Failure> {
    // The accept loop puts it there for every request.
    parts.extensions.get().ok_or_else(|| Failure::bad("request without a TLS connection"))
}
