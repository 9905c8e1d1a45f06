//! The edge: the data plane and the agent, as two processes that may die apart.

use super::{READY, ask};
use crate::{Error, Namespace, Process, Result, WallClock, wait, workspace};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The UDP port of the tunnel.
pub const LISTEN_PORT: u16 = 51820;

/// Where the agent tells its metrics, in its own namespace.
pub const METRICS: &str = "127.0.0.1:9586";

/// Whom both daemons become: on a box each has a user of its own.
pub const USER: &str = "nobody";

/// An edge box with its state in the run's directory.
#[derive(Debug)]
pub struct Edge {
    place: Namespace,
    state: PathBuf,
    interface: String,
    clock: Option<WallClock>,
    /// The data plane.
    pub tunnel: Process,
    /// The agent.
    pub agent: Process,
    /// What [`Self::agent_again`] adds to the agent's command line.
    pub agent_arguments: Vec<String>,
}

impl Edge {
    /// Starts a fresh box with the factory record at `record`.
    ///
    /// # Errors
    ///
    /// A process does not come up.
    pub fn start(place: &Namespace, record: &Path) -> Result<Self> {
        let state = place.run().dir().join("edge");
        let interface = place.run().interface("edge");
        std::fs::create_dir_all(&state).map_err(Error::io(format!("create {}", state.display())))?;
        give_away(&state)?;
        let kept = state.join("factory.json");
        let copied = || format!("copy {}", record.display());
        std::fs::copy(record, &kept).map_err(Error::io(copied()))?;
        // A box has it from the factory.
        std::fs::File::open(&kept).and_then(|file| file.sync_all()).map_err(Error::io(copied()))?;
        let tunnel = start_tunnel(place, &state, &interface, None)?;
        let agent = start_agent(place, &state, (&[], None))?;
        Ok(Self {
            place: place.clone(),
            state,
            interface,
            clock: None,
            tunnel,
            agent,
            agent_arguments: Vec::new(),
        })
    }

    /// The power goes, and both processes come up again with a wall clock of their own.
    ///
    /// # Errors
    ///
    /// A process does not come up.
    pub fn wake_with(&mut self, clock: WallClock) -> Result<()> {
        self.agent.crash()?;
        self.tunnel.crash()?;
        self.clock = Some(clock);
        self.tunnel_again()?;
        self.agent_again()
    }

    /// Starts the data plane again after it was stopped or crashed.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn tunnel_again(&mut self) -> Result<()> {
        self.tunnel = start_tunnel(&self.place, &self.state, &self.interface, self.clock.as_ref())?;
        Ok(())
    }

    /// Starts the agent again after it was stopped or crashed.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn agent_again(&mut self) -> Result<()> {
        self.agent = start_agent(&self.place, &self.state, (&self.agent_arguments, self.clock.as_ref()))?;
        Ok(())
    }

    /// One command of `edgectl`, with its answer.
    ///
    /// # Errors
    ///
    /// The agent refuses or does not answer.
    pub fn edgectl(&self, arguments: &[&str]) -> Result<Value> {
        let socket = self.agent_socket();
        let socket = socket.to_string_lossy();
        let mut all = vec!["--socket", &socket];
        all.extend(arguments);
        all.push("--json");
        ask(&self.place, "edgectl", &all)
    }

    /// Whether `edgectl status --check` holds for `wanted`: `live`, `ready` or `startup`.
    ///
    /// # Errors
    ///
    /// It does not; the error has the line that says why. Or it says more than its exit status.
    pub fn check(&self, wanted: &str) -> Result<()> {
        let socket = self.agent_socket();
        let arguments = ["--socket", &socket.to_string_lossy(), "status", "--check", wanted];
        let said = self.place.output(workspace::binary("edgectl")?, &arguments)?;
        if said.is_empty() { Ok(()) } else { Err(Error::Environment(format!("the check said {said:?}"))) }
    }

    /// How many handshakes were refused for `reason` since the data plane started.
    ///
    /// # Errors
    ///
    /// The agent does not answer.
    pub fn refused(&self, reason: &str) -> Result<u64> {
        let status = self.edgectl(&["status"])?;
        let refused = status.pointer("/tunnel/status/counters/refused");
        let refused = refused.ok_or_else(|| Error::Environment(format!("no counters in {status}")))?;
        Ok(refused.get(reason).and_then(Value::as_u64).unwrap_or(0))
    }

    /// The name of the tunnel interface.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The namespace that it runs in.
    #[must_use]
    pub fn place(&self) -> &Namespace {
        &self.place
    }

    /// The agent's state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.state.join("state")
    }

    /// The control socket of the data plane.
    #[must_use]
    pub fn tunnel_socket(&self) -> PathBuf {
        self.state.join("tunnel.sock")
    }

    /// The agent's socket.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.state.join("agent.sock")
    }
}

/// The daemons keep their state there. As on a box, whatever is in it is theirs at each start.
fn give_away(path: &Path) -> Result<()> {
    let failed = || format!("give {} to {USER}", path.display());
    let user = nix::unistd::User::from_name(USER).map_err(Error::os(failed()))?;
    let user = user.ok_or_else(|| Error::Environment(format!("there is no user {USER}")))?;
    let (uid, gid) = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
    match std::os::unix::fs::lchown(path, uid, gid) {
        // What is temporary may go meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        given => given.map_err(Error::io(failed()))?,
    }
    if !path.is_symlink() && path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(Error::io(failed()))? {
            give_away(&entry.map_err(Error::io(failed()))?.path())?;
        }
    }
    Ok(())
}

fn start_tunnel(
    place: &Namespace,
    state: &Path,
    interface: &str,
    clock: Option<&WallClock>,
) -> Result<Process> {
    let socket = state.join("tunnel.sock");
    let mut command = place.command(workspace::binary("edge-tunnel")?);
    command.args(["-f", "--user", USER]).arg("--control").arg(&socket).arg(interface);
    clock.into_iter().for_each(|clock| clock.give(&mut command));
    let mut tunnel = place.run().start_process("edge-tunnel", command)?;
    wait::for_value("the tunnel's control socket", READY, || {
        tunnel.must_run()?;
        Ok(std::os::unix::net::UnixStream::connect(&socket).ok())
    })?;
    Ok(tunnel)
}

fn start_agent(
    place: &Namespace,
    state: &Path,
    (arguments, clock): (&[String], Option<&WallClock>),
) -> Result<Process> {
    give_away(state)?;
    let socket = state.join("agent.sock");
    let mut command = place.command(workspace::binary("edge-agent")?);
    command.arg("--state").arg(state.join("state")).arg("--record").arg(state.join("factory.json"));
    command.arg("--tunnel").arg(state.join("tunnel.sock")).arg("--socket").arg(&socket);
    command.args(["--metrics", METRICS, "--user", USER]);
    clock.into_iter().for_each(|clock| clock.give(&mut command));
    command.args(arguments);
    let mut agent = place.run().start_process("edge-agent", command)?;
    wait::for_value("the agent's socket", READY, || {
        agent.must_run()?;
        Ok(std::os::unix::net::UnixStream::connect(&socket).ok())
    })?;
    Ok(agent)
}
