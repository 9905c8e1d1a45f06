//! `edge-tunnel wg0`: a userspace WireGuard with wireguard-go's command-line habits.
//!
//! Creates the interface, serves UAPI and the control socket, goes to the background, and ends when
//! the interface is deleted or at SIGTERM. With a policy loaded over the control socket it admits
//! certified peers only. Everything but the process's own affairs is in the library.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use clap::Parser;
use confinement::Account;
use edge_tunnel::daemon::{self, Role};
use edge_tunnel::{
    DEFAULT_MTU, DeviceConfig, Interface, InterfaceName, OpenDevice, StopReason, Switches, UapiSocket,
};
use nix::sys::signal::{SigSet, Signal};
use tracing_subscriber::EnvFilter;

/// WireGuard-compatible userspace tunnel that admits certified peers only, once it has a policy.
///
/// Environment: LOG_LEVEL (silent, error, info, verbose; default info in the foreground, else error), WG_PROCESS_FOREGROUND=1 as
/// --foreground, WG_TUN_FD and WG_UAPI_FD for descriptors opened by a parent process.
#[derive(Debug, Parser)]
#[command(name = "edge-tunnel", version)]
struct Arguments {
    /// Stay in the foreground.
    #[arg(short, long)]
    foreground: bool,
    /// MTU of the interface, octets.
    #[arg(long, default_value_t = DEFAULT_MTU, value_parser = clap::value_parser!(u16).range(576..))]
    mtu: u16,
    /// Control socket [default: /run/verona/tunnel-<INTERFACE>.sock].
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Threads that move packets [default: one a core, at most 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    workers: Option<u8>,
    /// Offloads not to use, with commas: tun-tso, tun-uso, tun-tcp-gro, tun-udp-gro, udp-gso, udp-gro, or all.
    /// They are used as far as the kernel has them and they pass a self-test.
    #[arg(
        long,
        value_name = "NAMES",
        env = "EDGE_TUNNEL_NO_OFFLOAD",
        default_value = "",
        hide_default_value = true
    )]
    no_offload: Switches,
    /// Copy the service class (DSCP) of packets to the datagrams that carry them.
    #[arg(long)]
    copy_dscp: bool,
    /// Become this user of /etc/passwd once everything is open, and give up every right that is not needed any more;
    /// its group may use the control socket. Left out: nothing is given up.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Name of the interface to create.
    interface: InterfaceName,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("edge-tunnel: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let foreground =
        arguments.foreground || std::env::var_os("WG_PROCESS_FOREGROUND").is_some_and(|value| value == "1");
    let log = LogLevel::from_environment(foreground)?;
    let background = if foreground {
        None
    } else {
        match daemon::detach().context("going to the background")? {
            Role::Parent(status) => return Ok(ExitCode::from(status)),
            Role::Child(background) => Some(background),
        }
    };
    // Blocked before any thread exists, so that only the waiting thread gets them.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().context("blocking signals")?;
    log.start();

    let account = arguments.user.as_deref().map(Account::named).transpose().context("--user")?;
    let device = OpenDevice::open(device_config(arguments)?)?;
    if let Some(account) = account {
        let confined = edge_tunnel::confine(&device, account).context("giving up rights")?;
        tracing::info!("confined: {confined}");
    }
    let device = device.run()?;
    tracing::info!("interface {} is ready", device.handle().name());
    let handle = device.handle().clone();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.wait().is_ok() {
                handle.request_stop();
            }
        })
        .context("starting the signal thread")?;
    if let Some(background) = background {
        background.ready(log.keeps_output()).context("going to the background")?;
    }
    match device.wait() {
        StopReason::Failed(error) => Err(error).context("the data plane failed"),
        reason => {
            tracing::info!(?reason, "stopped");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn device_config(arguments: Arguments) -> anyhow::Result<DeviceConfig> {
    let default_control = || format!("/run/verona/tunnel-{}.sock", arguments.interface).into();
    let control = Some(arguments.control.unwrap_or_else(default_control));
    let interface = match daemon::descriptor_from_environment("WG_TUN_FD").context("WG_TUN_FD")? {
        Some(fd) => Interface::Inherited(fd),
        None => Interface::Create { name: arguments.interface, mtu: arguments.mtu },
    };
    let uapi = match daemon::descriptor_from_environment("WG_UAPI_FD").context("WG_UAPI_FD")? {
        Some(fd) => UapiSocket::Inherited(fd),
        None => UapiSocket::Bind,
    };
    let workers = arguments.workers.map_or_else(default_workers, usize::from);
    Ok(DeviceConfig {
        interface,
        uapi: Some(uapi),
        control,
        workers,
        without: arguments.no_offload,
        copy_dscp: arguments.copy_dscp,
    })
}

/// One a core. A box with many cores has other work, too, and the line is full before.
fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(4))
}

/// wireguard-go's `LOG_LEVEL`, with `info` between its two.
#[derive(Clone, Copy)]
struct LogLevel {
    directives: &'static str,
    /// The variable asks for a log, so the background process keeps its output.
    explicit: bool,
}

impl LogLevel {
    fn from_environment(foreground: bool) -> anyhow::Result<Self> {
        let value = std::env::var("LOG_LEVEL").unwrap_or_default();
        // The engine reports lost peers as errors of its own; that is our engine's business, not news.
        let directives = match value.as_str() {
            "silent" => "off",
            "" if foreground => "info,boringtun=off",
            "info" => "info,boringtun=off",
            "" | "error" => "error,boringtun=off",
            "debug" | "verbose" => "debug",
            _ => anyhow::bail!("LOG_LEVEL={value:?}: expected silent, error, info or verbose"),
        };
        Ok(Self { directives, explicit: !value.is_empty() && value != "silent" })
    }

    fn keeps_output(self) -> bool {
        self.explicit
    }

    fn start(self) {
        tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(self.directives))
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init();
    }
}
