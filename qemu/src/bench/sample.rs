//! One measurement, the medians of many, and their table.

use serde::Serialize;
use std::fmt::Write;

/// What one measurement gave; a figure that a trial does not have is none.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) trial: String,
    /// Payload received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gbps: Option<f64>,
    /// Thousand datagrams received a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kpps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sent_kpps: Option<f64>,
    /// Per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retransmits: Option<f64>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) p99: Option<f64>,
    /// CPU seconds of the two daemons.
    pub(super) cpu_sender: f64,
    pub(super) cpu_receiver: f64,
    /// Megabytes for each CPU second of the daemons, and of everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mb_per_cpu: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mb_per_cpu_all: Option<f64>,
    /// Per cent of the machine: busy in all, and by others.
    pub(super) busy: f64,
    pub(super) disturbance: f64,
    #[serde(skip)]
    pub(super) octets_per_second: Option<f64>,
}

impl Sample {
    /// One line for who watches.
    pub(super) fn line(&self) -> String {
        let mut line = format!("  {:<14} {:<10}", self.name, self.trial);
        let mut add = |value: Option<f64>, precision: usize, unit: &str| {
            if let Some(value) = value {
                let _ = write!(line, "  {value:.precision$} {unit}");
            }
        };
        add(self.gbps, 3, "Gbit/s");
        add(self.kpps, 1, "kpps");
        add(self.loss, 1, "% lost");
        add(self.p50, 3, "ms p50");
        add(self.p99, 3, "ms p99");
        add(self.mb_per_cpu_all, 0, "MB/CPU-s");
        line + &format!("  [others {:.0} %]", self.disturbance)
    }
}

/// All measurements of a run.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) all: Vec<Sample>,
    /// What sealing and opening one packet of 1420 octets cost the protocol engine, nanoseconds.
    pub(super) cipher: Vec<f64>,
}

impl Samples {
    fn of<'a>(&'a self, name: &'a str, trial: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.all.iter().filter(move |sample| sample.name == name && sample.trial == trial)
    }

    /// The median over the repeats.
    pub(super) fn median(
        &self,
        name: &str,
        trial: &str,
        figure: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<f64> {
        median(self.of(name, trial).filter_map(figure).collect())
    }

    /// The names in the order of their first measurement.
    pub(super) fn names(&self) -> Vec<&str> {
        distinct(self.all.iter().map(|sample| sample.name.as_str()))
    }

    fn range(&self, name: &str, trial: &str) -> String {
        let values = || self.of(name, trial).filter_map(|sample| sample.gbps);
        if values().count() < 2 {
            return String::new();
        }
        format!("{:.2}-{:.2}", values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
    }

    /// The table of medians, as Markdown that also reads well as it is.
    pub(super) fn table(&self) -> String {
        let trials = distinct(self.all.iter().map(|sample| sample.trial.as_str()));
        let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
        for trial in trials {
            for name in self.names() {
                if self.of(name, trial).next().is_some() {
                    rows.push(self.row(name, trial));
                }
            }
        }
        align(&rows)
    }

    fn row(&self, name: &str, trial: &str) -> Vec<String> {
        let cell = |precision: usize, figure: &dyn Fn(&Sample) -> Option<f64>| {
            self.median(name, trial, figure).map_or_else(|| "-".to_owned(), |v| format!("{v:.precision$}"))
        };
        vec![
            trial.to_owned(),
            name.to_owned(),
            cell(2, &|s| s.gbps),
            self.range(name, trial),
            cell(1, &|s| s.kpps),
            cell(1, &|s| s.loss),
            cell(2, &|s| Some(s.cpu_sender)),
            cell(2, &|s| Some(s.cpu_receiver)),
            cell(0, &|s| s.mb_per_cpu),
            cell(0, &|s| s.mb_per_cpu_all),
            cell(0, &|s| s.retransmits),
            cell(3, &|s| s.p50),
            cell(3, &|s| s.p99),
            cell(0, &|s| Some(s.busy)),
            cell(0, &|s| Some(s.disturbance)),
        ]
    }
}

/// The middle one, or what is between the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

const HEADINGS: [&str; 15] = [
    "test",
    "name",
    "Gbit/s",
    "(min-max)",
    "kpps",
    "loss %",
    "CPU-s tx",
    "CPU-s rx",
    "MB/CPU-s tunnel",
    "MB/CPU-s all",
    "retr",
    "p50 ms",
    "p99 ms",
    "busy %",
    "others %",
];

fn distinct<'a>(values: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// Rows of cells as a Markdown table, the first row its head; figures to the right.
pub(super) fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0).max(3)).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if column < 2 {
                write!(text, "| {cell:<width$} ")
            } else {
                write!(text, "| {cell:>width$} ")
            };
        }
        text.push_str("|\n");
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(width + 1);
                let _ = if column < 2 { write!(text, "|{dashes}-") } else { write!(text, "|{dashes}:") };
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        let sample = |gbps: &f64| Sample {
            name: "a".to_owned(),
            trial: "tcp1".to_owned(),
            gbps: Some(*gbps),
            ..Sample::default()
        };
        Samples { all: values.iter().map(sample).collect(), cipher: Vec::new() }
    }

    #[test]
    fn the_median_is_the_middle_or_between_two() {
        let median = |values: &[f64]| samples(values).median("a", "tcp1", |s| s.gbps);
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert_eq!(samples(&[1.0]).median("a", "tcp1", |s| s.kpps), None);
    }

    #[test]
    fn a_table_has_a_row_for_each_measured_pair() {
        let table = samples(&[1.0, 3.0]).table();
        assert_eq!(table.lines().count(), 3);
        assert!(
            table.contains("| tcp1 | a ") && table.contains("2.00") && table.contains("1.00-3.00"),
            "{table}"
        );
    }
}
