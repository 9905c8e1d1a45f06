//! `cargo lab powercut`: the replay of power cuts with more states, of any seed, and real ones of a booted box.

use anyhow::Context as _;
use lab::{firmware, machine, workspace};
use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

/// What `cargo lab powercut` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many disks that a cut could have left are looked at, for updates and for stored files each.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..))]
    states: u64,
    /// How often a booted box loses its power for real, at any moment of an update, after that.
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// Makes the same states and moments again; by default others each time.
    #[arg(long)]
    seed: Option<u64>,
    /// Refuse, with a list, if Debian packages are missing.
    #[arg(long)]
    no_install: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    machine::require_privileges().context("cannot mount what is replayed")?;
    machine::ensure_packages(!arguments.no_install)?;
    workspace::build()?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let seed = arguments.seed.unwrap_or_else(|| u64::from(clock));
    eprintln!("lab: {} states of seed {seed} each; --seed {seed} makes them again", arguments.states);
    let mut tests = vec![("powercut", "")];
    if arguments.kills > 0 {
        firmware::build()?;
        tests.push(("updates", "a_box_survives_power_cuts_at_any_moment"));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    for (program, test) in tests {
        let status = Command::new(&cargo)
            .args([
                "test",
                "--locked",
                "--workspace",
                "--test",
                program,
                "--",
                "--nocapture",
                "--include-ignored",
                test,
            ])
            .current_dir(workspace::root())
            .env("VERONA_POWERCUT_STATES", arguments.states.to_string())
            .env("VERONA_POWERCUT_KILLS", arguments.kills.to_string())
            .env("VERONA_POWERCUT_SEED", seed.to_string())
            .status()
            .context("cargo test")?;
        if !status.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
