//! Every leaf that was issued, and whether it holds; which tunnel key is whose.

use super::{DbError, OwnerId, parsed};
use crate::signer::protocol::Reason;
use crate::signer::state::IssuerKind;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use std::str::FromStr;
use uuid::Uuid;
use verona_contract::key::{KeyId, PublicKey, Serial};

/// What a leaf serves for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The tunnel.
    Tunnel,
    /// TLS to the center.
    Device,
}

impl Use {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tunnel => "tunnel",
            Self::Device => "device",
        }
    }
}

/// Whether a leaf holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It does.
    Good,
    /// Its client is disabled.
    Hold,
    /// Its subject has another tunnel key.
    Superseded,
    /// Its client is revoked.
    Withdrawn,
}

/// A column that names no status.
#[derive(Debug, thiserror::Error)]
#[error("not a certificate status")]
pub(crate) struct StatusError;

impl Status {
    const ALL: [Self; 4] = [Self::Good, Self::Hold, Self::Superseded, Self::Withdrawn];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Hold => "hold",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The reason in a list; none for a leaf that holds.
    pub(crate) const fn reason(self) -> Option<Reason> {
        match self {
            Self::Good => None,
            Self::Hold => Some(Reason::Hold),
            Self::Superseded => Some(Reason::Superseded),
            Self::Withdrawn => Some(Reason::Withdrawn),
        }
    }
}

impl FromStr for Status {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, StatusError> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(StatusError)
    }
}

/// A leaf to be stored.
#[derive(Clone, Debug)]
pub(crate) struct NewCertificate {
    /// Its issuer.
    pub(crate) issuer: KeyId,
    /// Its serial number.
    pub(crate) serial: Serial,
    /// The client, edge, admin or operator.
    pub(crate) subject: Uuid,
    /// What it serves for.
    pub(crate) usage: Use,
    /// DER.
    pub(crate) der: Vec<u8>,
    /// Unix seconds.
    pub(crate) not_after: i64,
}

/// Stores a leaf.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert(transaction: &Transaction<'_>, leaf: &NewCertificate) -> Result<(), DbError> {
    let sql = "INSERT INTO certificate(issuer, serial, subject, use, der, not_after_s)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    transaction.execute(
        sql,
        params![
            leaf.issuer.to_string(),
            leaf.serial.to_string(),
            leaf.subject.to_string(),
            leaf.usage.as_str(),
            leaf.der,
            leaf.not_after
        ],
    )?;
    Ok(())
}

/// A leaf that someone shows at TLS.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// What kind of CA issued it.
    pub(crate) kind: IssuerKind,
    /// Whose CA.
    pub(crate) owner: Option<OwnerId>,
    /// The CA, DER.
    pub(crate) issuer: Vec<u8>,
    /// Whom it names.
    pub(crate) subject: Uuid,
    /// Whether it holds.
    pub(crate) status: Status,
}

/// Finds a device leaf that we issued, by its issuer and its octets.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn find_device(
    connection: &Connection,
    issuer: &KeyId,
    serial: &Serial,
    der: &[u8],
) -> Result<Option<Shown>, DbError> {
    let sql = "SELECT i.kind, i.owner, i.certificate, c.subject, c.status
        FROM certificate c JOIN issuer i ON i.key_id = c.issuer
        WHERE c.issuer = ?1 AND c.serial = ?2 AND c.use = 'device' AND c.der = ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let values = params![issuer.to_string(), serial.to_string(), der];
    let found = statement.query_row(values, |row| {
        let kind: String = row.get(0)?;
        Ok(Shown {
            kind: IssuerKind::from_name(&kind).ok_or(rusqlite::Error::InvalidQuery)?,
            owner: row.get(1)?,
            issuer: row.get(2)?,
            subject: parsed(row, 3)?,
            status: parsed(row, 4)?,
        })
    });
    Ok(found.optional()?)
}

/// Takes a tunnel key for a subject. False when it is another's, whoever that is.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn claim_key(
    transaction: &Transaction<'_>,
    key: &PublicKey,
    subject: Uuid,
) -> Result<bool, DbError> {
    let sql = "INSERT INTO tunnel_key(key, subject) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    transaction.execute(sql, params![key.to_string(), subject.to_string()])?;
    let sql = "SELECT subject = ?2 FROM tunnel_key WHERE key = ?1";
    Ok(transaction.query_row(sql, params![key.to_string(), subject.to_string()], |row| row.get(0))?)
}

/// Sets the status of a subject's leaves, but never of those that are past returning. Answers how many
/// changed.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn set_status(
    transaction: &Transaction<'_>,
    subject: Uuid,
    status: Status,
    since_s: i64,
) -> Result<usize, DbError> {
    let sql = "UPDATE certificate SET status = ?2, since_s = ?3
        WHERE subject = ?1 AND status IN ('good', 'hold') AND status <> ?2";
    Ok(transaction.execute(sql, params![subject.to_string(), status.as_str(), since_s])?)
}

/// Ends a subject's tunnel leaves because it has another key now. Answers how many changed.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn supersede_tunnel(
    transaction: &Transaction<'_>,
    subject: Uuid,
    since_s: i64,
) -> Result<usize, DbError> {
    let sql = "UPDATE certificate SET status = 'superseded', since_s = ?2
        WHERE subject = ?1 AND use = 'tunnel' AND status = 'good' AND not_after_s > ?2";
    Ok(transaction.execute(sql, params![subject.to_string(), since_s])?)
}

/// The newest tunnel leaf of each pushed client of an owner that is enabled or disabled, DER.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn pushed(connection: &Connection, owner: OwnerId, now_s: i64) -> Result<Vec<Vec<u8>>, DbError> {
    // SQLite takes the bare column from the row of the maximum.
    let sql = "SELECT c.der, max(c.not_after_s) FROM client k
        JOIN certificate c ON c.subject = k.id AND c.use = 'tunnel' AND c.status IN ('good', 'hold')
        WHERE k.owner = ?1 AND k.push AND k.state IN ('enabled', 'disabled') AND c.not_after_s > ?2
        GROUP BY k.id ORDER BY k.id";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_map(params![owner, now_s], |row| row.get(0))?.collect::<Result<_, _>>()?)
}
