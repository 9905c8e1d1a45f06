//! Puts the groups of the configuration into the kernel, by `nft`: one transaction, all of it or nothing.
//!
//! They come before the policy: an edge that cannot restrict a client does not admit it. Someone else may flush the
//! rules, so the table is looked for now and then. The text is `edge_agent_core::groups`.

use edge_agent_core::groups::{NONE, TABLE, ruleset};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use verona_contract::config::TunnelConfig;

/// A set of 100,000 addresses takes about a second.
const LIMIT: Duration = Duration::from_secs(20);

/// Why the groups are not in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupsError {
    /// The program did not run to its end.
    #[error("nft: {action}")]
    Run {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It did not end in time.
    #[error("nft did not end within {LIMIT:?}")]
    Slow,
    /// The kernel or the program refused; nothing was changed.
    #[error("nft refused the groups: {0}")]
    Refused(String),
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
        match nft(&["-f", "-"], &text).await {
            Ok(output) if output.status.success() => {}
            Ok(output) => return Err(GroupsError::Refused(first_line(&output.stderr))),
            // Without the program there is no table of ours either.
            Err(_) if text == NONE => return Ok(false),
            Err(error) => return Err(error),
        }
        self.applied = Some(text);
        Ok(true)
    }
}

async fn is_there() -> bool {
    let listed = nft(&["list", "chain", "inet", TABLE, "clients"], "").await;
    listed.is_ok_and(|output| output.status.success())
}

async fn nft(arguments: &[&str], input: &str) -> Result<Output, GroupsError> {
    let failed = |action| move |source| GroupsError::Run { action, source };
    let mut command = Command::new("nft");
    command.args(arguments).kill_on_drop(true);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("start"))?;
    let stdin = child.stdin.take();
    let run = async {
        if let Some(mut stdin) = stdin {
            // One that ends early says why on its standard error.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let ended = tokio::time::timeout(LIMIT, run).await.map_err(|_| GroupsError::Slow)?;
    ended.map_err(failed("wait for its end"))
}

fn first_line(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).lines().next().unwrap_or("no reason given").to_owned()
}
