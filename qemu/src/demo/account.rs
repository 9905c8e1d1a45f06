//! What is told of the demo: one line a step as it happens, or one JSON document at the end.

use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Collects steps and tells them.
pub(crate) struct Account {
    json: bool,
    steps: Vec<Value>,
    start: Instant,
}

/// A step that held.
pub(crate) struct Done<T> {
    /// What happened.
    pub what: String,
    /// Figures for a reader.
    pub note: String,
    /// Figures for a program.
    pub figures: Value,
    /// What later steps need of it.
    pub value: T,
}

impl Account {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, steps: Vec::new(), start: Instant::now() }
    }

    /// Plays one step, measures it and tells it.
    pub(crate) fn step<T>(&mut self, work: impl FnOnce() -> anyhow::Result<Done<T>>) -> anyhow::Result<T> {
        let start = Instant::now();
        let done = work()?;
        let took = start.elapsed();
        let number = self.steps.len() + 1;
        if !self.json {
            println!("{number:>2}  {:<49}{:>7}   {}", done.what, seconds(took), done.note);
        }
        self.steps.push(json!({
            "step": number,
            "what": done.what,
            "ms": milliseconds(took),
            "note": done.note,
            "figures": done.figures,
        }));
        Ok(done.value)
    }

    /// Tells how it ended.
    pub(crate) fn close<T>(&self, outcome: &anyhow::Result<T>) {
        let took = self.start.elapsed();
        if self.json {
            let mut document = json!({
                "ok": outcome.is_ok(),
                "ms": milliseconds(took),
                "steps": self.steps,
            });
            if let Err(error) = outcome {
                document["error"] = json!(format!("{error:#}"));
            }
            println!("{document:#}");
        } else if outcome.is_ok() {
            println!("\nall {} steps held, {}", self.steps.len(), seconds(took));
        }
    }
}

/// Such as `1.2 s`.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Whole milliseconds.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
