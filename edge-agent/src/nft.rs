//! The program `nft`: a transaction goes in by its standard input, all of it or nothing.

use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// A set of 100,000 addresses takes about a second.
const LIMIT: Duration = Duration::from_secs(20);

/// Why a transaction is not in force; what was before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NftError {
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
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

/// Puts the transaction in force.
///
/// # Errors
///
/// [`NftError`].
pub async fn load(transaction: &str) -> Result<(), NftError> {
    let output = run(&["-f", "-"], transaction).await?;
    if output.status.success() { Ok(()) } else { Err(NftError::Refused(first_line(&output.stderr))) }
}

/// What a `list` command tells; none when there is no such thing.
pub async fn list(arguments: &[&str]) -> Option<String> {
    let output = run(arguments, "").await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn run(arguments: &[&str], input: &str) -> Result<Output, NftError> {
    let failed = |action| move |source| NftError::Run { action, source };
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
    let ended = tokio::time::timeout(LIMIT, run).await.map_err(|_| NftError::Slow)?;
    ended.map_err(failed("wait for its end"))
}

fn first_line(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).lines().next().unwrap_or("no reason given").to_owned()
}
