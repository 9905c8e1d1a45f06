//! One network namespace: its interfaces, addresses and routes, and how code gets into it.

use crate::run::NETNS;
use crate::{Error, Result, Run};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

/// A network namespace of a run. Clones share it; it goes with the run.
#[derive(Clone, Debug)]
pub struct Namespace {
    run: Run,
    name: Arc<str>,
}

impl Namespace {
    pub(crate) fn create(run: &Run, name: &str) -> Result<Self> {
        let namespace = Self { run: run.clone(), name: run.namespace_name(name).into() };
        checked(Command::new("ip").args(["netns", "add", namespace.name()]))?;
        // Addresses must be usable at once, and nothing must appear that the topology did not ask for.
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.sysctl("net/ipv6/conf/default/accept_ra", "0")?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name that `ip netns exec` takes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The run it belongs to.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Runs one `ip` command line inside, for example `addr add 192.0.2.1/24 dev wan`.
    ///
    /// # Errors
    ///
    /// `ip` refuses; its message is in the error.
    pub fn ip(&self, line: &str) -> Result<()> {
        checked(Command::new("ip").args(["-netns", self.name()]).args(line.split_whitespace())).map(drop)
    }

    /// Sets a value below `/proc/sys`, for example `net/ipv4/ip_forward`.
    ///
    /// # Errors
    ///
    /// The path does not exist or the value is refused.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        let full = format!("/proc/sys/{path}");
        self.enter(|| std::fs::write(&full, value))?.map_err(Error::io(format!("write {value} to {full}")))
    }

    /// Loads an nftables ruleset inside.
    ///
    /// # Errors
    ///
    /// `nft` refuses the ruleset.
    pub fn nft(&self, ruleset: &str) -> Result<()> {
        let mut command = self.command("nft");
        checked(command.arg(ruleset)).map(drop)
    }

    /// Connects this namespace with `other` by a veth pair, both ends up.
    ///
    /// # Errors
    ///
    /// An interface of that name exists already.
    pub fn connect(&self, ours: &str, other: &Namespace, theirs: &str) -> Result<()> {
        let line = format!(
            "link add name {ours} netns {} type veth peer name {theirs} netns {}",
            self.name, other.name
        );
        checked(Command::new("ip").args(line.split_whitespace()))?;
        // Cards without offload: datagrams that a program sent in one call are separate on the wire.
        self.ip(&format!("link set dev {ours} gso_max_segs 1 up"))?;
        other.ip(&format!("link set dev {theirs} gso_max_segs 1 up"))
    }

    /// Makes a bridge and puts `ports` into it.
    ///
    /// # Errors
    ///
    /// The name is taken, or a port does not exist.
    pub fn bridge(&self, name: &str, ports: &[&str]) -> Result<()> {
        self.ip(&format!("link add name {name} type bridge forward_delay 0"))?;
        for port in ports {
            self.ip(&format!("link set dev {port} master {name}"))?;
        }
        self.ip(&format!("link set dev {name} up"))
    }

    /// Adds `addresses` (with prefix lengths) to `interface`.
    ///
    /// # Errors
    ///
    /// The interface does not exist or an address is malformed.
    pub fn address(&self, interface: &str, addresses: &[&str]) -> Result<()> {
        for address in addresses {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            self.ip(&format!("addr add {address} dev {interface} {nodad}"))?;
        }
        Ok(())
    }

    /// Turns on forwarding for both families.
    ///
    /// # Errors
    ///
    /// `/proc/sys` cannot be written.
    pub fn forward(&self) -> Result<()> {
        self.sysctl("net/ipv4/ip_forward", "1")?;
        self.sysctl("net/ipv6/conf/all/forwarding", "1")
    }

    /// A command that will run inside.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let path = Path::new(NETNS).join(&*self.name);
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        // Opened now: after the fork only async-signal-safe calls are allowed. A namespace that is gone
        // makes the start of the command fail, with the errno of this open.
        let opened = File::open(path).map_err(|e| e.raw_os_error().unwrap_or(libc::ENOENT));
        let enter = move || match &opened {
            Ok(file) => setns(file, CloneFlags::CLONE_NEWNET).map_err(Into::into),
            Err(errno) => Err(std::io::Error::from_raw_os_error(*errno)),
        };
        // SAFETY: setns(2) is a plain system call; nothing is allocated and no lock is taken.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a command inside to its end.
    ///
    /// # Errors
    ///
    /// It cannot be started or does not exit with 0; the error has its standard error.
    pub fn output(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Result<String> {
        let output = checked(self.command(program).args(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `work` on a thread inside: sockets opened there stay in this namespace for their life.
    ///
    /// # Errors
    ///
    /// The namespace is gone.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = Path::new(NETNS).join(&*self.name);
        let file = File::open(&path).map_err(Error::io(format!("open {}", path.display())))?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&file, CloneFlags::CLONE_NEWNET)
                    .map_err(Error::os(format!("enter {}", path.display())))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Runs a command to its end and wants success of it.
pub(crate) fn checked(command: &mut Command) -> Result<Output> {
    let line = command_line(command);
    let output = command.output().map_err(Error::io(format!("run `{line}`")))?;
    if output.status.success() {
        return Ok(output);
    }
    let mut stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if stderr.is_empty() {
        String::from_utf8_lossy(&output.stdout).trim().clone_into(&mut stderr);
    }
    Err(Error::Command { command: line, status: output.status, stderr })
}

pub(crate) fn command_line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
