//! What the data plane has to reach, as ratios within one run, and whether it did.

use super::implementation::{OURS, VETH};
use super::sample::{Sample, Samples, align};

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

fn gbps(sample: &Sample) -> Option<f64> {
    sample.gbps
}

fn kpps(sample: &Sample) -> Option<f64> {
    sample.kpps
}

fn p50(sample: &Sample) -> Option<f64> {
    sample.p50
}

/// A table of the bars whose figures this run has.
pub(super) fn report(samples: &Samples) -> String {
    let mut rows = vec![["bar", "against", "wanted", "reached", ""].map(str::to_owned).to_vec()];
    rows.extend(BARS.iter().filter_map(|bar| bar.row(samples)));
    let one = samples.median(OURS, "tcp1", gbps);
    for (text, trial) in OWN {
        if let (Some(ours), Some(one)) = (samples.median(OURS, trial, gbps), one) {
            rows.push(row(text, "ourselves", "≥ 1.00", ours / one, ours >= one));
        }
    }
    if let Some(p99) = samples.median(OURS, "ping-under-flood", |sample| sample.p99) {
        rows.push(row("ping p99 while another peer floods, ms", "", "≤ 5.00", p99, p99 <= FLOOD_P99));
    }
    if rows.len() == 1 { String::new() } else { align(&rows) }
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
        let report = |ours| report(&Samples([&[sample(OURS, ours)], &peers[..]].concat()));
        let good = report(101.0);
        assert!(good.contains("boringtun") && good.contains("2.02") && good.contains("passed"), "{good}");
        let bad = report(99.0);
        assert!(bad.contains("1.98") && bad.contains("MISSED"), "{bad}");
        assert_eq!(good.lines().count(), 3);
    }
}
