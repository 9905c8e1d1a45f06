//! The identity file of an operator or an admin: where the center is, how to know it, key and certificate.

use crate::private_file::{self, FileError};
use serde::{Deserialize, Serialize};
use std::path::Path;
use verona_contract::base64::Octets;
use verona_contract::dsse::VerifyingKey;
use zeroize::Zeroizing;

/// Who someone is to the center. Holds a private key: mode 0600, and no `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// `https://host[:port]`.
    pub(crate) center: String,
    /// The center's CA, PEM.
    pub(crate) center_ca: String,
    /// Who signs configurations; goes into factory records.
    pub(crate) config_keys: Vec<VerifyingKey>,
    /// Login name of an admin; none for an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) login: Option<String>,
    /// P-256, PKCS#8 PEM.
    pub(crate) key: Zeroizing<String>,
    /// DER.
    pub(crate) certificate: Octets,
}

/// Why an identity file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not an identity.
    #[error("{path}: {source}")]
    Json {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Identity {
    /// Reads an identity file.
    ///
    /// # Errors
    ///
    /// [`IdentityError`].
    pub(crate) fn read(path: &Path) -> Result<Self, IdentityError> {
        let json = private_file::read(path)?;
        serde_json::from_slice(&json).map_err(|source| IdentityError::Json { path: path.to_owned(), source })
    }

    /// Writes a new identity file.
    ///
    /// # Errors
    ///
    /// [`IdentityError`], among others when the path exists.
    pub(crate) fn create(&self, path: &Path) -> Result<(), IdentityError> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|source| IdentityError::Json { path: path.to_owned(), source })?;
        Ok(private_file::create(path, &Zeroizing::new(json))?)
    }
}
