//! `verona-image`: checks the files of the box's root file system before anything is built of them.

mod device_table;
mod inittab;
mod overlay;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(version, about = "Checks the root file system overlay of Verona Edge")]
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
}

fn main() -> ExitCode {
    let Command::CheckOverlay { folder } = Arguments::parse().command;
    match overlay::check(&folder) {
        Ok(report) => {
            println!(
                "{}: {} files, {} table entries, in order",
                folder.display(),
                report.files,
                report.entries
            );
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
