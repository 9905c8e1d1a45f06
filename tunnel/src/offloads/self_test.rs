//! The test at start: what goes through each offload must come back as it was, octet by octet.
//!
//! Kernels have shipped that corrupt headers when they cut or join. Datagrams and packets are sent through the
//! very queues of the data plane, over loopback and over a TUN interface, both in a network namespace made for
//! it; without the right to make one, over the loopback that there is. It says nothing about network cards, and
//! a test that cannot be run, or not in time, is no failure.

mod packets;
mod stage;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use edge_tunnel_core::offload::GsoKind;
use verona_contract::control::OffCause;

use super::{Offload, Offloads, Switches};
use crate::tun::{PacketBatch, WriteQueue};
use crate::udp::{Carriage, SendQueue, Sockets};
use packets::{Way, checked_payload, datagrams, segments};
use stage::{Came, Stage, TunEnd, raw_tcp, untried};

/// The start waits so long at most. It takes some 6 ms, most of it for the namespace.
const LIMIT: Duration = Duration::from_millis(50);

/// What was found out about one offload.
type Finding = (Offload, Result<(), Trouble>);

/// Why an offload is not known to work.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    /// What came is not what was sent.
    Differs(String),
    /// It could not be tried, or nothing came in time.
    Untried(String),
}

/// Tests what is on, and turns off what fails.
pub(crate) fn run(offloads: &Offloads) {
    let (result, results) = mpsc::sync_channel(1);
    let deadline = Instant::now() + LIMIT;
    let work = move || {
        let stage = Stage::set(deadline);
        // If nobody waits any more, it is too late to matter.
        let _ = result.send(test(&stage));
        drop(stage);
    };
    if thread::Builder::new().name("self-test".to_owned()).spawn(work).is_err() {
        return;
    }
    match results.recv_timeout(LIMIT) {
        Ok(findings) => apply(offloads, &findings),
        Err(_) => tracing::info!("the self-test of the offloads took too long and is not counted"),
    }
}

fn apply(offloads: &Offloads, findings: &[Finding]) {
    for (offload, result) in findings {
        match result {
            Ok(()) => {}
            Err(Trouble::Differs(detail)) => offloads.turn_off(*offload, OffCause::SelfTest, detail),
            Err(Trouble::Untried(detail)) => tracing::debug!("{offload} is not tested: {detail}"),
        }
    }
}

/// Runs every test there is a stage for.
fn test(stage: &Result<Stage, Trouble>) -> Vec<Finding> {
    let stage = match stage {
        Ok(stage) => stage,
        Err(trouble) => return Offload::ALL.map(|offload| (offload, Err(trouble.clone()))).to_vec(),
    };
    let mut findings = vec![
        (Offload::UdpGso, over_loopback(stage, &stage.single)),
        (Offload::UdpGro, over_loopback(stage, &stage.joined)),
    ];
    if let Some([whole, cut]) = &stage.tuns {
        findings.extend([
            (Offload::UdpGso, out_of_tun(stage, cut)),
            (Offload::TunUso, out_of_tun(stage, whole)),
            (Offload::TunUdpGro, datagrams_into_tun(stage, whole)),
            (Offload::TunTcpGro, segments_into_tun(stage, whole)),
        ]);
    }
    findings
}

/// A run of datagrams from one socket to another.
fn over_loopback(stage: &Stage, to: &Sockets) -> Result<(), Trouble> {
    let sent = datagrams();
    send(stage, &sent, (Ipv4Addr::LOCALHOST, to.port()).into())?;
    stage.receive(to, sent.len())?.compare(&sent)
}

/// A run of datagrams that leaves by a TUN interface.
fn out_of_tun(stage: &Stage, end: &TunEnd) -> Result<(), Trouble> {
    let sent = datagrams();
    send(stage, &sent, (end.beyond, 9).into())?;
    let mut came = Came::default();
    let mut batch = PacketBatch::new();
    while came.0.len() < sent.len() && stage.readable(&end.tun) {
        batch.read(&end.tun).map_err(untried)?;
        // Neighbour discovery and the like come this way, too.
        let uncut = batch.for_each(|packet| came.0.extend(checked_payload(packet, end.beyond)));
        if uncut > 0 {
            return Err(Trouble::Differs("a large packet cannot be cut".to_owned()));
        }
    }
    came.compare(&sent)
}

/// Joined datagrams through the TUN interface to a socket that wants them single.
fn datagrams_into_tun(stage: &Stage, end: &TunEnd) -> Result<(), Trouble> {
    let sent = datagrams();
    write(end, GsoKind::Udp, &sent, stage.single.port())?;
    refused(end.tun.offloads(), Offload::TunUdpGro)?;
    stage.receive(&stage.single, sent.len())?.compare(&sent)
}

/// Joined segments through the TUN interface; a raw socket sees the packet as the kernel takes it.
fn segments_into_tun(stage: &Stage, end: &TunEnd) -> Result<(), Trouble> {
    let raw = raw_tcp()?;
    let sent = datagrams();
    write(end, GsoKind::Tcp, &sent, 9)?;
    refused(end.tun.offloads(), Offload::TunTcpGro)?;
    let came = stage.receive_raw(&raw, end.beyond, sent.iter().map(Vec::len).sum())?;
    Came(vec![came]).compare(&[sent.concat()])
}

fn send(stage: &Stage, datagrams: &[Vec<u8>], to: SocketAddr) -> Result<(), Trouble> {
    let offloads = Arc::new(Offloads::new(Switches::default()));
    let mut queue = SendQueue::new(Arc::clone(&offloads));
    for datagram in datagrams {
        queue.space(datagram.len()).copy_from_slice(datagram);
        queue.push(to, Carriage::default(), datagram.len());
    }
    let [Some(socket), _] = stage.sender.by_family() else {
        return Err(Trouble::Untried("no IPv4".to_owned()));
    };
    let flushed = queue.flush(socket, |_| {});
    if flushed.failed > 0 || flushed.blocked {
        return Err(Trouble::Untried("sending failed".to_owned()));
    }
    refused(&offloads, Offload::UdpGso)
}

fn write(end: &TunEnd, kind: GsoKind, payloads: &[Vec<u8>], port: u16) -> Result<(), Trouble> {
    let mut queue = WriteQueue::new();
    let way = Way { from: end.beyond, to: end.here, port };
    for v6 in [true, false] {
        for packet in segments(kind, v6, payloads, way) {
            queue.space(packet.len()).copy_from_slice(&packet);
            queue.push(packet.len());
        }
    }
    if queue.flush(&end.tun) > 0 {
        return Err(Trouble::Untried("writing to the interface failed".to_owned()));
    }
    Ok(())
}

/// The queues turn off what is refused while single pieces are taken.
fn refused(offloads: &Offloads, offload: Offload) -> Result<(), Trouble> {
    match offloads.reason(offload) {
        Some((OffCause::Refused, detail)) => Err(Trouble::Differs(detail)),
        Some((cause, _)) => Err(Trouble::Untried(cause.to_string())),
        None => Ok(()),
    }
}

/// A flow of IPv4 packets, one for each of `payloads`.
#[cfg(test)]
pub(crate) fn flow(kind: GsoKind, payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let way = Way { from: Ipv4Addr::new(192, 0, 2, 1), to: Ipv4Addr::new(192, 0, 2, 2), port: 9 };
    segments(kind, false, payloads, way)
}

#[cfg(test)]
mod tests;
