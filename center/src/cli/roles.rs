//! The subcommands that are the center: `init`, `sign`, `serve`, `openapi`.

use super::{Init, Serve, Sign};
use crate::serve::Listen;
use crate::signer::service::{Lives, Service};
use crate::signer::{socket, state::State};
use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Uid;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

pub(super) fn init(command: &Init) -> anyhow::Result<ExitCode> {
    let made = runtime(1)?.block_on(crate::init::init(&command.data, &command.url))?;
    if command.json {
        println!("{}", serde_json::to_string_pretty(&made)?);
    } else {
        println!("center CA pin  {}", made.pin);
        println!("config key     {}", String::from(made.config_key));
        println!("operator       {}", made.identity.display());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sign(command: &Sign) -> anyhow::Result<ExitCode> {
    tracing_to_stderr();
    let lives = Lives {
        client_s: command.client_life,
        edge_s: command.edge_life,
        server_s: command.server_life,
        crl_s: command.crl_life,
    };
    let service = Service::new(State::open(&command.data)?, lives);
    let listener = socket::bind(&command.socket, !command.allow_uid.is_empty())?;
    println!("signing on {}", command.socket.display());
    let allowed: Vec<Uid> = command.allow_uid.iter().map(|uid| Uid::from_raw(*uid)).collect();
    // Until a signal ends the process: each answer is on disk before it is given, so nothing is lost.
    socket::serve(&listener, service, &allowed);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn serve(command: &Serve) -> anyhow::Result<ExitCode> {
    tracing_to_stderr();
    raise_open_files();
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2);
    let listen = Listen { https: command.listen, stun: command.stun, nothing: command.nothing };
    runtime(threads)?.block_on(crate::serve::serve(&command.data, listen, &command.signer))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn openapi() -> anyhow::Result<ExitCode> {
    let text = crate::http::document().to_pretty_json()?;
    writeln!(std::io::stdout(), "{text}").context("standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// An async runtime with `threads` workers.
pub(super) fn runtime(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("cannot start the async runtime")
}

/// Lifts the soft limit of open files to the hard one: the usual 1024 would end before the connections do.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "limit of open files cannot be raised"),
    }
}

fn tracing_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
}
