//! `verona-image`: checks the files of the box's root file system, and builds its images of them.

mod build;
mod device_table;
mod inittab;
mod overlay;

use build::recipe::Edition;
use clap::{Args, Parser, Subcommand};
use std::error::Error as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

#[derive(Parser)]
#[command(version, about = "Builds and checks the firmware images of Verona Edge")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks an overlay: `rootfs/` against `permissions.txt`, and the inittab.
    CheckOverlay {
        /// The folder that holds both.
        folder: PathBuf,
    },
    /// Builds an image from Debian packages, our programs and the overlay.
    Build(BuildArguments),
}

#[derive(Args)]
struct BuildArguments {
    /// For virtual machines, or for boxes.
    #[arg(long, value_enum, default_value = "cloud")]
    edition: Edition,
    /// Packages and intermediate files; may be deleted at any time.
    #[arg(long, default_value = "target/image/cache")]
    cache: PathBuf,
    /// Where the artefacts go.
    #[arg(long, default_value = "target/image")]
    output: PathBuf,
    /// The folder with `rootfs/` and `permissions.txt`.
    #[arg(long, default_value = "buildroot-overlay")]
    overlay: PathBuf,
    /// A folder with our static programs; without it they are compiled from the checkout in the current folder.
    #[arg(long)]
    programs: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::CheckOverlay { folder } => check_overlay(&folder),
        Command::Build(arguments) => build(arguments),
    }
}

fn check_overlay(folder: &std::path::Path) -> ExitCode {
    match overlay::check(folder) {
        Ok(report) => {
            let (files, entries) = (report.files, report.entries);
            println!("{}: {files} files, {entries} table entries, in order", folder.display());
            ExitCode::SUCCESS
        }
        Err(findings) => {
            for finding in findings {
                eprintln!("{finding}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build(arguments: BuildArguments) -> ExitCode {
    let BuildArguments { edition, cache, output, overlay, programs } = arguments;
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let plan = build::Plan {
        edition,
        cache: absolute(cache),
        output: absolute(output),
        overlay: absolute(overlay),
        programs: programs.map(absolute),
    };
    let start = Instant::now();
    let mut step = |name: &str| eprintln!("{:6.1} s  {name}", start.elapsed().as_secs_f32());
    match build::run(&plan, &mut step) {
        Ok(artefacts) => {
            step("done");
            for (what, path) in
                [("disk", artefacts.disk), ("root", artefacts.root), ("kernel image", artefacts.kernel)]
            {
                println!("{what}: {}", path.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            let mut line = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                line = format!("{line}: {cause}");
                source = cause.source();
            }
            eprintln!("verona-image: {line}");
            ExitCode::FAILURE
        }
    }
}
