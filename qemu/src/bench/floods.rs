//! `--floods`: what a live session and new clients feel while strangers flood a certified edge.
//!
//! On a machine that the attacker shares with the edge, making the flood costs what the session would have
//! used. So the session is measured three times: alone; with the flood dropped by the edge's firewall, where
//! only its making counts; and with the flood let through. The last against the second is what the edge loses.

use super::bed::{Bed, RECEIVER_INSIDE, Tunnel, Wanted};
use super::implementation::Program;
use super::load;
use super::profile::Recording;
use super::sample::align;
use super::traffic::{self, Iperf};
use lab::{Process, Result};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// Datagrams a second that a flood should have.
const RATE: u32 = 50_000;
/// Its source addresses.
const SOURCES: u16 = 4096;
/// New clients that come while it lasts.
const NEWCOMERS: u32 = 20;
/// What is left of a live session's throughput, at least.
const KEPT: f64 = 0.90;
/// New clients are in after so many seconds, at most.
const IN_WITHIN: f64 = 5.0;

/// The attackers' addresses; the new clients have others.
const FIREWALL: &str = "table ip floods {
  chain in {
    type filter hook prerouting priority raw
    ip saddr 10.64.0.0/16 drop
  }
}
";

/// From the cheapest to refuse to the dearest (the program's own names).
pub(super) const KINDS: [&str; 11] = [
    "initiation-wrong-mac1",
    "initiation-garbage",
    "initiation-unknown-key",
    "initiation-stolen-key",
    "introduction-wrong-mac1",
    "introduction-garbage",
    "introduction-forged-signature",
    "introduction-stolen-certificate",
    "introduction-foreign-owner",
    "cookie-reply-garbage",
    "transport-garbage",
];

/// What one kind of flood did.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Effect {
    kind: &'static str,
    /// Datagrams a second, thousands.
    kpps: f64,
    /// Throughput of the live session, Gbit/s.
    alone: f64,
    dropped: f64,
    flooded: f64,
    /// New clients that got in, of [`NEWCOMERS`], and the slowest one's seconds.
    admitted: u64,
    slowest: f64,
    /// Resident memory of the edge's data plane before and at its highest, megabytes.
    memory_before: f64,
    memory_peak: f64,
}

/// Measures `kinds`, each with a new edge; none named means all. With a folder, perf records what each flood takes.
pub(super) fn measure(
    bed: &Bed,
    program: &Program,
    kinds: &[String],
    seconds: u32,
    perf: Option<&Path>,
) -> anyhow::Result<Vec<Effect>> {
    let mut effects = Vec::new();
    let wanted =
        KINDS.into_iter().filter(|kind| kinds.is_empty() || kinds.iter().any(|wanted| wanted == kind));
    for (round, kind) in wanted.enumerate() {
        let tunnel = bed.tunnel(program, Wanted { bad_line: false, others: Some(0) })?;
        let effect = effect(bed, &tunnel, kind, round as u32, seconds)?;
        if let Some(folder) = perf {
            let flood = load::flood(bed, kind, RATE, SOURCES)?;
            let recording = Recording::start(folder, kind)?;
            throughput(bed, seconds)?;
            println!("{}", recording.listing()?);
            drop(flood);
        }
        println!("  {kind:<32} {:.0} of 100 kept", 100.0 * effect.kept());
        effects.push(effect);
    }
    Ok(effects)
}

fn effect(bed: &Bed, tunnel: &Tunnel, kind: &'static str, round: u32, seconds: u32) -> Result<Effect> {
    let alone = throughput(bed, seconds)?;
    let memory_before = resident(&tunnel.receiver.process, "VmRSS:");
    bed.receiver.nft(FIREWALL)?;
    let flood = load::flood(bed, kind, RATE, SOURCES)?;
    let dropped = throughput(bed, seconds)?;
    bed.receiver.nft("delete table ip floods")?;
    let newcomers = load::start_newcomers(bed, NEWCOMERS, round, seconds + 6)?;
    let flooded = throughput(bed, seconds)?;
    let newcomers = load::newcomers(newcomers, Duration::from_secs(u64::from(seconds) + 20))?;
    Ok(Effect {
        kind,
        kpps: load::flood_rate(&flood) / 1e3,
        alone,
        dropped,
        flooded,
        admitted: newcomers.admitted,
        slowest: newcomers.slowest,
        memory_before,
        memory_peak: resident(&tunnel.receiver.process, "VmHWM:"),
    })
}

/// One stream of TCP through the tunnel, Gbit/s.
fn throughput(bed: &Bed, seconds: u32) -> Result<f64> {
    let iperf = Iperf::listen(&bed.sender, &bed.receiver, RECEIVER_INSIDE)?;
    Ok(traffic::tcp(&iperf.run(seconds, &["-O", "1"])?, false).gbps.unwrap_or(0.0))
}

impl Effect {
    /// Share of the throughput that the edge kept.
    fn kept(&self) -> f64 {
        self.flooded / self.dropped.max(1e-9)
    }

    fn passed(&self) -> bool {
        self.kept() >= KEPT && self.admitted == u64::from(NEWCOMERS) && self.slowest <= IN_WITHIN
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.kind.to_owned(),
            if self.passed() { "passed" } else { "MISSED" }.to_owned(),
            format!("{:.0}", self.kpps),
            format!("{:.2}", self.alone),
            format!("{:.2}", self.dropped),
            format!("{:.2}", self.flooded),
            format!("{:.0}", 100.0 * self.kept()),
            format!("{} of {NEWCOMERS}", self.admitted),
            format!("{:.2}", self.slowest),
            format!("{:.1}", self.memory_before),
            format!("{:.1}", self.memory_peak),
        ]
    }
}

const HEADINGS: [&str; 11] = [
    "flood",
    "",
    "kpps",
    "Gbit/s alone",
    "flood dropped before",
    "flooded",
    "kept %",
    "new clients in",
    "slowest s",
    "MB before",
    "MB peak",
];

/// The table of all.
pub(super) fn table(effects: &[Effect]) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
    rows.extend(effects.iter().map(Effect::row));
    align(&rows)
}

/// A line of proc_pid_status(5), megabytes.
fn resident(process: &Process, line: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap_or_default();
    kilobytes(&status, line) / 1e3
}

fn kilobytes(status: &str, line: &str) -> f64 {
    status
        .lines()
        .find_map(|text| text.strip_prefix(line)?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFFECT: Effect = Effect {
        kind: KINDS[0],
        kpps: 50.0,
        alone: 2.0,
        dropped: 1.0,
        flooded: 0.9,
        admitted: 20,
        slowest: 1.0,
        memory_before: 10.0,
        memory_peak: 11.0,
    };

    #[test]
    fn a_flood_passes_by_what_is_left_and_by_who_got_in() {
        assert!(EFFECT.passed(), "what the flood's making costs is not the edge's loss");
        for bad in [
            Effect { flooded: 0.89, ..EFFECT },
            Effect { admitted: 19, ..EFFECT },
            Effect { slowest: 5.1, ..EFFECT },
        ] {
            assert!(!bad.passed(), "{bad:?}");
        }
    }

    #[test]
    fn memory_is_read_from_its_line() {
        let status = "Name:\tx\nVmHWM:\t   12500 kB\nVmRSS:\t   10000 kB\n";
        assert!((kilobytes(status, "VmHWM:") - 12_500.0).abs() < 1e-9);
        assert!(kilobytes(status, "VmSwap:").abs() < 1e-9);
    }
}
