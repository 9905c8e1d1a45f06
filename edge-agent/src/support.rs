//! The bundle for whoever must find out from afar what is wrong: one archive of what the box knows of itself.
//!
//! What goes in is named here, one by one; files of keys, certificates and configurations are never read for it. Every
//! part is scrubbed of the secrets that the box holds (`edge_agent_core::support`) before it is packed.

use crate::agent::Agent;
use crate::netcheck;
use edge_agent_core::netcheck::{Language, report};
use edge_agent_core::support::{Scrubber, archive};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;
use verona_contract::config::EdgeConfig;
use verona_contract::config::network::Wan;
use zeroize::Zeroizing;

/// Octets of one part; of a longer one the end counts.
const MOST: usize = 4 * 1024 * 1024;

/// Records of each stream.
const RECORDS: usize = 3000;

/// For one command.
const LIMIT: Duration = Duration::from_secs(5);

/// Files of the system that tell how it is.
const FILES: [&str; 12] = [
    "/proc/version",
    "/proc/cmdline",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/mounts",
    "/proc/interrupts",
    "/proc/net/dev",
    "/proc/net/snmp",
    "/proc/net/softnet_stat",
    "/etc/os-release",
    "/etc/resolv.conf",
];

/// What the kernel has of the network, and what runs.
const COMMANDS: [(&str, &[&str]); 10] = [
    ("ip", &["address"]),
    ("ip", &["-s", "link"]),
    ("ip", &["neigh"]),
    ("ip", &["rule"]),
    ("ip", &["-6", "rule"]),
    ("ip", &["route", "show", "table", "all"]),
    ("ip", &["-6", "route", "show", "table", "all"]),
    ("nft", &["list", "ruleset"]),
    ("ps", &[]),
    ("df", &[]),
];

/// Makes the archive, a gzipped tar, and the name that it should have.
///
/// # Errors
///
/// One line.
pub(crate) async fn bundle(agent: &Arc<Agent>, unix_s: u64) -> Result<(String, Vec<u8>), String> {
    let serial = &agent.record.serial;
    let folder = format!("support-{serial}-{unix_s}");
    let mut parts = Parts { folder: folder.clone(), files: Vec::new() };
    parts.json("status.json", &agent.state().await);
    parts.json("time.json", &agent.time());
    parts.json("lines.json", &agent.lines.facts());
    parts.json("peers.json", &agent.peers().await);
    parts.json("lists.json", &agent.lists().await);
    parts.json("update.json", &agent.update());
    parts.json("config.json", &agent.config(true));
    parts.add("netcheck.txt", report(&netcheck::check(agent).await, Language::En).into_bytes());
    for (program, arguments) in COMMANDS {
        let name = [&[program][..], arguments].concat().join("_").replace('-', "");
        parts.add(&format!("commands/{name}.txt"), output(program, arguments).await);
    }
    let agent = agent.clone();
    // The disk, and some megabytes to pack.
    let packed = tokio::task::spawn_blocking(move || {
        parts.json("history.json", &agent.config_history());
        parts.add("log.jsonl", records(&agent));
        parts.add("kernel.log", kernel_log());
        for path in FILES {
            // Files of /proc have no length: they are read to their end.
            let content = std::fs::read(path).unwrap_or_else(|error| error.to_string().into_bytes());
            parts.add(&format!("files{path}"), content);
        }
        parts.pack(&scrubber(&agent), unix_s)
    });
    let packed = packed.await.map_err(|error| error.to_string())?;
    Ok((format!("{folder}.tar.gz"), packed.map_err(|error| format!("cannot pack: {error}"))?))
}

struct Parts {
    folder: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Parts {
    fn json(&mut self, name: &str, value: &impl Serialize) {
        let text = serde_json::to_vec_pretty(value);
        self.add(name, text.unwrap_or_else(|error| error.to_string().into_bytes()));
    }

    fn add(&mut self, name: &str, mut content: Vec<u8>) {
        content.drain(..content.len().saturating_sub(MOST));
        self.files.push((format!("{}/{name}", self.folder), content));
    }

    fn pack(mut self, scrubber: &Scrubber, unix_s: u64) -> std::io::Result<Vec<u8>> {
        for (_, content) in &mut self.files {
            *content = scrubber.scrub(content);
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&archive(&self.files, unix_s))?;
        gzip.finish()
    }
}

/// Knows every secret that the box holds.
fn scrubber(agent: &Agent) -> Scrubber {
    let mut scrubber = Scrubber::default();
    scrubber.learn(agent.keys.tunnel.expose());
    if let Ok(der) = agent.keys.device.to_der() {
        scrubber.learn(&der);
        // The number itself: an OCTET STRING of 32 in the structure of the key (RFC 5915).
        der.windows(34).filter(|part| part[..2] == [4, 32]).for_each(|part| scrubber.learn(&part[2..]));
    }
    if let Some(token) = &agent.record.token {
        scrubber.learn(token.expose());
    }
    for config in agent.configurations() {
        learn(&mut scrubber, config.config());
    }
    scrubber
}

fn learn(scrubber: &mut Scrubber, config: &EdgeConfig) {
    for owner in &config.tunnel.owners {
        for root in std::iter::once(&owner.psk_root).chain(&owner.psk_previous) {
            scrubber.learn(root.secret.expose());
        }
    }
    for pppoe in config.network.wan.iter().filter_map(Wan::pppoe) {
        let password = pppoe.password.expose();
        scrubber.learn(password.as_bytes());
        // As JSON writes it.
        scrubber.learn(Zeroizing::new(password.replace('\\', "\\\\").replace('"', "\\\"")).as_bytes());
    }
}

fn records(agent: &Agent) -> Vec<u8> {
    let read = agent
        .spool()
        .and_then(|spool| spool.newest(None, RECORDS).map_err(|error| crate::center::chain(&error)));
    match read {
        Ok(records) => {
            let lines = records.iter().filter_map(|record| serde_json::to_vec(record).ok());
            lines.flat_map(|line| [line, b"\n".to_vec()].concat()).collect()
        }
        Err(why) => why.into_bytes(),
    }
}

/// What the kernel still has of its messages, a record a line.
fn kernel_log() -> Vec<u8> {
    let opened = std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg");
    let mut device = match opened {
        Ok(device) => device,
        Err(error) => return error.to_string().into_bytes(),
    };
    let (mut log, mut record) = (Vec::new(), vec![0; 8192]);
    loop {
        match device.read(&mut record) {
            Ok(0) => break,
            Ok(length) => log.extend(&record[..length]),
            // It was overwritten before it was read; the next one is there.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(_) => break,
        }
    }
    log
}

async fn output(program: &str, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    match timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => [output.stdout, output.stderr].concat(),
        Ok(Err(error)) => format!("cannot run: {error}\n").into_bytes(),
        Err(_) => format!("no end within {} s\n", LIMIT.as_secs()).into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_password_is_taken_out() {
        let golden = include_bytes!("../../contract/tests/golden/edge-config-network.json");
        let mut scrubber = Scrubber::default();
        learn(&mut scrubber, &EdgeConfig::parse(golden).unwrap());
        for form in [r#"it is "secret""#, r#"it is \"secret\""#] {
            let text = scrubber.scrub(format!("pppd said {form} at last").as_bytes());
            assert_eq!(String::from_utf8(text).unwrap(), "pppd said [removed] at last");
        }
    }
}
