//! What the data plane has to reach, as ratios within one run, and whether it did.

use super::implementation::{OURS, VETH, among};
use super::sample::{Sample, Samples, align, median};
use super::scaling;

/// A bar that two figures of the run decide.
struct Bar {
    text: &'static str,
    trial: &'static str,
    /// Compared with whom; an empty list is the best of all foreign ones.
    against: &'static [&'static str],
    figure: fn(&Sample) -> Option<f64>,
    wanted: Wanted,
}

#[derive(Clone, Copy)]
enum Wanted {
    /// Our figure over theirs, at least.
    AtLeast(f64),
    /// Our figure over theirs, at most.
    AtMost(f64),
}

const BARS: &[Bar] = &[
    Bar {
        text: "TCP 1 stream against gotatun",
        trial: "tcp1",
        against: &["gotatun"],
        figure: gbps,
        wanted: Wanted::AtLeast(8.0),
    },
    Bar {
        text: "TCP 1 stream against boringtun-cli",
        trial: "tcp1",
        against: &["boringtun"],
        figure: gbps,
        wanted: Wanted::AtLeast(13.0),
    },
    Bar {
        text: "TCP 1 stream against wireguard-go",
        trial: "tcp1",
        against: &["wireguard-go"],
        figure: gbps,
        wanted: Wanted::AtLeast(15.0),
    },
    Bar {
        text: "64-octet flood, kpps, against the best peer",
        trial: "udp64",
        against: &[],
        figure: kpps,
        wanted: Wanted::AtLeast(2.0),
    },
    Bar {
        text: "1,200-octet flood against the best peer",
        trial: "udp1200",
        against: &[],
        figure: kpps,
        wanted: Wanted::AtLeast(3.0),
    },
    Bar {
        text: "ndr64 against the best peer",
        trial: "ndr64",
        against: &[],
        figure: kpps,
        wanted: Wanted::AtLeast(2.0),
    },
    Bar {
        text: "ping p50, idle, against the best peer",
        trial: "ping",
        against: &[],
        figure: p50,
        wanted: Wanted::AtMost(1.0),
    },
    Bar {
        text: "TCP 4 streams, 10 ms ± 1 ms, 0.1 % loss",
        trial: "line4",
        against: &[],
        figure: gbps,
        wanted: Wanted::AtLeast(1.0),
    },
];

/// Within our own figures: at least as much as with one TCP stream.
const OWN: [(&str, &str); 2] =
    [("TCP 4 streams against 1", "tcp4"), ("TCP both ways against 1 stream", "bidir")];
/// Ping of another peer while one floods, milliseconds.
const FLOOD_P99: f64 = 5.0;
/// Of what sealing, opening and the bare wire allow a CPU second.
const OF_BOUND: f64 = 0.70;
/// Payload of the packet that [`Samples::cipher`] is about, in a TCP stream with timestamps.
const PAYLOAD: f64 = 1368.0;
/// What is left among many other peers.
const AMONG_OTHERS: f64 = 0.95;
/// Two workers over one, for two peers and for one peer.
const SCALING: [(&str, &str, f64); 2] =
    [("2 workers over 1, two peers", "seal2", 1.6), ("2 workers over 1, one peer", "seal1", 1.0)];

fn gbps(sample: &Sample) -> Option<f64> {
    sample.gbps
}

fn kpps(sample: &Sample) -> Option<f64> {
    sample.kpps
}

fn p99(sample: &Sample) -> Option<f64> {
    sample.p99
}

fn p50(sample: &Sample) -> Option<f64> {
    sample.p50
}

/// A table of the bars whose figures this run has.
pub(super) fn report(samples: &Samples, others: u32) -> String {
    let mut rows = vec![["bar", "against", "wanted", "reached", ""].map(str::to_owned).to_vec()];
    rows.extend(of_bound(samples));
    rows.extend(BARS.iter().filter_map(|bar| bar.row(samples)));
    let one = samples.median(OURS, "tcp1", gbps);
    for (text, trial) in OWN {
        if let (Some(ours), Some(one)) = (samples.median(OURS, trial, gbps), one) {
            rows.push(row(text, "ourselves", "≥ 1.00", ours / one, ours >= one));
        }
    }
    if let Some(p99) = samples.median(OURS, "ping-under-flood", p99) {
        rows.push(row("ping p99 while another peer floods, ms", "", "≤ 5.00", p99, p99 <= FLOOD_P99));
    }
    rows.extend(among_others(samples, others));
    rows.extend(SCALING.iter().filter_map(|(text, trial, wanted)| {
        let [one, two] = scaling::WORKERS.map(|(name, _)| samples.median(name, trial, gbps));
        let ratio = two? / one?;
        Some(row(text, "ourselves", &format!("≥ {wanted:.2}"), ratio, ratio >= *wanted))
    }));
    if rows.len() == 1 { String::new() } else { align(&rows) }
}

/// Payload for each CPU second, of the most that any tunnel could have here: the bare wire's cost for an
/// octet, and the cipher's at both ends.
fn of_bound(samples: &Samples) -> Option<Vec<String>> {
    let of = |name| samples.median(name, "tcp1", |sample| sample.mb_per_cpu_all);
    let cipher = median(samples.cipher.clone())? * 1e-9 / (PAYLOAD / 1e6);
    let bound = 1.0 / (1.0 / of(VETH)? + cipher);
    let ratio = of(OURS)? / bound;
    let against = format!("bound, {bound:.0}");
    Some(row("MB per CPU second, TCP 1 stream", &against, "≥ 0.70", ratio, ratio >= OF_BOUND))
}

/// Every figure of ours among many others, against the same without them.
fn among_others(samples: &Samples, others: u32) -> Vec<Vec<String>> {
    let name = among(others);
    let ratio = |trial: &str| {
        // Of a time, less is more.
        let (figure, time): (fn(&Sample) -> Option<f64>, bool) = match trial {
            "ping" => (p50, true),
            "ping-under-flood" => (p99, true),
            _ if trial.starts_with("udp") || trial.starts_with("ndr") => (kpps, false),
            _ => (gbps, false),
        };
        let (alone, among) = (samples.median(OURS, trial, figure)?, samples.median(&name, trial, figure)?);
        Some(if time { alone / among } else { among / alone })
    };
    let rows = super::trial::ALL.iter().filter_map(|trial| {
        let (text, ratio) = (format!("{trial} with {others} other peers"), ratio(trial)?);
        Some(row(&text, "without", "≥ 0.95", ratio, ratio >= AMONG_OTHERS))
    });
    rows.collect()
}

impl Bar {
    fn row(&self, samples: &Samples) -> Option<Vec<String>> {
        let ours = samples.median(OURS, self.trial, self.figure)?;
        let (name, theirs) = self.rival(samples)?;
        let ratio = ours / theirs;
        let (wanted, passed) = match self.wanted {
            Wanted::AtLeast(bar) => (format!("≥ {bar:.2}"), ratio >= bar),
            Wanted::AtMost(bar) => (format!("≤ {bar:.2}"), ratio <= bar),
        };
        Some(row(self.text, &name, &wanted, ratio, passed))
    }

    fn rival(&self, samples: &Samples) -> Option<(String, f64)> {
        let foreign = |name: &&str| ![OURS, VETH].contains(name) && !name.starts_with("verona");
        let names: Vec<&str> = if self.against.is_empty() {
            samples.names().into_iter().filter(foreign).collect()
        } else {
            self.against.to_vec()
        };
        let figures = names.iter().filter_map(|name| {
            samples.median(name, self.trial, self.figure).map(|figure| ((*name).to_owned(), figure))
        });
        match self.wanted {
            Wanted::AtLeast(_) => figures.max_by(|a, b| a.1.total_cmp(&b.1)),
            Wanted::AtMost(_) => figures.min_by(|a, b| a.1.total_cmp(&b.1)),
        }
    }
}

fn row(text: &str, against: &str, wanted: &str, reached: f64, passed: bool) -> Vec<String> {
    let verdict = if passed { "passed" } else { "MISSED" };
    [text, against, wanted, &format!("{reached:.2}"), verdict].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_peer_is_the_rival_and_the_wire_is_none() {
        let sample = |name: &str, kpps| Sample {
            name: name.to_owned(),
            trial: "udp64".to_owned(),
            kpps: Some(kpps),
            ..Sample::default()
        };
        let peers = [sample("gotatun", 40.0), sample("boringtun", 50.0), sample(VETH, 900.0)];
        let report = |ours| {
            let all = [&[sample(OURS, ours)], &peers[..]].concat();
            report(&Samples { all, cipher: Vec::new() }, 0)
        };
        let good = report(101.0);
        assert!(good.contains("boringtun") && good.contains("2.02") && good.contains("passed"), "{good}");
        let bad = report(99.0);
        assert!(bad.contains("1.98") && bad.contains("MISSED"), "{bad}");
        assert_eq!(good.lines().count(), 3);
    }

    #[test]
    fn the_bound_is_the_wire_and_the_cipher() {
        let sample = |name: &str, all| Sample {
            name: name.to_owned(),
            trial: "tcp1".to_owned(),
            mb_per_cpu_all: Some(all),
            ..Sample::default()
        };
        // A microsecond a packet on the wire and one in the ciphers: half of the wire's rate is the bound.
        let all = vec![sample(OURS, 513.0), sample(VETH, PAYLOAD)];
        let report = report(&Samples { all, cipher: vec![1000.0] }, 0);
        assert!(
            report.contains("bound, 684") && report.contains("0.75") && report.contains("passed"),
            "{report}"
        );
    }

    #[test]
    fn what_others_cost_is_a_ratio_of_our_own() {
        let sample = |name: &str, trial: &str, kpps, p50| Sample {
            name: name.to_owned(),
            trial: trial.to_owned(),
            kpps,
            p50,
            ..Sample::default()
        };
        let all = vec![
            sample(OURS, "udp64", Some(100.0), None),
            sample("verona+9", "udp64", Some(94.0), None),
            sample(OURS, "ping", None, Some(0.2)),
            sample("verona+9", "ping", None, Some(0.1)),
        ];
        let report = report(&Samples { all, cipher: Vec::new() }, 9);
        let verdict = |text| report.lines().find(|line| line.contains(text)).unwrap();
        assert!(verdict("udp64 with 9").contains("0.94") && verdict("udp64 with 9").contains("MISSED"));
        assert!(verdict("ping with 9").contains("2.00") && verdict("ping with 9").contains("passed"));
    }
}
