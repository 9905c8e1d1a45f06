//! The single measurements: which traffic, and what of it counts.

use super::bed::{Bed, RECEIVER_INSIDE, Tunnel};
use super::meter::Population;
use super::sample::Sample;
use super::traffic::{self, Iperf};
use lab::{Error, Result};
use std::str::FromStr;
use std::time::Duration;

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// Round trips without other traffic.
    Ping,
    /// TCP, this many streams.
    Tcp(u32),
    /// TCP, one stream each way.
    Bidir,
    /// As many datagrams of this size as the sender can make.
    Udp(usize),
    /// The highest rate of datagrams of this size that loses less than 2 %.
    Ndr(usize),
    /// Round trips of the onlooker while the sender floods the receiver with datagrams of 64 octets.
    PingUnderFlood,
    /// TCP, this many streams, while the tunnel's datagrams cross a bad line ([`super::bed`]).
    Line(u32),
}

/// All of them, in the order of a run.
pub(super) const ALL: [&str; 9] =
    ["ping", "tcp1", "tcp4", "bidir", "udp64", "udp1200", "ndr64", "ping-under-flood", "line4"];

/// Loss that a rate may have, per cent.
const NDR_LOSS: f64 = 2.0;
/// Where the search for the rate begins and ends, thousand datagrams a second.
const NDR_FIRST: f64 = 8.0;
const NDR_LAST: f64 = 1200.0;

/// Where the traffic of a trial runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) bed: &'a Bed,
    /// None on the bare wire.
    pub(super) tunnel: Option<&'a Tunnel>,
    /// The receiver's address as the sender reaches it, and as the onlooker does.
    pub(super) target: &'a str,
    pub(super) onlooker_target: &'a str,
    pub(super) seconds: u32,
}

impl Trial {
    /// Whether it wants a bad line between the daemons.
    pub(super) const fn wants_line(self) -> bool {
        matches!(self, Self::Line(_))
    }
}

impl FromStr for Trial {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let (kind, number) = name.split_at(name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len()));
        match (kind, number.parse::<u16>().ok().filter(|number| (1..=1372).contains(number))) {
            ("ping", None) => Ok(Self::Ping),
            ("bidir", None) => Ok(Self::Bidir),
            ("ping-under-flood", None) => Ok(Self::PingUnderFlood),
            ("tcp", Some(streams @ 1..=64)) => Ok(Self::Tcp(streams.into())),
            // iperf3 puts 16 octets of its own into each datagram.
            ("udp", Some(size @ 16..)) => Ok(Self::Udp(size.into())),
            ("ndr", Some(size @ 16..)) => Ok(Self::Ndr(size.into())),
            ("line", Some(streams @ 1..=64)) => Ok(Self::Line(streams.into())),
            _ => Err(format!("{name} is no test; there are {}, with other numbers too", ALL.join(", "))),
        }
    }
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ping => f.write_str("ping"),
            Self::Tcp(streams) => write!(f, "tcp{streams}"),
            Self::Bidir => f.write_str("bidir"),
            Self::Udp(size) => write!(f, "udp{size}"),
            Self::Ndr(size) => write!(f, "ndr{size}"),
            Self::PingUnderFlood => f.write_str("ping-under-flood"),
            Self::Line(streams) => write!(f, "line{streams}"),
        }
    }
}

impl Place<'_> {
    /// The processes whose CPU time a trial here takes.
    fn population(&self) -> Population {
        self.tunnel.map_or_else(Population::default, |tunnel| Population {
            sender: vec![tunnel.sender.process.pid()],
            receiver: vec![tunnel.receiver.process.pid()],
            others: tunnel.others(),
        })
    }

    /// Runs `trial` once.
    pub(super) fn run(&self, trial: Trial) -> Result<Sample> {
        let population = self.population();
        let before = population.read()?;
        let mut sample = match trial {
            Trial::Ping => traffic::ping(&self.bed.sender, self.target, self.seconds)?,
            Trial::Tcp(streams) | Trial::Line(streams) => {
                traffic::tcp(&self.iperf(self.seconds, &["-O", "1", "-P", &streams.to_string()])?, false)
            }
            Trial::Bidir => traffic::tcp(&self.iperf(self.seconds, &["-O", "1", "--bidir"])?, true),
            Trial::Udp(size) => self.udp(size, None, self.seconds)?,
            Trial::Ndr(size) => self.highest_rate(size)?,
            Trial::PingUnderFlood => self.ping_under_flood()?,
        };
        let consumed = before.until(&population.read()?);
        // The counters span the second that the TCP trials leave out.
        let omitted = if matches!(trial, Trial::Tcp(_) | Trial::Bidir | Trial::Line(_)) { 1 } else { 0 };
        let megabytes = sample.octets_per_second.map(|rate| rate * f64::from(self.seconds + omitted) / 1e6);
        let daemons = consumed.sender + consumed.receiver;
        sample.mb_per_cpu = megabytes.filter(|_| daemons > 0.0).map(|mb| mb / daemons);
        sample.mb_per_cpu_all = megabytes.map(|mb| mb / consumed.ours);
        (sample.cpu_sender, sample.cpu_receiver) = (consumed.sender, consumed.receiver);
        (sample.busy, sample.disturbance) = (consumed.busy, consumed.disturbance);
        Ok(sample)
    }

    fn iperf(&self, seconds: u32, options: &[&str]) -> Result<serde_json::Value> {
        Iperf::listen(&self.bed.sender, &self.bed.receiver, self.target)?.run(seconds, options)
    }

    /// Datagrams of `size` octets, `kpps` thousand a second or without limit.
    fn udp(&self, size: usize, kpps: Option<f64>, seconds: u32) -> Result<Sample> {
        let (length, rate) = (size.to_string(), kpps.unwrap_or(0.0) * 1e3 * size as f64 * 8.0);
        let rate = (rate as u64).to_string();
        let report = self.iperf(
            seconds,
            &["-u", "-b", &rate, "-w", traffic::ROOM, "-l", &length, "--get-server-output"],
        )?;
        Ok(traffic::udp(&report, size))
    }

    /// Doubles the rate until it loses too much, then halves the interval three times.
    fn highest_rate(&self, size: usize) -> Result<Sample> {
        let seconds = (self.seconds / 2).clamp(1, 2);
        let mut best = 0.0;
        let mut holds = |rate: f64| -> Result<bool> {
            // A disturbed try must not decide.
            for _ in 0..3 {
                let sample = self.udp(size, Some(rate), seconds)?;
                if sample.loss.is_some_and(|loss| loss < NDR_LOSS) {
                    let full = sample.sent_kpps.is_some_and(|sent| sent > 0.9 * rate);
                    if full {
                        best = sample.kpps.unwrap_or(0.0);
                    }
                    return Ok(full);
                }
            }
            Ok(false)
        };
        let (mut low, mut high) = (0.0, NDR_FIRST);
        while high < NDR_LAST && holds(high)? {
            (low, high) = (high, high * 2.0);
        }
        for _ in 0..3 {
            let middle = f64::midpoint(low, high);
            if holds(middle)? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(Sample { kpps: Some(best), gbps: Some(best * size as f64 * 8e3 / 1e9), ..Sample::default() })
    }

    fn ping_under_flood(&self) -> Result<Sample> {
        let iperf = Iperf::listen(&self.bed.sender, &self.bed.receiver, self.target)?;
        let (mut client, mut server) = iperf.flood(self.seconds + 2, 64)?;
        // The flood needs a moment to fill the queues that there are.
        std::thread::sleep(Duration::from_secs(1));
        client.must_run()?;
        let sample = traffic::ping(&self.bed.onlooker, self.onlooker_target, self.seconds)?;
        let limit = Duration::from_secs(20);
        client.wait(limit)?;
        server.wait(limit)?;
        let report = serde_json::from_str(&client.log())
            .map_err(|e| Error::Io { doing: "read iperf3's report".to_owned(), source: e.into() })?;
        let flood = traffic::udp(&report, 64);
        Ok(Sample { kpps: flood.kpps, ..sample })
    }
}

/// How the sender and the onlooker reach the receiver through a tunnel.
pub(super) const INSIDE: (&str, &str) = (RECEIVER_INSIDE, RECEIVER_INSIDE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in ALL {
            assert_eq!(name.parse::<Trial>().unwrap().to_string(), name);
        }
        for bad in ["tcp", "udp0", "udp9000", "ping4", "ndr"] {
            assert!(bad.parse::<Trial>().is_err(), "{bad}");
        }
    }
}
