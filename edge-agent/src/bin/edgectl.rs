//! The box's local tool. Exit status: 0 done, 1 refused or no agent (one line on standard error), 2 usage.

use clap::Parser as _;
use edge_agent::center::chain;
use edge_agent::edgectl::Edgectl;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Edgectl::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edgectl: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
