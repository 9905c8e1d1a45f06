//! The one part of the agent that stays root: it starts `pppd`, which does not run as anybody else.
//!
//! It is a process of its own, started before the agent gives up its rights, at the other end of a socket. It takes
//! two orders, start a session and stop one; every field of them is a type that checked it, and the program and its
//! options are fixed (`edge_agent_core::network::pppoe`). What the program says goes back as it is: reading it is left
//! to the agent, which has no rights to lose. When the agent is gone, its sessions are ended and so is this process.

use crate::sys::end_with_parent;
use confinement::{Capability, CapabilitySet, Confinement, Files, Reading, SystemCalls};
use edge_agent_core::network::pppoe::Session;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use verona_contract::config::network::ZoneName;
use zeroize::Zeroizing;

/// The program.
const PPPD: &str = "/usr/sbin/pppd";

/// The first word on the command line that makes this process of the agent's program, and the one after it that has it
/// give up what it does not need.
const WORD: &str = "dial";
const CONFINED: &str = "confined";

/// Octets of an order: four texts of 255, each twice as long when it is quoted.
const MAX_ORDER: u64 = 4096;

/// Octets of what the program says at once; the rest of a longer line is another line.
const MAX_LINE: u64 = 300;

/// How long the program may take to end a session with the provider before it is killed.
const ENDING: Duration = Duration::from_secs(4);

/// How often is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(50);

/// What the agent asks for, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    /// Begins a session.
    Start(Session),
    /// Ends that of this uplink.
    Stop(ZoneName),
}

/// What is told of a session.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct News {
    /// The uplink.
    pub(crate) line: ZoneName,
    /// What happened.
    pub(crate) event: Event,
}

/// What happened.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Event {
    /// The program said this.
    Said(String),
    /// It ended, in words.
    Ended(String),
}

/// Starts the process, and gives the agent's end of the socket; none on a box without the program. `confined`: it gives
/// up what it does not need. Before any thread, while the caller is root.
///
/// # Errors
///
/// No socket, or no process.
pub fn start(program: &Path, confined: bool) -> io::Result<Option<UnixStream>> {
    if !Path::new(PPPD).exists() {
        return Ok(None);
    }
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(program);
    command.arg(WORD).args(confined.then_some(CONFINED));
    command.env_clear().stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    // Nobody waits for it: it ends when the agent does.
    command.spawn().map(|_| Some(ours))
}

/// If this process was started as the dialler, does its work until the agent is gone. None if it was not.
#[must_use]
pub fn serve() -> Option<ExitCode> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.first()? != WORD {
        return None;
    }
    if words.get(1).is_some_and(|word| word == CONFINED)
        && let Err(error) = confine()
    {
        eprintln!("edge-agent {WORD}: {}", crate::center::chain(&error));
        return Some(ExitCode::FAILURE);
    }
    Some(match serve_at_stdin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge-agent {WORD}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Root without root's rights: the program needs its number, the network, its own files below `/run`, and `/dev/ppp`,
/// which need not be there yet.
fn confine() -> Result<(), confinement::ConfinementError> {
    let paths = |all: &[&str]| all.iter().map(Into::into).collect();
    let confinement = Confinement {
        account: None,
        capabilities: CapabilitySet::of(&[Capability::NetAdmin, Capability::NetRaw]),
        files: Files {
            reading: Reading::Anything,
            writing: paths(&["/run", "/dev"]),
            starting: paths(&[PPPD, "/usr/lib", "/lib", "/lib64"]),
        },
        system_calls: SystemCalls::Everyday,
    };
    confinement.enter().map(drop)
}

fn serve_at_stdin() -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let dialler = Arc::new(Dialler { agent: Mutex::new(socket.try_clone()?), running: Mutex::default() });
    let mut orders = BufReader::new(socket);
    loop {
        let mut line = Zeroizing::new(Vec::with_capacity(MAX_ORDER as usize));
        // An agent that was killed may leave a reset instead of an end.
        let read = orders.by_ref().take(MAX_ORDER).read_until(b'\n', &mut line);
        if !read.is_ok_and(|length| length > 0) {
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(Order::Start(session)) => dialler.start(&session),
            Ok(Order::Stop(line)) => dialler.stop(&line),
            // Without the text: it may hold a password. An agent that sends such a thing is not obeyed any more.
            Err(_) => return Err(io::Error::other("an order that is none")),
        }
    }
    dialler.stop_all();
    Ok(())
}

/// Locked longer than for a look only while a signal is sent: a process that was not waited for keeps its number.
type Process = Arc<Mutex<Child>>;

struct Dialler {
    agent: Mutex<UnixStream>,
    running: Mutex<BTreeMap<ZoneName, Process>>,
}

impl Dialler {
    /// The agent stops one before it starts another of the same name.
    fn start(self: &Arc<Self>, session: &Session) {
        let line = session.line.clone();
        if lock(&self.running).contains_key(&line) {
            return self.tell(line, Event::Ended("it runs already".into()));
        }
        // By the first thread, which ends with the process: see `end_with_parent`.
        let (process, said) = match launch(session) {
            Ok(launched) => launched,
            Err(error) => return self.tell(line, Event::Ended(format!("cannot start {PPPD}: {error}"))),
        };
        lock(&self.running).insert(line.clone(), process.clone());
        let (dialler, of) = (self.clone(), line.clone());
        let follow = move || {
            let ended = dialler.follow(&of, &process, said);
            lock(&dialler.running).remove(&of);
            dialler.tell(of, Event::Ended(ended));
        };
        if thread::Builder::new().name("session".into()).spawn(follow).is_err() {
            // It has nobody to talk to, and ends by that.
            lock(&self.running).remove(&line);
            self.tell(line, Event::Ended("no thread".into()));
        }
    }

    /// Passes on what the program says until it has ended; how it did, in words.
    fn follow(&self, line: &ZoneName, process: &Process, said: impl Read) -> String {
        let mut said = BufReader::new(said);
        loop {
            let mut text = Vec::new();
            match said.by_ref().take(MAX_LINE).read_until(b'\n', &mut text) {
                Ok(1..) => self.tell(line.clone(), Event::Said(printable(&text))),
                Ok(0) | Err(_) => break,
            }
        }
        loop {
            // Not locked while it sleeps: who stops it must come in between.
            let state = lock(process).try_wait();
            match state {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) => thread::sleep(LOOK),
                Err(error) => return format!("cannot wait for it: {error}"),
            }
        }
    }

    fn stop(&self, line: &ZoneName) {
        let Some(process) = lock(&self.running).get(line).cloned() else { return };
        signal(&process, Signal::SIGTERM);
        // One that does not answer is killed; nobody waits for this thread.
        let _ = thread::Builder::new().spawn(move || {
            thread::sleep(ENDING);
            signal(&process, Signal::SIGKILL);
        });
    }

    fn stop_all(&self) {
        let deadline = Instant::now() + ENDING;
        let all: Vec<Process> = lock(&self.running).values().cloned().collect();
        all.iter().for_each(|process| signal(process, Signal::SIGTERM));
        while !lock(&self.running).is_empty() && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        all.iter().for_each(|process| signal(process, Signal::SIGKILL));
    }

    /// An agent that does not listen any more is about to be gone.
    fn tell(&self, line: ZoneName, event: Event) {
        // Plain data always encodes.
        let mut text = serde_json::to_vec(&News { line, event }).unwrap_or_default();
        text.push(b'\n');
        let _ = lock(&self.agent).write_all(&text);
    }
}

/// The options go through a pipe: nobody sees them in a file or in the list of processes.
fn launch(session: &Session) -> io::Result<(Process, impl Read + use<>)> {
    let options = session.options().ok_or_else(|| io::Error::other("the MTU is not one of PPPoE"))?;
    let mut command = Command::new(PPPD);
    command.args(["file", "/proc/self/fd/0"]).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    end_with_parent(&mut command, Signal::SIGTERM);
    let mut child = command.spawn()?;
    let said = child.stderr.take().ok_or_else(|| io::Error::other("no pipe"))?;
    // Less than a pipe holds: this does not wait.
    let written = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(options.as_bytes()));
    if let Err(error) = written {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    Ok((Arc::new(Mutex::new(child)), said))
}

/// To a process that has not been waited for, so that it is still the one of this number.
fn signal(process: &Process, signal: Signal) {
    let mut child = lock(process);
    if let (Ok(None), Ok(number)) = (child.try_wait(), i32::try_from(child.id())) {
        let _ = kill(Pid::from_raw(number), signal);
    }
}

fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.trim_end().chars().map(|one| if one.is_ascii_graphic() { one } else { ' ' }).collect()
}

/// A thread that panicked leaves nothing half-changed here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
