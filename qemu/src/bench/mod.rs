//! `cargo lab bench`: our data plane against the others, in one run on this machine.
//!
//! Each repeat measures every implementation in turn, so that the machine's moods hit all alike, and the
//! table has medians. A measurement that other processes disturbed is repeated. Only ratios within one run
//! mean anything: both ends, the traffic's programs and the kernel share the same processors.

mod bars;
mod bed;
mod floods;
mod implementation;
mod load;
mod meter;
mod profile;
mod sample;
mod scaling;
mod traffic;
mod trial;

use anyhow::Context;
use bed::{Bed, RECEIVER, Wanted};
use implementation::{Custom, Implementation, OURS};
use lab::{Run, machine};
use sample::{Sample, Samples};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use trial::{Place, Trial};

/// What `cargo lab bench` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Whom to measure beside our own: wireguard-go, boringtun, boringtun-t1, gotatun, veth (the bare wire).
    #[arg(long, value_delimiter = ',', default_value = "wireguard-go,boringtun,gotatun,veth")]
    peers: Vec<String>,
    /// One more, as NAME=PROGRAM OPTION…; the interface's name is appended. May be repeated.
    #[arg(long, value_name = "NAME=COMMAND")]
    also: Vec<Custom>,
    /// What to measure: ping, tcpN (streams), bidir, udpN and ndrN (octets), ping-under-flood, lineN (streams over a bad line).
    #[arg(long = "tests", value_delimiter = ',', num_args = 0.., default_values = trial::ALL)]
    trials: Vec<Trial>,
    /// Measure ours once more among so many other certified peers with live sessions; 0 = do not.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=50_000))]
    others: u32,
    /// Measure one worker against two as well.
    #[arg(long)]
    scaling: bool,
    /// Measure floods against a certified edge as well, of all kinds or of these. `--tests --floods` measures nothing else.
    #[arg(long, value_name = "KIND", value_delimiter = ',', num_args = 0.., value_parser = floods::KINDS)]
    floods: Option<Vec<String>>,
    /// Record our own trials by perf into this folder, and list where the time went.
    #[arg(long, value_name = "FOLDER")]
    perf: Option<PathBuf>,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Wait up to so many seconds before each measurement until the machine is quiet; 0 = do not wait.
    #[arg(long, default_value_t = 120)]
    quiet: u64,
    /// Repeat a measurement, three times at most, while others took more than so many per cent of the machine.
    #[arg(long, default_value_t = 6.0)]
    disturbance: f64,
    /// Write every measurement to this file, one JSON object a line.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Refuse, with a list, if Debian packages are missing.
    #[arg(long)]
    no_install: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    machine::require_privileges().context("cannot measure")?;
    machine::ensure_packages(!arguments.no_install)?;
    machine::ensure_bench_packages(!arguments.no_install)?;
    let ours = implementation::ours()?;
    let implementations = implementation::gather(&ours, arguments.others, &arguments.peers, &arguments.also)?;
    let run = Run::start()?;
    let bed = Bed::build(&run)?;
    let mut samples = Samples::default();
    for repeat in 1..=arguments.repeats {
        println!("repeat {repeat} of {}", arguments.repeats);
        samples.cipher.push(load::cipher(&bed.sender)?);
        for implementation in &implementations {
            if let Err(error) = measure(arguments, &bed, implementation, &mut samples) {
                println!("  {:<14} FAILED: {error:#}", implementation.name);
            }
        }
        if arguments.scaling {
            let measured = scaling::measure(&bed, &ours, arguments.seconds)?;
            measured.iter().for_each(|sample| println!("{}", sample.line()));
            samples.all.extend(measured);
        }
    }
    if !samples.all.is_empty() {
        println!("\nmedians of {}, {} s each\n\n{}", arguments.repeats, arguments.seconds, samples.table());
        println!("{}", bars::report(&samples, arguments.others));
    }
    let mut effects = Vec::new();
    if let Some(kinds) = &arguments.floods {
        effects = floods::measure(&bed, &ours, kinds, arguments.seconds, arguments.perf.as_deref())?;
        println!("\n{}", floods::table(&effects));
    }
    if let Some(path) = &arguments.json {
        let lines = samples.all.iter().map(serde_json::to_string);
        let lines: Result<Vec<_>, _> = lines.chain(effects.iter().map(serde_json::to_string)).collect();
        std::fs::write(path, lines?.join("\n") + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One implementation, all trials. What was measured before a failure stays.
fn measure(
    arguments: &Arguments,
    bed: &Bed,
    implementation: &Implementation,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    for bad_line in [false, true] {
        let trials: Vec<Trial> =
            arguments.trials.iter().copied().filter(|trial| trial.wants_line() == bad_line).collect();
        // The bare wire has no datagrams to delay, and over a bad line the line decides, not the others.
        let no_line = implementation.program.is_none() || implementation.others.is_some();
        if trials.is_empty() || (bad_line && no_line) {
            continue;
        }
        let wanted = Wanted { bad_line, others: implementation.others };
        let tunnel =
            implementation.program.as_ref().map(|program| bed.tunnel(program, wanted)).transpose()?;
        let (target, onlooker_target) =
            if tunnel.is_some() { trial::INSIDE } else { (RECEIVER, "198.51.100.2") };
        let seconds = arguments.seconds;
        let place = Place { bed, tunnel: tunnel.as_ref(), target, onlooker_target, seconds };
        for trial in trials {
            let mut sample = least_disturbed(arguments, &place, trial)?;
            sample.name.clone_from(&implementation.name);
            sample.trial = trial.to_string();
            println!("{}", sample.line());
            samples.all.push(sample);
            if let Some(folder) = arguments.perf.as_deref().filter(|_| implementation.name == OURS) {
                let recording = profile::Recording::start(folder, &trial.to_string())?;
                place.run(trial)?;
                println!("{}\n", recording.listing()?);
            }
        }
    }
    Ok(())
}

fn least_disturbed(arguments: &Arguments, place: &Place<'_>, trial: Trial) -> lab::Result<Sample> {
    let once = || {
        meter::wait_until_quiet(Duration::from_secs(arguments.quiet))?;
        place.run(trial)
    };
    let mut best = once()?;
    for _ in 0..3 {
        if best.disturbance <= arguments.disturbance {
            break;
        }
        let again = once()?;
        if again.disturbance < best.disturbance {
            best = again;
        }
    }
    Ok(best)
}
