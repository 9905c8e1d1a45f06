//! `verona-client`: enrols at the center, brings the tunnel up and keeps it up.
//!
//! Here are the commands and what they print. Exit status: 0 done, 1 refused or failed with one line on
//! standard error, 2 wrong usage.

#![forbid(unsafe_code)]

mod account;
mod backoff;
mod binder;
mod center;
mod dns;
mod edges;
mod endpoints;
mod enrol;
mod export;
mod identity;
mod imported;
mod link;
mod local;
mod member;
mod network;
mod pin;
mod pkcs11;
mod routing;
mod session;
mod state;
mod status;
#[cfg(test)]
mod test_pki;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use edge_tunnel::InterfaceName;
use edge_tunnel::daemon::{Role, detach};
use identity::{Identity, IdentityError, Keys, load_profile};
use imported::Imported;
use local::{LocalError, Lock};
use member::Member;
use session::{Plan, Session};
use state::StateDir;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};
use verona_contract::api::ClientProfile;
use verona_contract::enrolment::EnrolmentCode;
use zeroize::Zeroizing;

/// The Verona VPN client.
#[derive(Debug, Parser)]
#[command(name = "verona-client", version)]
struct Cli {
    /// Where keys, certificates and profile are kept.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/verona-client")]
    state: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enrol with the one-time code that the administrator gave out.
    Enroll {
        /// The code, VC1-…
        #[arg(value_name = "CODE")]
        code: Zeroizing<String>,
    },
    /// Print our WireGuard public key; it is made when there is none. For the profile that `import` takes.
    PublicKey,
    /// Use a certificate of the owner's own PKI, without a center: its P-256 or Ed25519 key vouches for our
    /// WireGuard key, anew each half day.
    Import {
        /// The client certificate in PEM; a CA that edges may not know may follow it.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// Its private key in a file, PKCS#8 PEM. It is copied.
        #[arg(long, value_name = "FILE", required_unless_present = "pkcs11", conflicts_with = "pkcs11")]
        key: Option<PathBuf>,
        /// Its private key behind PKCS#11 (P-256):
        /// `pkcs11:token=LABEL;object=LABEL?module-path=FILE&pin-source=FILE`.
        #[arg(long, value_name = "URI")]
        pkcs11: Option<String>,
        /// Addresses, edges and preshared keys as the owner gives them out, JSON.
        #[arg(long, value_name = "FILE")]
        profile: PathBuf,
    },
    /// Bring the tunnel up and keep it up, in the background.
    Up {
        /// Stay in the foreground and report on standard error.
        #[arg(short, long)]
        foreground: bool,
        /// Name of the tunnel interface.
        #[arg(long, value_name = "NAME", default_value = "verona0")]
        interface: InterfaceName,
    },
    /// Ask the center for the profile now, not within five minutes: new edges, routes, preshared keys.
    Refresh,
    /// Take the tunnel down.
    Down,
    /// Show whether the tunnel is up and by way of which edge.
    Status {
        /// As JSON, times in UTC.
        #[arg(long)]
        json: bool,
    },
    /// Print a configuration for a stock WireGuard client. It holds the private key.
    ExportWg {
        /// Write it to FILE, mode 0600.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// For `wg setconf`: without address, MTU and DNS.
        #[arg(long)]
        wg: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("verona-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn refresh(state: &StateDir) -> Result<()> {
    if let Member::Imported(_) = Member::load(state)? {
        anyhow::bail!("this identity has no center to ask: import it again with the new profile");
    }
    Ok(local::refresh(state)?)
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Command::Enroll { code } => enroll(&cli.state, code),
        Command::PublicKey => public_key(&cli.state),
        Command::Import { certificate, key, pkcs11, profile } => {
            let key = key.as_deref().ok_or(pkcs11.as_deref().unwrap_or_default());
            import(&cli.state, certificate, key, profile)
        }
        Command::Up { foreground, interface } => return up(find(&cli.state)?, interface, *foreground),
        Command::Refresh => refresh(&find(&cli.state)?),
        Command::Down => Ok(local::down(&find(&cli.state)?)?),
        Command::Status { json } => status(&find(&cli.state)?, *json),
        Command::ExportWg { out, wg } => export_wg(&find(&cli.state)?, out.as_deref(), *wg),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Only enrolment makes the directory.
fn find(path: &Path) -> Result<StateDir> {
    if path.exists() {
        Ok(StateDir::find(path)?)
    } else {
        Err(IdentityError::NotEnrolled(path.display().to_string()).into())
    }
}

fn enroll(state: &Path, code: &str) -> Result<()> {
    // Not parsed by clap: its error would repeat the secret, and call it wrong usage.
    let code: EnrolmentCode = code.parse()?;
    let state = &StateDir::make(state)?;
    // Keys and certificates must not change under a running client, nor under a second enrolment.
    let _lock = Lock::take(state)?;
    let identity = runtime()?.block_on(enrol::enrol(state, &code))?;
    let client = identity.client;
    let end = session::down(&Member::Enrolled(identity), &load_profile(state)?).certificate_end;
    print(&format!("enrolled as client {}, certificate until {}\n", client, status::jst(end)))
}

fn public_key(state: &Path) -> Result<()> {
    let state = StateDir::make(state)?;
    let key = identity::load_or_make_tunnel_key(&state)?;
    print(&format!("{}\n", identity::tunnel_public(&key)?))
}

fn import(state: &Path, certificate: &Path, key: Result<&Path, &str>, profile: &Path) -> Result<()> {
    let state = &StateDir::make(state)?;
    // Keys and certificates must not change under a running client.
    let _lock = Lock::take(state)?;
    if Identity::load(state).is_ok() {
        anyhow::bail!("this client is enrolled at a center: use another --state directory");
    }
    let json = std::fs::read(profile).map(Zeroizing::new);
    let json = json.with_context(|| format!("reading {} failed", profile.display()))?;
    let read = serde_json::from_slice::<ClientProfile>(&json);
    let profile = read.with_context(|| format!("{} is no client profile", profile.display()))?;
    let tunnel = identity::load_or_make_tunnel_key(state)?;
    let key_to_bind = identity::tunnel_public(&tunnel)?;
    // The profile first: an identity without a profile would look usable.
    identity::store_profile(state, &profile)?;
    let imported = Imported::import(state, certificate, key, &key_to_bind, binder::now_s())?;
    let end = session::down(&Member::Imported(imported), &profile).certificate_end;
    print(&format!("imported, certificate until {}\n", status::jst(end)))
}

fn up(state: StateDir, interface: &InterfaceName, foreground: bool) -> Result<ExitCode> {
    // What the user has to mend is said before anything is started.
    Member::load(&state)?;
    let mut background = None;
    if !foreground {
        match detach().context("going to the background failed")? {
            Role::Parent(code) => return Ok(ExitCode::from(code)),
            Role::Child(child) => background = Some(child),
        }
    }
    // Not before the fork: the parent's copy would unlock it.
    let mut lock = Lock::take(&state)?;
    lock.sign(&state)?;
    log_to(&state, foreground)?;
    let listener = local::listen(&state, &lock)?;
    let plan = Plan { state, interface: interface.clone(), listener };
    runtime()?.block_on(async {
        let session = Session::start(plan).await?;
        tracing::info!("{interface} is up");
        if let Some(advice) = session.advice() {
            // To the user, who may still see it, and not only to the log.
            eprintln!("verona-client: {advice}");
        }
        if let Some(background) = background {
            background.ready(false).context("leaving the terminal failed")?;
        }
        session.run().await?;
        tracing::info!("{interface} is down");
        Ok(ExitCode::SUCCESS)
    })
}

/// In the foreground to standard error; in the background to a file that each start begins anew.
fn log_to(state: &StateDir, foreground: bool) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(false);
    if foreground {
        subscriber.with_writer(io::stderr).init();
        return Ok(());
    }
    let path = state.path(state::LOG);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("opening {} failed", path.display()))?;
    subscriber.with_writer(std::sync::Mutex::new(file)).init();
    Ok(())
}

fn status(state: &StateDir, json: bool) -> Result<()> {
    let status = match local::status(state) {
        Err(LocalError::NotUp) => session::down(&Member::load(state)?, &load_profile(state)?),
        result => result?,
    };
    print(&if json { format!("{}\n", serde_json::to_string(&status)?) } else { status.to_string() })
}

fn export_wg(state: &StateDir, out: Option<&Path>, wg: bool) -> Result<()> {
    let keys = Keys::load(state, &Identity::load(state)?)?;
    let profile = load_profile(state)?;
    if !profile.pushed {
        eprintln!(
            "verona-client: warning: the center does not push this client's certificate to the edges, and a \
             stock WireGuard client cannot introduce itself: it will get no answer"
        );
    }
    let format = if wg { export::Format::Wg } else { export::Format::WgQuick };
    let text = export::configuration(&keys.tunnel, &profile, format);
    match out {
        None => print(&text),
        Some(path) => state::write_private(path, text.as_bytes())
            .with_context(|| format!("writing {} failed", path.display())),
    }
}

fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing to standard output failed"),
    }
}

/// One thread is plenty: packets have their own.
fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("starting the runtime failed")
}
