//! `cargo lab`: the demo, the tests, the measurements, a box to work with, and the removal of what was kept or left behind.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod bench;
#[path = "chaos/command.rs"]
mod chaos;
mod cut;
mod demo;
mod figures;
mod hand;
mod suite;

/// Network-namespace lab of Verona Edge.
#[derive(Parser)]
#[command(name = "cargo lab", bin_name = "cargo lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the whole path once: center, edge and clients as real processes, each step measured.
    Demo(demo::Arguments),
    /// Run every test: unit, property, simulation, documentation, and the processes in namespaces.
    Test(suite::Arguments),
    /// Measure the data plane against other userspace WireGuard implementations.
    Bench(bench::Arguments),
    /// Let random faults loose on the product at work, and check what must hold all the same.
    Chaos(chaos::Arguments),
    /// Replay power cuts during updates and writes of the agent's stores, many more than the tests do.
    Powercut(cut::Arguments),
    /// Measure the firmware: boot times, memory with ten clients, size, time to build.
    Figures(figures::Arguments),
    /// Bring up a center and a booted box, and leave them running to work with.
    Up(hand::Up),
    /// Join the terminal to the serial console of the box that is up.
    Console {
        /// Which run, if there is more than one.
        #[arg(long)]
        run: Option<String>,
    },
    /// List the runs that were left running, with their processes.
    Ps,
    /// Take down what was left running.
    Down {
        /// Only this run.
        #[arg(long)]
        run: Option<String>,
    },
    /// Remove what a demo kept or a killed run left: processes, namespaces, files.
    Clean,
    /// The web server in the edge's LAN, a process of the demo and the tests.
    #[command(hide = true)]
    Serve {
        /// Where to listen.
        address: std::net::SocketAddr,
    },
    /// A cloud's metadata service, a process of the tests.
    #[command(hide = true)]
    Metadata {
        /// Where to listen.
        address: std::net::SocketAddr,
        /// The user data.
        file: std::path::PathBuf,
    },
    /// A bad line between two ends, a process of the benchmark.
    #[command(hide = true)]
    Relay {
        /// Where the near end sends to.
        listen: std::net::SocketAddr,
        /// The far end.
        to: std::net::SocketAddr,
        /// Mean delay, microseconds.
        delay: u64,
        /// Deviation, microseconds.
        jitter: u64,
        /// Datagrams lost of a thousand.
        loss: f64,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => suite::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Chaos(arguments) => chaos::run(&arguments),
        Command::Powercut(arguments) => cut::run(&arguments),
        Command::Figures(arguments) => figures::run(&arguments),
        Command::Up(arguments) => hand::up(&arguments),
        Command::Console { run } => hand::console(run.as_deref()),
        Command::Ps => hand::ps(),
        Command::Down { run } => hand::down(run.as_deref()),
        Command::Clean => clean().map_err(Into::into),
        Command::Serve { address } => {
            lab::web::serve(address).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::Metadata { address, file } => {
            lab::metadata::serve(address, &file).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
        Command::Relay { listen, to, delay, jitter, loss } => {
            let [delay, jitter] = [delay, jitter].map(std::time::Duration::from_micros);
            let line = lab::relay::Line { delay, jitter, loss_per_mille: loss };
            lab::relay::serve(listen, to, line).map(|()| ExitCode::SUCCESS).map_err(Into::into)
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn clean() -> lab::Result<ExitCode> {
    let removed = lab::clean()?;
    match removed.as_slice() {
        [] => println!("nothing to clean"),
        ids => println!("removed {}", ids.join(" ")),
    }
    Ok(ExitCode::SUCCESS)
}
