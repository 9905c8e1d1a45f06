//! Puts the groups of the configuration into the kernel, by `nft`: one transaction, all of it or nothing.
//!
//! They come before the policy: an edge that cannot restrict a client does not admit it. Someone else may flush the
//! rules, so the table is looked for now and then. The text is `edge_agent_core::groups`.

use crate::nft::{self, NftError};
use edge_agent_core::groups::{NONE, TABLE, ruleset};
use verona_contract::config::TunnelConfig;

/// Why the groups are not in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupsError {
    /// The rules; what was in force before still is.
    #[error(transparent)]
    Rules(#[from] NftError),
    /// Such a name cannot be written in a rule.
    #[error("interface name {0:?} cannot be used in a rule")]
    Interface(String),
}

/// What is in force.
#[derive(Debug, Default)]
pub struct Groups {
    applied: Option<String>,
}

impl Groups {
    /// Puts the groups of `config` in force for packets from `interface`. Returns whether anything had to change.
    ///
    /// # Errors
    ///
    /// [`GroupsError`]; what was in force before still is.
    pub async fn enforce(&mut self, interface: &str, config: &TunnelConfig) -> Result<bool, GroupsError> {
        let text = ruleset(interface, config).ok_or_else(|| GroupsError::Interface(interface.to_owned()))?;
        let same = self.applied.as_ref() == Some(&text);
        if same && (text == NONE || is_there().await) {
            return Ok(false);
        }
        match nft::load(&text).await {
            Ok(()) => {}
            // Without the program there is no table of ours either.
            Err(NftError::Run { .. } | NftError::Slow) if text == NONE => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        self.applied = Some(text);
        Ok(true)
    }
}

async fn is_there() -> bool {
    nft::list(&["list", "chain", "inet", TABLE, "clients"]).await.is_some()
}
