//! Serves the control socket: the agent's JSON lines ([`verona_contract::control`]).
//!
//! What takes long (reading JSON, certificates, signatures of lists) happens here, in the
//! connection's thread; the data plane gets finished values. What a policy or a list means is decided
//! in the core. Only root, our own user and the members of
//! our group are heard.

use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use edge_tunnel_core::{CrlSet, VerifiedPolicy};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{getegid, geteuid};
use serde::Deserialize;
use verona_contract::base64::Octets;
use verona_contract::control::{
    Command, FLOORS_AT_ONCE, Line, MAX_LINE, Policy, Reply, Request, Response, VERSION,
};

use crate::commands::Stopped;
use crate::data_plane::DataPlane;
use crate::device::{DeviceHandle, Events};
use crate::lines::{LineError, LineReader};
use crate::local_socket::Limits;
use crate::sys::{memory, process};

pub(crate) const LIMITS: Limits =
    Limits { connections: 16, read_timeout: None, write_timeout: Duration::from_secs(10) };

/// How soon a subscription notices that its connection has ended.
const EVENT_WAIT: Duration = Duration::from_millis(250);

/// What all connections share.
pub(crate) struct Service {
    device: DeviceHandle,
    /// Held while a policy is verified and installed: policies take effect in the order of their arrival.
    policies: Mutex<()>,
    /// Held while a policy is installed, or a list verified and installed, so that the issuers do not change
    /// between the check of a list and its use. The verification of a policy (60 µs a client) stays outside:
    /// a revocation does not wait for it.
    issuers: Mutex<()>,
}

impl Service {
    pub(crate) fn new(device: DeviceHandle) -> Self {
        Self { device, policies: Mutex::new(()), issuers: Mutex::new(()) }
    }

    /// Answers requests until the peer closes the connection or breaks the protocol.
    pub(crate) fn handle(&self, stream: &UnixStream) {
        match may_command(stream) {
            Ok(true) => {}
            Ok(false) => return tracing::warn!("control connection of another user refused"),
            Err(error) => return tracing::warn!("reading the credentials of a control connection: {error}"),
        }
        let Ok(writer) = stream.try_clone() else { return };
        let mut connection =
            Connection { service: self, writer: Writer::new(writer), greeted: false, subscription: None };
        connection.run(stream);
    }

    fn load_policy(&self, policy: Policy) -> Result<Reply, String> {
        let _in_order = lock(&self.policies);
        let policy = VerifiedPolicy::new(policy).map_err(|error| chain(&error))?;
        let _issuers = lock(&self.issuers);
        let install = move |data_plane: &mut DataPlane| data_plane.install_policy(policy);
        let installed = self.device.run(install).map_err(stopped)?;
        let (installed, passage) = installed.map_err(|error| chain(&error))?;
        passage.wait().map_err(|error| error.to_string())?;
        Ok(Reply::PolicyLoaded(installed))
    }

    fn load_crl(&self, der: &Octets) -> Result<Reply, String> {
        let _issuers = lock(&self.issuers);
        let issuers = self.device.run(|data_plane| data_plane.engine.issuers()).map_err(stopped)?;
        if issuers.is_empty() {
            return Err("no policy is loaded, so no issuer is known".to_owned());
        }
        let list = CrlSet::load(der.as_ref(), &issuers).map_err(|error| chain(&error))?;
        let installed = self.device.run(move |data_plane| data_plane.install_crl(list)).map_err(stopped)?;
        let (installed, passage) = installed.map_err(|error| chain(&error))?;
        passage.wait().map_err(|error| error.to_string())?;
        Ok(Reply::CrlLoaded(installed))
    }
}

/// A panic in another connection leaves nothing half done here: these locks guard an order, no data.
fn lock(order: &Mutex<()>) -> MutexGuard<'_, ()> {
    order.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the peer of `stream` is root, our own user, or of our group, unless that is root's (SO_PEERCRED and
/// SO_PEERGROUPS, the process that connected). The socket's mode lets the group in only if the daemon has a user of
/// its own.
fn may_command(stream: &UnixStream) -> io::Result<bool> {
    let peer = getsockopt(stream, PeerCredentials)?;
    if peer.uid() == 0 || peer.uid() == geteuid().as_raw() {
        return Ok(true);
    }
    let group = getegid().as_raw();
    Ok(group != 0 && (peer.gid() == group || process::peer_groups(stream.as_fd())?.contains(&group)))
}

struct Connection<'a> {
    service: &'a Service,
    writer: Writer,
    greeted: bool,
    subscription: Option<Subscription>,
}

impl Connection<'_> {
    fn run(&mut self, stream: &UnixStream) {
        let mut lines = LineReader::new(stream, MAX_LINE);
        loop {
            let request = match lines.next_line() {
                Ok(Some(line)) => parse(line),
                Ok(None) | Err(LineError::Read(_) | LineError::Truncated) => return,
                Err(error @ LineError::TooLong { .. }) => {
                    let _ = self.writer.write(&Line::Response(failure(0, error.to_string())));
                    return;
                }
            };
            // A long line is not kept while a million serial numbers are sorted.
            let long = lines.release();
            let response = match request {
                Ok(Request { id, command }) => Response { id, result: self.execute(command) },
                Err(refused) => *refused,
            };
            let answered = self.writer.write(&Line::Response(response));
            if long {
                memory::give_back();
            }
            if answered.is_err() {
                return;
            }
        }
    }

    fn execute(&mut self, command: Command) -> Result<Reply, String> {
        if !self.greeted && !matches!(command, Command::Hello { .. }) {
            return Err("hello must come first".to_owned());
        }
        let device = &self.service.device;
        match command {
            Command::Hello { version } => self.greet(version),
            Command::LoadPolicy(policy) => self.service.load_policy(*policy),
            Command::LoadCrl { der } => self.service.load_crl(&der),
            Command::SetClock { trusted } => {
                let passage = device.run(move |data_plane| data_plane.set_clock(trusted)).map_err(stopped)?;
                passage.wait().map_err(|error| error.to_string())?;
                Ok(Reply::Done)
            }
            Command::Pulse => {
                let passage = device.run(DataPlane::pulse).map_err(stopped)?;
                passage.wait().map_err(|error| error.to_string())?;
                Ok(Reply::Done)
            }
            Command::LoadFloors { floors } if floors.len() > FLOORS_AT_ONCE => {
                Err(format!("floors: at most {FLOORS_AT_ONCE} at once"))
            }
            Command::LoadFloors { floors } => {
                device.run(move |data_plane| data_plane.engine.restore_floors(&floors)).map_err(stopped)?;
                Ok(Reply::Done)
            }
            Command::Floors { all: true } => {
                device.run(|data_plane| data_plane.engine.all_floors()).map(Reply::Floors).map_err(stopped)
            }
            Command::Floors { all: false } => {
                device.run(|data_plane| data_plane.engine.fresh_floors()).map(Reply::Floors).map_err(stopped)
            }
            Command::Status => Ok(Reply::Status(device.status().map_err(stopped)?)),
            Command::Peers => device.run(|data_plane| data_plane.peers()).map(Reply::Peers).map_err(stopped),
            Command::Crls => device.run(|data_plane| data_plane.crls()).map(Reply::Crls).map_err(stopped),
            Command::Subscribe => self.subscribe(),
        }
    }

    fn greet(&mut self, version: u32) -> Result<Reply, String> {
        if version != VERSION {
            return Err(format!("protocol version {version}: this tunnel speaks {VERSION}"));
        }
        self.greeted = true;
        Ok(Reply::Hello { version: VERSION, software: env!("CARGO_PKG_VERSION").to_owned() })
    }

    fn subscribe(&mut self) -> Result<Reply, String> {
        if self.subscription.is_none() {
            let events = self.service.device.subscribe().map_err(stopped)?.ok_or("too many subscribers")?;
            let subscription = Subscription::start(events, self.writer.clone());
            self.subscription = Some(subscription.map_err(|error| format!("starting a thread: {error}"))?);
        }
        Ok(Reply::Done)
    }
}

/// A request, or the answer to a line that is none.
fn parse(line: &[u8]) -> Result<Request, Box<Response>> {
    serde_json::from_slice(line).map_err(|error| {
        let id = serde_json::from_slice::<RequestId>(line).map_or(0, |request| request.id);
        Box::new(failure(id, format!("request: {error}")))
    })
}

/// Just the number of a request whose rest does not read.
#[derive(Deserialize)]
struct RequestId {
    id: u64,
}

fn failure(id: u64, error: String) -> Response {
    Response { id, result: Err(error) }
}

fn stopped(error: Stopped) -> String {
    error.to_string()
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Writes whole lines; shared by the answers and the subscription of one connection.
#[derive(Clone)]
struct Writer(Arc<Mutex<UnixStream>>);

impl Writer {
    fn new(stream: UnixStream) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    /// After an error the connection is shut down: a part of a line may have been written.
    fn write(&self, line: &Line) -> io::Result<()> {
        let mut octets = serde_json::to_vec(line)?;
        octets.push(b'\n');
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let result = stream.write_all(&octets);
        if result.is_err() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        result
    }
}

/// The thread that copies events to a connection. It ends with the connection.
struct Subscription {
    ended: Arc<AtomicBool>,
}

impl Subscription {
    fn start(events: Events, writer: Writer) -> io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let copy = move || {
            while !flag.load(Ordering::Acquire) {
                let Ok(event) = events.next(EVENT_WAIT) else { return };
                if event.is_some_and(|event| writer.write(&Line::Event(event)).is_err()) {
                    return;
                }
            }
        };
        thread::Builder::new().name("events".to_owned()).spawn(copy)?;
        Ok(Self { ended })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}
