//! The factory record: what a box knows before it first reaches its center. Written at flashing.

use crate::dsse::VerifyingKey;
use crate::key::Secret;
use crate::one_line::one_line;
use serde::{Deserialize, Serialize};

/// The factory record, JSON, mode 0600 while it holds a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactoryRecord {
    /// Serial number on the box's label, 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    pub serial: String,
    /// `https://host[:port]` of the center, without a path.
    pub center: String,
    /// The center's CA, PEM: the only one that the box believes.
    pub center_ca: String,
    /// Who may sign configurations.
    pub config_keys: Vec<VerifyingKey>,
    /// How many of them it takes, at least 1.
    pub config_threshold: usize,
    /// One-time enrolment token; none when the vendor registered the device key's fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
}

/// Why a factory record is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not a record in JSON; names the field.
    #[error("factory record: {0}")]
    Json(String),
    /// A field breaks its rule.
    #[error("factory record: {field} must be {rule}")]
    Field {
        /// Which.
        field: &'static str,
        /// The rule.
        rule: &'static str,
    },
}

impl FactoryRecord {
    /// Reads and checks a record.
    ///
    /// # Errors
    ///
    /// One line that names the field and the rule.
    pub fn parse(json: &[u8]) -> Result<Self, RecordError> {
        let record: Self =
            serde_json::from_slice(json).map_err(|error| RecordError::Json(one_line(error)))?;
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
        let fail = |field, rule| Err(RecordError::Field { field, rule });
        if !(1..=64).contains(&record.serial.len()) || !record.serial.bytes().all(allowed) {
            return fail("serial", "1 to 64 characters of A-Z a-z 0-9 . _ -");
        }
        if !record.center.starts_with("https://") || record.center.len() > 255 {
            return fail("center", "https://host[:port]");
        }
        if record.config_threshold == 0 || record.config_threshold > record.config_keys.len() {
            return fail("config_threshold", "at least 1 and at most the number of config_keys");
        }
        Ok(record)
    }
}
