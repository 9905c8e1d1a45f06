//! Traffic by foreign programs, iperf3 and ping, and what they report.
//!
//! Only bits, datagrams and times are read here; whose CPU it cost is the meter's business.

use super::sample::Sample;
use lab::{Error, Namespace, Process, Result, wait};
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// iperf3's port, as /proc/net/tcp writes it.
const PORT_HEX: &str = ":1451 ";
/// What a lost ping counts as: the time that ping waits for it.
const LOST_MS: f64 = 1000.0;
/// Between pings, seconds.
const PING_PACE: f64 = 0.01;

/// One use of iperf3: a server for one client.
#[derive(Debug)]
pub(super) struct Iperf {
    server: Process,
    sender: Namespace,
    target: String,
}

impl Iperf {
    /// Starts the server in `receiver`.
    pub(super) fn listen(sender: &Namespace, receiver: &Namespace, target: &str) -> Result<Self> {
        let mut command = receiver.command("iperf3");
        command.args(["-s", "-1", "-J"]);
        let mut server = receiver.run().start_process("iperf3-server", command)?;
        wait::for_value("iperf3's server", Duration::from_secs(5), || {
            server.must_run()?;
            Ok(receiver.enter(is_listening)?.then_some(()))
        })?;
        Ok(Self { server, sender: sender.clone(), target: target.to_owned() })
    }

    /// Runs the client to its end.
    pub(super) fn run(mut self, seconds: u32, options: &[&str]) -> Result<Value> {
        let (limit, time) = ((seconds + 15).to_string(), seconds.to_string());
        let mut arguments = vec![&*limit, "iperf3", "-c", &self.target, "-t", &time, "-J"];
        arguments.extend(options);
        let report = self.sender.output("timeout", &arguments)?;
        // Reaped, so that its CPU time is counted.
        self.server.wait(Duration::from_secs(5))?;
        let report: Value = serde_json::from_str(&report)
            .map_err(|e| Error::Io { doing: "read iperf3's report".to_owned(), source: e.into() })?;
        match report.get("error").and_then(Value::as_str) {
            Some(error) => Err(Error::Environment(format!("iperf3: {error}"))),
            None => Ok(report),
        }
    }

    /// Starts a client that floods with datagrams of `size` octets for `seconds`, in the background.
    pub(super) fn flood(self, seconds: u32, size: usize) -> Result<(Process, Process)> {
        let mut command = self.sender.command("iperf3");
        command.args(["-c", &self.target, "-u", "-b", "0", "-w", ROOM, "-l", &size.to_string()]);
        command.args(["-t", &seconds.to_string(), "-J", "--get-server-output"]);
        Ok((self.sender.run().start_process("iperf3-client", command)?, self.server))
    }
}

fn is_listening() -> bool {
    ["tcp", "tcp6"].iter().any(|table| {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        table.lines().any(|line| line.contains(PORT_HEX) && line.contains(" 0A "))
    })
}

/// A TCP report. `both` adds the reverse direction of `--bidir`.
pub(super) fn tcp(report: &Value, both: bool) -> Sample {
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    let mut octets = number("/end/sum_received/bytes");
    let mut retransmits = number("/end/sum_sent/retransmits");
    let seconds = number("/end/sum_received/seconds");
    if both {
        octets += number("/end/sum_received_bidir_reverse/bytes");
        retransmits += number("/end/sum_sent_bidir_reverse/retransmits");
    }
    Sample {
        gbps: Some(octets * 8.0 / seconds / 1e9),
        retransmits: Some(retransmits),
        octets_per_second: Some(octets / seconds),
        ..Sample::default()
    }
}

/// A UDP report with the server's output in it; datagrams of `size` octets.
pub(super) fn udp(report: &Value, size: usize) -> Sample {
    let sent = report.pointer("/end/sum").unwrap_or(&Value::Null);
    let seen = report.pointer("/server_output_json/end/sum").unwrap_or(sent);
    let number = |of: &Value, name: &str| of.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let seconds = number(sent, "seconds").max(1e-9);
    let packets = number(sent, "packets");
    let received = number(seen, "packets") - number(seen, "lost_packets");
    let per_second = received / seconds;
    Sample {
        gbps: Some(per_second * size as f64 * 8.0 / 1e9),
        kpps: Some(per_second / 1e3),
        sent_kpps: Some(packets / seconds / 1e3),
        loss: Some(100.0 * (packets - received).max(0.0) / packets.max(1.0)),
        octets_per_second: Some(per_second * size as f64),
        ..Sample::default()
    }
}

/// Options of `chrt` for what must not wait for a processor: first in, first out.
pub(super) const REAL_TIME: [&str; 2] = ["-f", "1"];

/// Room in the sockets of iperf3: what is lost is to be lost by the tunnel.
pub(super) const ROOM: &str = "4M";

/// Pings a hundred times a second for `seconds` and gives the times' quantiles. Ping has real-time priority, so
/// that no times of its own are in them.
pub(super) fn ping(from: &Namespace, to: &str, seconds: u32) -> Result<Sample> {
    let count = (f64::from(seconds) / PING_PACE) as usize;
    let (number, pace) = (count.to_string(), PING_PACE.to_string());
    let mut command = from.command("chrt");
    command.args(REAL_TIME).args(["ping", "-n", "-i", &pace, "-c", &number, "-W", "1", to]);
    let output = command.output().map_err(Error::io("run ping"))?;
    Ok(quantiles(&String::from_utf8_lossy(&output.stdout), count))
}

fn quantiles(report: &str, sent: usize) -> Sample {
    let mut times: Vec<f64> = report
        .lines()
        .filter_map(|line| line.split_once("time=")?.1.split(' ').next()?.parse().ok())
        .collect();
    let lost = sent.saturating_sub(times.len());
    times.resize(sent.max(1), LOST_MS);
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];
    Sample {
        p50: Some(at(0.50)),
        p99: Some(at(0.99)),
        loss: Some(100.0 * lost as f64 / sent.max(1) as f64),
        ..Sample::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lost_ping_is_the_slowest_one() {
        let report =
            "64 bytes from x: icmp_seq=1 ttl=64 time=0.5 ms\n64 bytes from x: icmp_seq=3 time=0.7 ms";
        let sample = quantiles(report, 3);
        assert_eq!((sample.p50, sample.p99), (Some(0.7), Some(LOST_MS)));
        assert!((sample.loss.unwrap() - 33.3).abs() < 0.1);
    }

    #[test]
    fn datagrams_are_counted_where_they_arrived() {
        let report = json!({"end": {"sum": {"seconds": 2.0, "packets": 2000, "lost_packets": 0}},
            "server_output_json": {"end": {"sum": {"packets": 1500, "lost_packets": 500}}}});
        let sample = udp(&report, 125);
        assert_eq!((sample.kpps, sample.sent_kpps, sample.loss), (Some(0.5), Some(1.0), Some(50.0)));
        assert!((sample.gbps.unwrap() - 0.0005).abs() < 1e-12);
    }

    #[test]
    fn both_directions_count() {
        let half = |octets| json!({"bytes": octets, "seconds": 1.0, "retransmits": 1});
        let report = json!({"end": {"sum_received": half(1e9), "sum_sent": half(1e9),
            "sum_received_bidir_reverse": half(5e8), "sum_sent_bidir_reverse": half(5e8)}});
        assert_eq!(tcp(&report, true).gbps, Some(12.0));
        assert_eq!(tcp(&report, false).gbps, Some(8.0));
    }
}
