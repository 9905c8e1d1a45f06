//! `cargo lab demo`: the whole path once, with real processes, each step measured and asserted.
//!
//! The story is in [`story`], what is told of it in [`account`]. A step that does not hold ends the demo
//! with the reason, the ends of all logs and a failing exit status.

mod account;
mod gateway;
mod story;

use account::Account;
use lab::{Run, firmware, machine, workspace};
use std::process::ExitCode;

/// What `cargo lab demo` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print the figures as one JSON document instead of the table.
    #[arg(long)]
    json: bool,
    /// Leave everything running, and print commands to try. `cargo lab clean` ends it.
    #[arg(long)]
    keep: bool,
    /// Play it with the edge as a box: the firmware image, booted in QEMU. Builds the image on the way.
    #[arg(long)]
    qemu: bool,
    /// Refuse, with a list, if Debian packages are missing.
    #[arg(long)]
    no_install: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    machine::require_privileges()?;
    machine::ensure_packages(!arguments.no_install)?;
    workspace::build()?;
    let image = arguments.qemu.then(firmware::build).transpose()?;

    let run = Run::start()?;
    if arguments.keep {
        run.keep()?;
    }
    let mut account = Account::new(arguments.json);
    let outcome = story::play(&run, image.as_ref(), &mut account);
    account.close(&outcome);
    match outcome {
        Ok(scene) => {
            if arguments.keep {
                eprintln!("{}", scene.commands_to_try());
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("\nthe demo failed: {error:#}");
            print_logs(&run);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The last lines of every log: the run's directory goes with it.
fn print_logs(run: &Run) {
    let Ok(entries) = std::fs::read_dir(run.dir()) else { return };
    for path in
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension() == Some("log".as_ref()))
    {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("\n-- the end of {}", path.display());
        for line in &lines[lines.len().saturating_sub(15)..] {
            eprintln!("{line}");
        }
    }
}
