//! What makes load for a certified edge: its policy, its other clients by the thousand, its attackers.
//!
//! All of it is `verona-load`, a program of the tests, in processes of its own; here it is started, and its
//! words are read.

use super::bed::Bed;
use lab::{Error, Namespace, Process, Result, workspace};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Networks of the crowd's and the attackers' addresses (the program's own choice).
pub(super) const CROWD_NETWORKS: [&str; 2] = ["10.64.0.0/16", "10.65.0.0/16"];
/// The crowd's addresses in the tunnel.
pub(super) const CROWD_INSIDE: &str = "10.128.0.0/9";
/// The receiver as the crowd reaches it.
const RECEIVER_CROWD: &str = "203.0.113.2:51820";
/// Clients of a crowd that begin in a second: what the edge must be able to take is more.
const RATE: u32 = 1000;
/// Numbers of clients that no crowd has.
const NEWCOMERS: u32 = 50_000;

/// Gives the edge behind `control` its policy.
pub(super) fn admit(place: &Namespace, control: &Path) -> Result<()> {
    place.output(program()?, &["admit", &control.to_string_lossy()]).map(drop)
}

/// wg-quick's configuration of a stock client of the certified edge.
pub(super) fn stock_config(place: &Namespace, number: usize, endpoint: &str) -> Result<String> {
    place.output(program()?, &["stock", &number.to_string(), endpoint])
}

/// What sealing and opening a packet of 1420 octets costs the protocol engine now, nanoseconds.
pub(super) fn cipher(place: &Namespace) -> Result<f64> {
    let answer = json(&place.output(program()?, &["cipher"])?)?;
    let number = |name: &str| answer.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    Ok(number("seal_ns") + number("open_ns"))
}

/// Starts `clients` clients of the edge and waits until all are live. They stay so until the process ends.
pub(super) fn crowd(bed: &Bed, clients: u32) -> Result<Process> {
    let arguments = ["swarm", RECEIVER_CROWD, "--clients", &clients.to_string(), "--rate", &RATE.to_string()];
    let mut process = start(&bed.crowd, "crowd", &arguments)?;
    process.wait_for("a crowd that is live", Duration::from_secs(60), |log| log.contains("\"live\""))?;
    match json(&process.log())?.get("all").and_then(Value::as_bool) {
        Some(true) => Ok(process),
        _ => {
            Err(Error::Environment(format!("not all of {clients} clients got in: {}", process.log().trim())))
        }
    }
}

/// How new clients fared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomers {
    pub(super) admitted: u64,
    /// From its first datagram to the first answer through the tunnel, the slowest one, seconds.
    pub(super) slowest: f64,
}

/// Starts `count` clients that the edge has never seen, ten a second; read by [`newcomers`]. `round` tells
/// one use from the next.
pub(super) fn start_newcomers(bed: &Bed, count: u32, round: u32, seconds: u32) -> Result<Process> {
    let first = (NEWCOMERS + round * count).to_string();
    let (count, seconds) = (count.to_string(), seconds.to_string());
    let clients = ["--clients", &count, "--first", &first, "--rate", "10", "--seconds", &seconds];
    start(&bed.crowd, "newcomers", &[&["swarm", RECEIVER_CROWD], &clients[..]].concat())
}

/// Waits for the end of [`start_newcomers`].
pub(super) fn newcomers(mut process: Process, limit: Duration) -> Result<Newcomers> {
    process.wait(limit)?;
    let answer = json(&process.log())?;
    let admitted = answer.get("live").and_then(Value::as_u64).unwrap_or(0);
    Ok(Newcomers { admitted, slowest: answer.get("max_s").and_then(Value::as_f64).unwrap_or(f64::INFINITY) })
}

/// Starts a flood of forgeries from many addresses and waits until it flows.
pub(super) fn flood(bed: &Bed, kind: &str, per_second: u32, sources: u16) -> Result<Process> {
    let (rate, sources) = (per_second.to_string(), sources.to_string());
    let arguments = ["flood", RECEIVER_CROWD, kind, "--rate", &rate, "--sources", &sources];
    let mut process = start(&bed.crowd, "flood", &arguments)?;
    process.wait_for_log("per_second", Duration::from_secs(10))?;
    Ok(process)
}

/// The rate that a flood has reached, datagrams a second.
pub(super) fn flood_rate(process: &Process) -> f64 {
    let rates: Vec<f64> =
        process.log().lines().filter_map(|line| json(line).ok()?.get("per_second")?.as_f64()).collect();
    rates.iter().sum::<f64>() / rates.len().max(1) as f64
}

/// Starts a sender of large UDP frames through the interface `through` to each of `to` in turn.
pub(super) fn blast(place: &Namespace, through: &str, to: &[&str]) -> Result<Process> {
    start(place, "blast", &[&["blast", through], to].concat())
}

fn program() -> Result<std::path::PathBuf> {
    workspace::release_binary("verona-load")
}

fn start(place: &Namespace, name: &str, arguments: &[&str]) -> Result<Process> {
    let mut command: Command = place.command(program()?);
    command.args(arguments);
    place.run().start_process(name, command)
}

fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text.lines().next().unwrap_or_default())
        .map_err(|e| Error::Io { doing: "read what verona-load says".to_owned(), source: e.into() })
}
