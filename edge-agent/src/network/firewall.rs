//! Keeps the firewall of the box's own network in force. The text is `edge_agent_core::network::firewall`.

use crate::nft::{self, NftError};
use edge_agent_core::network::firewall::{NONE, TABLE};

/// What is in force.
#[derive(Debug, Default)]
pub(crate) struct Firewall(Option<Applied>);

#[derive(Debug)]
struct Applied {
    text: String,
    /// How `nft` showed the rules right after: without counters and the contents of sets, which change.
    shown: Option<String>,
}

impl Firewall {
    /// Puts `text` in force. Returns whether anything had to change: also rules that someone else altered.
    ///
    /// # Errors
    ///
    /// [`NftError`]; what was in force before still is.
    pub(crate) async fn enforce(&mut self, text: String) -> Result<bool, NftError> {
        if let Some(applied) = self.0.as_ref().filter(|applied| applied.text == text)
            && applied.shown == shown().await
        {
            return Ok(false);
        }
        // Without the program there is no table of ours either.
        if let Err(error) = nft::load(&text).await
            && (text != NONE || matches!(error, NftError::Refused(_)))
        {
            return Err(error);
        }
        let changed = !(self.0.is_none() && text == NONE);
        self.0 = Some(Applied { shown: shown().await, text });
        Ok(changed)
    }
}

async fn shown() -> Option<String> {
    nft::list(&["-s", "-t", "list", "table", "inet", TABLE]).await
}
