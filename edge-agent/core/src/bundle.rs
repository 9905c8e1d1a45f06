//! Which configuration bundle the agent accepts.
//!
//! A bundle is a DSSE envelope of [`EdgeConfig`]. It must be signed by enough of the pinned keys, be meant
//! for this edge and this agent, and not be older than what was accepted before. Nothing is looked at before
//! the signatures hold. Storing it, loading it into the tunnel and telling the center belong to the shell.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use verona_contract::cert::Issuer;
use verona_contract::config::{ConfigError, EdgeConfig, MAX_ENVELOPE, PAYLOAD_TYPE, Version};
use verona_contract::dsse::{DsseError, Envelope, VerifyingKey};
use verona_contract::log::Hash;
use verona_contract::one_line::one_line;

/// What an acceptable bundle is measured against.
#[derive(Clone, Debug)]
pub struct Rules {
    /// This edge.
    pub edge: Uuid,
    /// Who may sign.
    pub keys: Vec<VerifyingKey>,
    /// How many of them it takes.
    pub threshold: usize,
    /// This agent's version.
    pub agent: Version,
}

/// The newest bundle that was ever accepted: enough to refuse an older or a forked one after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// [`EdgeConfig::seq`].
    pub seq: u64,
    /// SHA-256 of the payload.
    pub payload: Hash,
}

/// A bundle that keeps every rule. Only [`Rules::accept`] makes one.
#[derive(Clone, Debug)]
pub struct Accepted {
    config: EdgeConfig,
    issuers: Vec<Issuer>,
    mark: Mark,
}

impl Accepted {
    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &EdgeConfig {
        &self.config
    }

    /// The owners' CA certificates: who may issue the lists that this edge follows.
    #[must_use]
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// What to remember of it.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.mark
    }
}

/// Why a bundle is refused. The one before it stays in force.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Over [`MAX_ENVELOPE`].
    #[error("bundle is longer than {MAX_ENVELOPE} octets")]
    TooLong,
    /// Not an envelope, of another type, or not signed by enough pinned keys.
    #[error(transparent)]
    Envelope(#[from] DsseError),
    /// The payload breaks a rule of the format; names the path.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Meant for another edge.
    #[error("bundle is for edge {found}, this is edge {ours}")]
    OtherEdge {
        /// In the bundle.
        found: Uuid,
        /// This one.
        ours: Uuid,
    },
    /// Someone replays an old one.
    #[error("bundle {offered} is older than bundle {stored} accepted before")]
    Rollback {
        /// Accepted before.
        stored: u64,
        /// Offered now.
        offered: u64,
    },
    /// The signer never gives one number to two contents.
    #[error("bundle {0} differs from the bundle of the same number accepted before")]
    Conflict(u64),
    /// This agent would not understand it.
    #[error("bundle needs agent {needed} or later, this is {ours}")]
    MinimumAgent {
        /// In the bundle.
        needed: Version,
        /// This one.
        ours: Version,
    },
}

impl Refusal {
    /// Whether it looks like an attack rather than a mistake or an old agent.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        matches!(
            self,
            Self::Envelope(DsseError::Threshold { .. } | DsseError::PayloadType { .. })
                | Self::OtherEdge { .. }
                | Self::Rollback { .. }
                | Self::Conflict(_)
        )
    }
}

/// The fields that decide before the rest is understood: a newer format may have fields that we do not know,
/// and the message should then be about the version.
#[derive(Deserialize)]
struct Preamble {
    edge_id: Uuid,
    seq: u64,
    minimum_agent: Version,
}

impl Rules {
    /// Checks an envelope as it came over the wire or from the disk. `mark` is the newest accepted before; a
    /// bundle of its number is accepted when it is the same.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] that applies, in the order: length, signatures, edge, order, agent, format.
    pub fn accept(&self, envelope: &[u8], mark: Option<&Mark>) -> Result<Accepted, Refusal> {
        if envelope.len() > MAX_ENVELOPE {
            return Err(Refusal::TooLong);
        }
        let envelope = Envelope::parse(envelope)?;
        let payload = envelope.verify(PAYLOAD_TYPE, &self.keys, self.threshold)?;
        let preamble: Preamble = serde_json::from_slice(payload)
            .map_err(|error| ConfigError { path: ".".into(), rule: one_line(error) })?;
        if preamble.edge_id != self.edge {
            return Err(Refusal::OtherEdge { found: preamble.edge_id, ours: self.edge });
        }
        let offered = Mark { seq: preamble.seq, payload: hash(payload) };
        if let Some(stored) = mark {
            check_order(*stored, offered)?;
        }
        if preamble.minimum_agent > self.agent {
            return Err(Refusal::MinimumAgent { needed: preamble.minimum_agent, ours: self.agent });
        }
        let config = EdgeConfig::parse(payload)?;
        let issuers = issuers(&config)?;
        Ok(Accepted { config, issuers, mark: offered })
    }
}

fn check_order(stored: Mark, offered: Mark) -> Result<(), Refusal> {
    if offered.seq < stored.seq {
        return Err(Refusal::Rollback { stored: stored.seq, offered: offered.seq });
    }
    if offered.seq == stored.seq && offered.payload != stored.payload {
        return Err(Refusal::Conflict(offered.seq));
    }
    Ok(())
}

fn hash(payload: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, payload).as_ref());
    Hash(hash)
}

/// Every CA must read, and a DN must stand for one key over all owners: a list names its issuer by both.
fn issuers(config: &EdgeConfig) -> Result<Vec<Issuer>, ConfigError> {
    let mut found: Vec<Issuer> = Vec::new();
    for (o, owner) in config.tunnel.owners.iter().enumerate() {
        let anchors = owner.anchors.iter().enumerate().map(|(a, der)| (format!("anchors[{a}]"), der));
        let below =
            owner.intermediates.iter().enumerate().map(|(i, der)| (format!("intermediates[{i}]"), der));
        for (place, der) in anchors.chain(below) {
            let fail = |rule: String| ConfigError { path: format!("tunnel.owners[{o}].{place}"), rule };
            let issuer = Issuer::parse(der.as_ref()).map_err(|error| fail(error.to_string()))?;
            if found.iter().any(|other| other.subject == issuer.subject || other.key_id == issuer.key_id) {
                return Err(fail("one DN and one key identifier for each CA, over all owners".into()));
            }
            found.push(issuer);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
