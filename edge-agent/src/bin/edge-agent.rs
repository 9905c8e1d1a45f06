//! The agent's process: one at a time for a state directory, ends with SIGTERM or SIGINT.

use anyhow::Context as _;
use confinement::Account;
use edge_agent::agent::Agent;
use edge_agent::settings::Settings;
use edge_agent::store;
use edge_agent::{dialler, local, machine, metrics as prometheus, watchdog};
use nix::fcntl::{Flock, FlockArg};
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use verona_contract::provisioning::FactoryRecord;

/// A factory record is about a kilobyte.
const MAX_RECORD: usize = 256 * 1024;

fn main() -> ExitCode {
    // A DHCP client of the agent calls: that needs none of the rest.
    if let Some(code) = edge_agent::network::dhcp::report() {
        return code;
    }
    // The part that stays root.
    if let Some(code) = dialler::serve() {
        return code;
    }
    let settings = Settings::from_command_line();
    let filter = EnvFilter::try_from_env("VERONA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).init();
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> anyhow::Result<()> {
    let record = record(&settings.record).inspect_err(|_| {
        // A box that waits for its record is started again and again, and has no other reason to restart.
        watchdog::feed_once(settings.watchdog.as_deref(), settings.watchdog_limit());
    })?;
    store::make_directory(&settings.state)?;
    let _lock = lock(&settings.state)?;
    if let Some(source) = &settings.machine {
        machine::check(&settings.state, source)?;
    }
    // Before any thread: see `bind`.
    let listener = local::bind(&settings.socket)?;
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let dialler =
        dialler::start(&program, settings.user.is_some()).context("cannot start what dials PPPoE")?;
    confine(&settings, &program)?;
    let agent = Agent::new(settings, record, dialler)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            ended = agent.clone().run() => ended.map_err(Into::into),
            ended = local::serve(listener, agent.clone()) => ended.context("agent socket"),
            ended = metrics(&agent) => ended.context("metrics"),
            () = agent.ended() => Ok(()),
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    });
    // Everything that was acknowledged is on the disk; what still runs has nothing to lose.
    runtime.shutdown_background();
    outcome
}

fn record(path: &Path) -> anyhow::Result<FactoryRecord> {
    let record =
        store::read(path, MAX_RECORD)?.with_context(|| format!("no factory record {}", path.display()))?;
    FactoryRecord::parse(&record).with_context(|| path.display().to_string())
}

/// Gives up every right that the agent does not need, if it is to be another user. Also before any thread.
fn confine(settings: &Settings, program: &Path) -> anyhow::Result<()> {
    let Some(name) = &settings.user else { return Ok(()) };
    let account = Account::named(name).context("--user")?;
    for path in [&settings.state, &settings.state.join("lock"), &settings.socket] {
        std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid))
            .with_context(|| format!("cannot give {} away", path.display()))?;
    }
    let confined = edge_agent::confined::confine(settings, program, account).context("giving up rights")?;
    tracing::info!("confined: {confined}");
    Ok(())
}

/// Serves the metrics, if they are wanted.
async fn metrics(agent: &Arc<Agent>) -> std::io::Result<()> {
    match agent.metrics() {
        Some(address) => prometheus::serve(address, agent.clone()).await,
        None => std::future::pending().await,
    }
}

/// Two agents on one state directory would break the log chain.
fn lock(state: &Path) -> anyhow::Result<Flock<std::fs::File>> {
    let path = state.join("lock");
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("another edge-agent uses {}", state.display()))
}
