//! What the signer remembers by itself: issuers, owners, edges, the last number of each list, the last seq of
//! each edge, and a journal of every signature. Its memory of leaves is in [`super::leaves`].
//!
//! Keys are files beside the database, one each, mode 0600. A number is on disk before anything that carries
//! it is signed: after a crash there may be a gap, never a repetition.

use super::ca_key::{BuildError, CaKey};
use super::certificate;
use crate::private_file::{self, FileError};
use crate::sqlite::{self, SqliteError};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;
use verona_contract::cert::{CertError, Issuer};
use verona_contract::config::OwnerCode;
use verona_contract::dsse::VerifyingKey;
use verona_contract::ipnet::IpNet;
use verona_contract::key::KeyId;

const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// The signer's own trouble.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database file.
    #[error(transparent)]
    Open(#[from] SqliteError),
    /// A statement.
    #[error("signer's database")]
    Sql(#[from] rusqlite::Error),
    /// Building a certificate.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A stored certificate does not parse.
    #[error("stored certificate of issuer {0}")]
    Stored(KeyId, #[source] CertError),
    /// The configuration key file is damaged.
    #[error("{0} does not hold an Ed25519 key in PKCS#8")]
    ConfigKey(PathBuf),
}

/// What an issuer issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IssuerKind {
    /// The center's TLS server leaf.
    Center,
    /// Operators.
    Operator,
    /// An owner's clients: tunnel and device leaves.
    Client,
    /// An owner's edges: tunnel leaves and operational certificates.
    Edge,
    /// An owner's admins.
    Admin,
}

impl IssuerKind {
    /// The name in databases and messages.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Center => "center",
            Self::Operator => "operator",
            Self::Client => "client",
            Self::Edge => "edge",
            Self::Admin => "admin",
        }
    }

    /// The kind of a name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Center, Self::Operator, Self::Client, Self::Edge, Self::Admin]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// One CA.
pub(crate) struct IssuerState {
    /// Its certificate.
    pub(crate) issuer: Issuer,
    /// What it issues.
    pub(crate) kind: IssuerKind,
    /// Whose; none for the center's own.
    pub(crate) owner: Option<OwnerCode>,
}

/// An edge as the signer knows it.
pub(crate) struct EdgeState {
    /// Whose.
    pub(crate) owner: OwnerCode,
    /// The seq signed last; 0 before the first.
    pub(crate) seq: u64,
}

/// The signer's directory. Shared by the threads of the socket; each call holds the database for itself only.
pub(crate) struct State {
    connection: Mutex<Connection>,
    directory: PathBuf,
    config_key: Ed25519KeyPair,
}

impl State {
    /// Makes the directory, the center's CA, the operators' CA and the configuration key.
    ///
    /// # Errors
    ///
    /// [`StateError`]; among others when the directory is in use already.
    pub(crate) fn create(directory: &Path, host: &str, now_s: i64) -> Result<Self, StateError> {
        private_file::directory(directory)?;
        private_file::directory(&directory.join("keys"))?;
        let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
            .map_err(|_| BuildError::from(crate::entropy::EntropyError))?;
        private_file::create(&config_key_path(directory), document.as_ref())?;
        let state = Self::open(directory)?;
        state.db().execute("INSERT INTO center(host) VALUES (?1)", [host])?;
        state.create_issuer(IssuerKind::Center, None, now_s)?;
        state.create_issuer(IssuerKind::Operator, None, now_s)?;
        Ok(state)
    }

    /// Opens what [`State::create`] made.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub(crate) fn open(directory: &Path) -> Result<Self, StateError> {
        let path = config_key_path(directory);
        let config_key = Ed25519KeyPair::from_pkcs8(&private_file::read(&path)?)
            .map_err(|_| StateError::ConfigKey(path))?;
        let connection = sqlite::open(&directory.join("signer.db"), &MIGRATIONS)?;
        Ok(Self { connection: Mutex::new(connection), directory: directory.to_owned(), config_key })
    }

    /// The key of the configurations.
    pub(crate) const fn config_key(&self) -> &Ed25519KeyPair {
        &self.config_key
    }

    /// The public half of [`State::config_key`].
    pub(crate) fn config_verifying_key(&self) -> VerifyingKey {
        let mut octets = [0; 32];
        octets.copy_from_slice(self.config_key.public_key().as_ref());
        VerifyingKey::new(octets)
    }

    /// The host name or address of the center's server leaf.
    ///
    /// # Errors
    ///
    /// [`StateError::Sql`].
    pub(crate) fn host(&self) -> Result<String, StateError> {
        Ok(self.db().query_row("SELECT host FROM center", [], |row| row.get(0))?)
    }

    /// Makes a CA: the key file first, so that no row is without its key.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub(crate) fn create_issuer(
        &self,
        kind: IssuerKind,
        owner: Option<&OwnerCode>,
        now_s: i64,
    ) -> Result<IssuerState, StateError> {
        let key = CaKey::generate()?;
        let id = key.key_id()?;
        private_file::create(&self.key_path(&id), key.to_pem()?.as_bytes())?;
        let der = certificate::ca(&key, &format!("Verona {} CA", kind.as_str()), now_s)?;
        let issuer = Issuer::parse(&der).map_err(|error| StateError::Stored(id.clone(), error))?;
        self.db().execute(
            "INSERT INTO issuer(key_id, kind, owner, certificate) VALUES (?1, ?2, ?3, ?4)",
            params![id.to_string(), kind.as_str(), owner.map(OwnerCode::as_str), der],
        )?;
        self.record("ca", &id.to_string(), &der)?;
        Ok(IssuerState { issuer, kind, owner: owner.cloned() })
    }

    /// The CA of a key identifier.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub(crate) fn issuer(&self, id: &KeyId) -> Result<Option<IssuerState>, StateError> {
        let sql = "SELECT kind, owner, certificate FROM issuer WHERE key_id = ?1";
        let row = self.db().query_row(sql, [id.to_string()], issuer_row).optional()?;
        row.map(parse_issuer).transpose()
    }

    /// The CAs of an owner (none: the center's own).
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub(crate) fn issuers_of(&self, owner: Option<&OwnerCode>) -> Result<Vec<IssuerState>, StateError> {
        let sql = "SELECT kind, owner, certificate FROM issuer WHERE owner IS ?1";
        let connection = self.db();
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map([owner.map(OwnerCode::as_str)], issuer_row)?;
        rows.map(|row| parse_issuer(row?)).collect()
    }

    /// The private key of a CA.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub(crate) fn ca_key(&self, id: &KeyId) -> Result<CaKey, StateError> {
        Ok(CaKey::from_pem(&private_file::read_text(&self.key_path(id))?)?)
    }

    /// Registers an owner's network; one that is known keeps the one that it has.
    ///
    /// # Errors
    ///
    /// [`StateError::Sql`].
    pub(crate) fn add_owner(&self, owner: &OwnerCode, network: IpNet) -> Result<(), StateError> {
        let sql = "INSERT INTO owner(code, network) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.db().execute(sql, params![owner.as_str(), network.to_string()])?;
        Ok(())
    }

    /// The network of an owner.
    ///
    /// # Errors
    ///
    /// [`StateError::Sql`].
    pub(crate) fn network(&self, owner: &OwnerCode) -> Result<Option<IpNet>, StateError> {
        let sql = "SELECT network FROM owner WHERE code = ?1";
        let text: Option<String> = self.db().query_row(sql, [owner.as_str()], |row| row.get(0)).optional()?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// Binds an edge to an owner; a bound one stays where it is.
    ///
    /// # Errors
    ///
    /// [`StateError::Sql`].
    pub(crate) fn add_edge(&self, edge: Uuid, owner: &OwnerCode) -> Result<(), StateError> {
        let sql = "INSERT INTO edge(id, owner) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
        self.db().execute(sql, params![edge.to_string(), owner.as_str()])?;
        Ok(())
    }

    /// An edge.
    ///
    /// # Errors
    ///
    /// [`StateError::Sql`].
    pub(crate) fn edge(&self, edge: Uuid) -> Result<Option<EdgeState>, StateError> {
        let sql = "SELECT owner, seq FROM edge WHERE id = ?1";
        let row: Option<(String, i64)> =
            self.db().query_row(sql, [edge.to_string()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        Ok(row.and_then(|(owner, seq)| {
            Some(EdgeState { owner: owner.parse().ok()?, seq: u64::try_from(seq).ok()? })
        }))
    }

    /// Takes `seq` for an edge if it is higher than the last one; false otherwise.
    ///
    /// # Errors
    ///
    /// [`StateError::Sql`].
    pub(crate) fn take_seq(&self, edge: Uuid, seq: u64) -> Result<bool, StateError> {
        let Ok(seq) = i64::try_from(seq) else { return Ok(false) };
        let sql = "UPDATE edge SET seq = ?2 WHERE id = ?1 AND seq < ?2";
        Ok(self.db().execute(sql, params![edge.to_string(), seq])? == 1)
    }

    /// Appends to the journal: what was signed, for whom, and its SHA-256.
    ///
    /// # Errors
    ///
    /// [`StateError::Sql`].
    pub(crate) fn record(&self, what: &str, subject: &str, signed: &[u8]) -> Result<(), StateError> {
        let sql = "INSERT INTO journal(at_s, what, subject, sha256) VALUES (?1, ?2, ?3, ?4)";
        let hash = digest(&SHA256, signed);
        self.db().execute(sql, params![crate::clock::now_s(), what, subject, hash.as_ref()])?;
        Ok(())
    }

    pub(super) fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic rolled its transaction back; the connection is as before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key_path(&self, id: &KeyId) -> PathBuf {
        self.directory.join("keys").join(format!("{id}.pem"))
    }
}

fn config_key_path(directory: &Path) -> PathBuf {
    directory.join("keys").join("config.pk8")
}

type IssuerRow = (String, Option<String>, Vec<u8>);

fn issuer_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<IssuerRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

fn parse_issuer((kind, owner, certificate): IssuerRow) -> Result<IssuerState, StateError> {
    let issuer = Issuer::parse(&certificate)
        .map_err(|error| StateError::Stored(KeyId::of_public_key(&certificate), error))?;
    // CHECK and REFERENCES in the schema keep other values out.
    let kind = IssuerKind::from_name(&kind).ok_or(rusqlite::Error::InvalidQuery)?;
    let owner = owner.map(|code| code.parse()).transpose().map_err(|_| rusqlite::Error::InvalidQuery)?;
    Ok(IssuerState { issuer, kind, owner })
}
