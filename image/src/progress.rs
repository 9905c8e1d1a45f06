//! What a person sees of long work: a line a step, or a bar that fills, on standard error. Nothing of it reaches
//! standard output, which is for results.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// A bar is redrawn at most this often.
const REDRAW: Duration = Duration::from_millis(100);
/// Characters of a full bar.
const WIDTH: u64 = 30;

/// Tells the steps of a work as they begin.
pub(crate) struct Steps {
    start: Instant,
}

impl Steps {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// A step begins.
    pub(crate) fn next(&self, name: &str) {
        eprintln!("{:6.1} s  {name}", self.seconds());
    }

    /// Seconds since the beginning.
    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// A bar for octets that are copied; on no terminal it only tells the beginning and the end.
pub(crate) struct Bar {
    name: &'static str,
    total: u64,
    done: u64,
    start: Instant,
    drawn: Option<Instant>,
    terminal: bool,
}

impl Bar {
    pub(crate) fn new(name: &'static str, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        if !terminal {
            eprintln!("{name}: {} MiB", total >> 20);
        }
        Self { name, total, done: 0, start: Instant::now(), drawn: None, terminal }
    }

    /// More octets are done.
    pub(crate) fn advance(&mut self, octets: u64) {
        self.done += octets;
        if self.terminal && self.drawn.is_none_or(|drawn| drawn.elapsed() >= REDRAW) {
            self.draw();
        }
    }

    /// All is done.
    pub(crate) fn finish(mut self) {
        let seconds = self.start.elapsed().as_secs_f64();
        if self.terminal {
            self.draw();
            eprintln!();
        } else {
            eprintln!("{}: done in {seconds:.1} s", self.name);
        }
    }

    fn draw(&mut self) {
        self.drawn = Some(Instant::now());
        let filled = (self.done * WIDTH).checked_div(self.total).unwrap_or(WIDTH).min(WIDTH) as usize;
        let bar = format!("{}{}", "#".repeat(filled), ".".repeat(WIDTH as usize - filled));
        let rate = self.done as f64 / self.start.elapsed().as_secs_f64().max(0.001) / f64::from(1 << 20);
        eprint!(
            "\r{:<9} [{bar}] {:>5}/{} MiB, {rate:.0} MiB/s ",
            self.name,
            self.done >> 20,
            self.total >> 20
        );
        // What cannot be shown is no reason to stop.
        let _ = std::io::stderr().flush();
    }
}
