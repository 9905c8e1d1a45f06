//! The network that the firmware has before there is a configuration, and who is in charge of it.
//!
//! A script of the image makes it: a DHCP client on the first port (its process id is beside the agent's socket), the
//! bridge `br-lan`, the table `verona_start`. The first configuration with a network takes all of that away; one
//! without gives it back, since a box that is cut off cannot be told anything any more.

use super::kernel;
use crate::nft;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

/// The bridge and the table that the script makes.
const BRIDGE: &str = "br-lan";
const TABLE: &str = "verona_start";

/// How long the client may take to give its address back.
const RELEASE: Duration = Duration::from_millis(500);

/// See the head of the file.
pub(crate) struct Start {
    /// The image's script; where there is none, nothing here does anything.
    script: PathBuf,
    /// The process id of its DHCP client.
    client: PathBuf,
    /// Is there while the configuration's network is in charge, also after a restart.
    taken: PathBuf,
}

impl Start {
    /// `directory` is the network's own, beside the agent's socket.
    pub(crate) fn new(script: PathBuf, directory: &Path) -> Self {
        let (client, taken) = (directory.with_file_name("udhcpc.pid"), directory.join("start-taken"));
        Self { script, client, taken }
    }

    /// Takes it away, once. The configuration's firewall is in force already.
    pub(crate) async fn take(&self) {
        if self.taken.exists() || !self.script.exists() {
            return;
        }
        tracing::info!("taking over from the network that the box starts with");
        if let Some(pid) = self.client_process() {
            // It gives its address back, then ends.
            for signal in [Signal::SIGUSR2, Signal::SIGTERM] {
                let _ = kill(pid, signal);
                tokio::time::sleep(RELEASE).await;
            }
        }
        if let Err(error) = kernel::remove_link(BRIDGE).await {
            tracing::warn!(error, "{BRIDGE} is left");
        }
        if let Err(error) = nft::load(&format!("table inet {TABLE}\ndelete table inet {TABLE}\n")).await {
            tracing::warn!(%error, "table {TABLE} is left");
        }
        if let Err(error) = std::fs::write(&self.taken, "") {
            tracing::warn!(path = %self.taken.display(), %error, "will be taken over again");
        }
    }

    /// Gives it back, if it was taken.
    pub(crate) async fn give_back(&self) {
        if !self.taken.exists() {
            return;
        }
        tracing::warn!("no network is configured: going back to what the box starts with");
        // What it leaves running must outlive the agent: it is not waited for by its output.
        let mut command = Command::new(&self.script);
        command.arg("start").stdin(std::process::Stdio::null());
        match command.status().await {
            Ok(status) if status.success() => {
                let _ = std::fs::remove_file(&self.taken);
            }
            Ok(status) => tracing::error!(script = %self.script.display(), %status, "start network"),
            Err(error) => tracing::error!(script = %self.script.display(), %error, "start network"),
        }
    }

    /// A number in a file may belong to somebody else by now.
    fn client_process(&self) -> Option<Pid> {
        let pid: i32 = std::fs::read_to_string(&self.client).ok()?.trim().parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_it = line.split(|octet| *octet == 0).any(|word| word.ends_with(b"udhcpc"));
        (is_it && pid > 1).then(|| Pid::from_raw(pid))
    }
}
