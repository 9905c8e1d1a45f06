//! Whether a second worker helps: how fast a daemon seals what two peers get, with one worker and with two.
//!
//! On two processors the daemon must have them nearly alone. So the traffic is made by one process that hands
//! the interface frames of 60 kB, paced by what the daemon has taken, and the peers are gone once their
//! sessions are live: the receiving end drops what comes. What is counted is what left the sender's wire.

use super::bed::{self, Bed, Keys, RECEIVER};
use super::implementation::Program;
use super::load;
use super::meter::Population;
use super::sample::Sample;
use lab::parts::StockClient;
use lab::{Error, Namespace, Result, wait};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Names of the samples, for [`super::bars`].
pub(super) const WORKERS: [(&str, u32); 2] = [("verona-1-worker", 1), ("verona-2-workers", 2)];
pub(super) const TRIALS: [(&str, usize); 2] = [("seal1", 1), ("seal2", 2)];
const PEERS: [(&str, u16); 2] = [("10.200.0.2", 51820), ("10.200.0.4", 51821)];
/// What comes for the peers is dropped before a socket sees it.
const SINK: &str = "table ip sink {
  chain in {
    type filter hook prerouting priority raw
    udp dport 51820-51821 drop
  }
}
";
/// Until the queues are full.
const RUN_UP: Duration = Duration::from_millis(500);

/// Measures each number of workers with one peer and with two.
pub(super) fn measure(bed: &Bed, program: &Program, seconds: u32) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for (trial, peers) in TRIALS {
        for (name, workers) in WORKERS {
            let mut program = program.clone();
            program.options.extend(["--workers".to_owned(), workers.to_string()]);
            let sealed = sealing(bed, &program, peers, seconds)?;
            samples.push(Sample { name: name.to_owned(), trial: trial.to_owned(), ..sealed });
        }
    }
    Ok(samples)
}

fn sealing(bed: &Bed, program: &Program, peers: usize, seconds: u32) -> Result<Sample> {
    let peers = &PEERS[..peers];
    let sender = sessions(bed, program, peers)?;
    bed.receiver.nft(SINK)?;
    let result = sealed_by(bed, &sender, peers, seconds);
    bed.receiver.nft("delete table ip sink")?;
    result
}

/// A sender that has a live session with each of `peers`, which are gone.
fn sessions(bed: &Bed, program: &Program, peers: &[(&str, u16)]) -> Result<StockClient> {
    let ours = Keys::generate(&bed.sender)?;
    let mut config =
        format!("[Interface]\nPrivateKey = {}\nListenPort = 51820\nAddress = 10.200.0.1/24\n", ours.private);
    let mut receivers = Vec::new();
    for (address, port) in peers {
        let keys = Keys::generate(&bed.receiver)?;
        let theirs = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {port}\nAddress = {address}/32\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = 10.200.0.1/32\n",
            keys.private, ours.public
        );
        receivers.push(bed::start(&bed.receiver, &format!("rx{port}"), program, &theirs)?);
        config += &format!(
            "[Peer]\nPublicKey = {}\nAllowedIPs = {address}/32\nEndpoint = {RECEIVER}:{port}\n",
            keys.public
        );
    }
    let sender = bed::start(&bed.sender, "tx", program, &config)?;
    wait::until("sessions with all peers", Duration::from_secs(10), || {
        for (address, _) in peers {
            // Nobody answers: the first receiver's routes are as good as the second's.
            let _ = bed.sender.output("ping", &["-n", "-c", "1", "-W", "0.1", address]);
        }
        sender
            .show("latest-handshakes")
            .is_ok_and(|shown| shown.lines().filter(|line| !line.ends_with("\t0")).count() == peers.len())
    })?;
    drop(receivers);
    Ok(sender)
}

fn sealed_by(bed: &Bed, sender: &StockClient, peers: &[(&str, u16)], seconds: u32) -> Result<Sample> {
    let targets: Vec<&str> = peers.iter().map(|(address, _)| *address).collect();
    let mut blast = load::blast(&bed.sender, sender.interface(), &targets)?;
    std::thread::sleep(RUN_UP);
    let population =
        Population { sender: vec![sender.process.pid()], receiver: Vec::new(), others: vec![blast.pid()] };
    let (before, sent, begin) = (population.read()?, sent_by(&bed.sender)?, Instant::now());
    std::thread::sleep(Duration::from_secs(seconds.into()));
    let (octets, passed) = (sent_by(&bed.sender)? - sent, begin.elapsed().as_secs_f64());
    let consumed = before.until(&population.read()?);
    blast.must_run()?;
    Ok(Sample {
        gbps: Some(octets * 8.0 / passed / 1e9),
        mb_per_cpu: Some(octets / 1e6 / consumed.sender),
        mb_per_cpu_all: Some(octets / 1e6 / consumed.ours),
        cpu_sender: consumed.sender,
        busy: consumed.busy,
        disturbance: consumed.disturbance,
        ..Sample::default()
    })
}

/// Octets that have left by the wire.
fn sent_by(place: &Namespace) -> Result<f64> {
    let text = place.output("ip", &["-s", "-j", "link", "show", "dev", "wire"])?;
    let report: Value = serde_json::from_str(&text)
        .map_err(|e| Error::Io { doing: "read what ip says".to_owned(), source: e.into() })?;
    Ok(report.pointer("/0/stats64/tx/bytes").and_then(Value::as_f64).unwrap_or(0.0))
}
