//! `cargo lab chaos`: how long, from which seed, and what came of it.

use lab::chaos::{Play, play};
use lab::{Run, machine, workspace};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

/// What `cargo lab chaos` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long to go on.
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// Repeats a schedule; left out, one is drawn and told.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Refuse, with a list, if Debian packages are missing.
    #[arg(long)]
    no_install: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    machine::require_privileges()?;
    machine::ensure_packages(!arguments.no_install)?;
    workspace::build()?;
    let drawn = || UNIX_EPOCH.elapsed().map_or(1, |time| u64::from(time.subsec_nanos()));
    let seed = arguments.seed.unwrap_or_else(drawn);
    println!("seed {seed}");
    let length = Duration::from_secs(arguments.minutes * 60);
    let run = Run::start()?;
    match play(&run, Play { seed, length }, |line| println!("{line}")) {
        Ok(outcome) => {
            println!(
                "\nall held: {} episodes, {} faults, {} records; everyone was back within {:.1} s",
                outcome.episodes,
                outcome.faults,
                outcome.records,
                outcome.slowest.as_secs_f64()
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("\n{error}");
            // Its logs stay to be read.
            run.keep()?;
            eprintln!("logs are in {}; `cargo lab clean` removes them", run.dir().display());
            Ok(ExitCode::FAILURE)
        }
    }
}
