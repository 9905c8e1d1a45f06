//! What the command line of `edge-agent` sets.

use clap::Parser;
use edge_agent_core::backoff;
use edge_agent_core::clock::TrustMode;
use edge_agent_core::spool::quota::MIN_QUOTA;
use edge_agent_core::update::Slot;
use std::path::PathBuf;
use std::time::Duration;
use verona_contract::config::network::TimeServer;

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
    /// What tells which machine this is, so that a copied disk is refused. Left out, or no such file: copies are not
    /// noticed.
    #[arg(long, value_name = "FILE")]
    pub machine: Option<PathBuf>,
    /// The control socket of edge-tunnel.
    #[arg(long, value_name = "PATH", default_value = "/run/verona/tunnel-wg0.sock")]
    pub tunnel: PathBuf,
    /// The agent's own socket, for edgectl.
    #[arg(long, value_name = "PATH", default_value = "/run/verona/agent.sock")]
    pub socket: PathBuf,
    /// Who may vouch for the wall clock: auto (the kernel, else the center), always or never.
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub clock_trusted: TrustMode,
    /// Sets the wall clock, by time servers or else by the center. Left out: the clock is somebody else's, and is only
    /// compared.
    #[arg(long)]
    pub set_clock: bool,
    /// A time server, name or address; may be repeated. A configuration's own take their place. Left out: with
    /// --set-clock Japan's public ones, otherwise none.
    #[arg(long = "time-server", value_name = "HOST")]
    time_servers: Vec<TimeServer>,
    /// The bridge on which the technician's page is served while no configuration says where, such as br-lan. Left out:
    /// nowhere.
    #[arg(long, value_name = "BRIDGE")]
    pub start_page: Option<String>,
    /// The hardware watchdog, such as /dev/watchdog: fed while the data plane forwards. Left out: somebody else's.
    #[arg(long, value_name = "DEVICE")]
    pub watchdog: Option<PathBuf>,
    /// Seconds until a box that does not forward restarts, 10 to 600. Short ones do not outlast a busy disk, long ones
    /// leave the site without a tunnel.
    #[arg(long = "watchdog-limit", value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(10..=600))]
    watchdog_limit: u64,
    /// Octets that log records may take on the disk, at least 8 MiB. Less forgets nothing but refuses records
    /// sooner when the center is away; more is only space.
    #[arg(long, value_name = "OCTETS", default_value_t = 256 * 1024 * 1024, value_parser = quota)]
    pub spool_quota: u64,
    /// Become this user of /etc/passwd once everything is open, and give up every right that is not needed any more. It
    /// must own the state directory's content and the socket's directory. Left out: nothing is given up.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Where the kernel's messages come from, `/dev/kmsg` on a box; they become records. Left out: they do not, as
    /// where the kernel has other users.
    #[arg(long, value_name = "DEVICE")]
    pub kernel_log: Option<PathBuf>,
    /// Where Prometheus may read the state, such as 127.0.0.1:9586; a loopback address. Left out: nowhere.
    #[arg(long, value_name = "ADDRESS", value_parser = crate::metrics::loopback)]
    pub metrics: Option<std::net::SocketAddr>,
    /// Directory of the image's `release.json` and `root.json`; without the first there are no firmware updates.
    #[arg(long, value_name = "DIR", default_value = "/usr/share/verona/firmware")]
    pub firmware: PathBuf,
    /// A disk image with the slots, in place of the disk that the running root lies on.
    #[arg(long, value_name = "FILE", requires = "running_slot")]
    pub firmware_disk: Option<PathBuf>,
    /// The slot of that image that counts as running: a or b.
    #[arg(long, value_name = "SLOT", requires = "firmware_disk")]
    pub running_slot: Option<RunningSlot>,
    /// What restarts the box: into a new firmware, or to carry out a reset. Left out: a person does.
    #[arg(long, value_name = "PROGRAM")]
    pub restart_with: Option<PathBuf>,
    /// Seconds that a new firmware has to prove itself, 5 to 3600. Short ones send a box on a slow line back; long
    /// ones leave a box with a bad firmware unmanaged for so long.
    #[arg(long = "prove-within", value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(5..=3600))]
    prove_within: u64,
    /// See `prove_within`.
    #[arg(skip)]
    pub prove_limit: Duration,
    /// Widest window of the back-off, seconds, 1 to 3600. Short loads a center that is just starting with all
    /// edges at once; long leaves this edge without news for that much more.
    #[arg(long = "backoff-max", value_name = "SECONDS", default_value_t = backoff::CAP.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    backoff_max: u64,
    /// See `backoff_max`.
    #[arg(skip)]
    pub backoff_cap: Duration,
}

/// NICT keeps Japan Standard Time; MFEED's three take theirs from it by lines of their own. Four outvote one that lies
/// while one is silent.
const PUBLIC_TIME_SERVERS: [&str; 4] =
    ["ntp.nict.jp", "ntp1.jst.mfeed.ad.jp", "ntp2.jst.mfeed.ad.jp", "ntp3.jst.mfeed.ad.jp"];

impl Settings {
    /// The time servers for as long as no configuration names others.
    #[must_use]
    pub fn time_servers(&self) -> Vec<TimeServer> {
        if self.time_servers.is_empty() && self.set_clock {
            return PUBLIC_TIME_SERVERS.iter().filter_map(|name| name.parse().ok()).collect();
        }
        self.time_servers.clone()
    }

    /// How long the watchdog waits.
    #[must_use]
    pub const fn watchdog_limit(&self) -> Duration {
        Duration::from_secs(self.watchdog_limit)
    }

    /// Reads the command line, or ends the process with status 2 and one line.
    #[must_use]
    pub fn from_command_line() -> Self {
        let mut settings = Self::parse();
        settings.backoff_cap = Duration::from_secs(settings.backoff_max);
        settings.prove_limit = Duration::from_secs(settings.prove_within);
        settings
    }
}

/// A slot on the command line.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum RunningSlot {
    /// `root-a`, `BOOT0`.
    A,
    /// `root-b`, `BOOT1`.
    B,
}

impl From<RunningSlot> for Slot {
    fn from(slot: RunningSlot) -> Self {
        match slot {
            RunningSlot::A => Self::A,
            RunningSlot::B => Self::B,
        }
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
        let servers = |arguments: &[&str]| {
            let all = std::iter::once(&"edge-agent").chain(arguments);
            Settings::try_parse_from(all).unwrap().time_servers().len()
        };
        assert_eq!((servers(&[]), servers(&["--set-clock"])), (0, 4));
        assert_eq!(servers(&["--set-clock", "--time-server", "192.0.2.1"]), 1);
        assert!(parse(&["--clock-trusted", "never", "--backoff-max", "5", "--spool-quota", "8388608"]));
        for bad in [
            ["--clock-trusted", "sometimes"],
            ["--backoff-max", "0"],
            ["--backoff-max", "3601"],
            ["--spool-quota", "1000"],
            ["--metrics", "0.0.0.0:9586"],
            ["--running-slot", "a"],
            ["--prove-within", "4"],
            ["--time-server", "no host"],
        ] {
            assert!(!parse(&bad), "{bad:?}");
        }
    }
}
