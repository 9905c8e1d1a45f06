//! `verona-center`: the cloud center of Verona Edge, one binary with its roles as subcommands.
//!
//! `init` makes a center, `sign` runs the process with the keys, `serve` the HTTP API, `openapi` prints the
//! API's description. The other subcommands administer a running center over that API.

mod center;
mod challenges;
mod cli;
mod clock;
mod composer;
mod db;
mod enrolment;
mod entropy;
mod firmware;
mod heartbeats;
mod http;
mod identity;
mod init;
mod lists;
mod logs;
mod news;
mod nothing;
mod passwords;
mod private_file;
mod revocation;
mod seen;
mod serve;
mod signer;
mod sqlite;
mod stun;
mod throttle;

use clap::Parser as _;
use nix::sys::stat::{Mode, umask};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Databases, their journals and sockets: whatever this process makes is its user's alone.
    umask(Mode::from_bits_truncate(0o077));
    let arguments = cli::Arguments::parse();
    match cli::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("verona-center: {error:#}");
            ExitCode::FAILURE
        }
    }
}
