//! What the command line of `edge-agent` sets.

use clap::Parser;
use edge_agent_core::backoff;
use edge_agent_core::clock::TrustMode;
use edge_agent_core::spool::quota::MIN_QUOTA;
use std::path::PathBuf;
use std::time::Duration;

/// Management agent of the box: enrols, pulls configuration and revocation lists, fills the tunnel, sends logs.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Settings {
    /// Directory of keys, configuration, lists and log spool.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/verona")]
    pub state: PathBuf,
    /// The factory record.
    #[arg(long, value_name = "FILE", default_value = "/etc/verona/factory.json")]
    pub record: PathBuf,
    /// The control socket of edge-tunnel.
    #[arg(long, value_name = "PATH", default_value = "/run/verona/tunnel-wg0.sock")]
    pub tunnel: PathBuf,
    /// The agent's own socket, for edgectl.
    #[arg(long, value_name = "PATH", default_value = "/run/verona/agent.sock")]
    pub socket: PathBuf,
    /// Who may vouch for the wall clock: auto (the kernel, else the center), always or never.
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub clock_trusted: TrustMode,
    /// Octets that log records may take on the disk, at least 8 MiB. Less forgets nothing but refuses records
    /// sooner when the center is away; more is only space.
    #[arg(long, value_name = "OCTETS", default_value_t = 256 * 1024 * 1024, value_parser = quota)]
    pub spool_quota: u64,
    /// Widest window of the back-off, seconds, 1 to 3600. Short loads a center that is just starting with all
    /// edges at once; long leaves this edge without news for that much more.
    #[arg(long = "backoff-max", value_name = "SECONDS", default_value_t = backoff::CAP.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    backoff_max: u64,
    /// See `backoff_max`.
    #[arg(skip)]
    pub backoff_cap: Duration,
}

impl Settings {
    /// Reads the command line, or ends the process with status 2 and one line.
    #[must_use]
    pub fn from_command_line() -> Self {
        let mut settings = Self::parse();
        settings.backoff_cap = Duration::from_secs(settings.backoff_max);
        settings
    }
}

fn quota(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(octets) if octets >= MIN_QUOTA => Ok(octets),
        _ => Err(format!("must be at least {MIN_QUOTA} octets")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits() {
        let parse = |arguments: &[&str]| {
            Settings::try_parse_from(std::iter::once(&"edge-agent").chain(arguments)).is_ok()
        };
        assert!(parse(&[]));
        assert!(parse(&["--clock-trusted", "never", "--backoff-max", "5", "--spool-quota", "8388608"]));
        for bad in [
            ["--clock-trusted", "sometimes"],
            ["--backoff-max", "0"],
            ["--backoff-max", "3601"],
            ["--spool-quota", "1000"],
        ] {
            assert!(!parse(&bad), "{bad:?}");
        }
    }
}
