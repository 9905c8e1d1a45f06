//! The running client's own socket: `status`, `refresh` and `down` ask it, one line of JSON each way.
//!
//! Mode 0600 in a directory of mode 0700. The lock beside it decides whether a client runs; a socket file
//! alone may be left from a crash.

use crate::state::{self, StateDir, StateError};
use crate::status::Status;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// For the answer, and for `down` to take effect.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// How often a client that does not answer is asked again, and after how long.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// The longest request, octets.
pub(crate) const MAX_REQUEST: u64 = 256;
/// The longest answer, octets: the status of a thousand edges.
const MAX_ANSWER: u64 = 1024 * 1024;

/// What a command asks of the running client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Answered by a [`Status`].
    Status,
    /// Has the center asked for the profile now; answered by the end of the connection.
    Refresh,
    /// Ends the client: answered by the end of the connection, after everything is taken down.
    Down,
}

/// Why the running client was not asked, or another one not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// Somebody holds the lock.
    #[error("already up (process {0}): run `verona-client down` first")]
    AlreadyUp(String),
    /// Nobody does.
    #[error("not up")]
    NotUp,
    #[error(transparent)]
    State(#[from] StateError),
    /// It runs and does not answer as it should.
    #[error("the running client at {path} does not answer")]
    NoAnswer { path: String, source: io::Error },
}

/// Held while a client is up. The kernel lets it go with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Lock(Flock<File>);

impl Lock {
    /// Takes the lock, or says who has it.
    pub(crate) fn take(state: &StateDir) -> Result<Self, LocalError> {
        let file = open_lock(state)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self(lock)),
            Err((mut file, _)) => {
                let mut holder = String::new();
                // Who it is, is a service only.
                let _ = (&mut file).take(16).read_to_string(&mut holder);
                Err(LocalError::AlreadyUp(holder.trim().to_owned()))
            }
        }
    }

    /// Writes this process's id into the file.
    pub(crate) fn sign(&mut self, state: &StateDir) -> Result<(), LocalError> {
        let write = |file: &mut File| {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())
        };
        let path = state.path(state::LOCK);
        Ok(write(&mut self.0).map_err(|source| StateError { doing: "writing", path, source })?)
    }
}

fn open_lock(state: &StateDir) -> Result<File, StateError> {
    let path = state.path(state::LOCK);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    open.map_err(|source| StateError { doing: "opening", path, source })
}

/// Listens; the caller holds the lock, so what is in the way is left from a crash.
pub(crate) fn listen(state: &StateDir, _lock: &Lock) -> Result<UnixListener, StateError> {
    let path = state.path(state::SOCKET);
    let bind = || {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The mode is the umask's to give: a chmod would come too late.
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(&path);
        umask(before);
        let listener = listener?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|source| StateError { doing: "listening at", path: path.clone(), source })
}

/// The running client's status.
pub(crate) fn status(state: &StateDir) -> Result<Status, LocalError> {
    let no_answer = no_answer(state);
    let line = ask(state, Request::Status)?;
    serde_json::from_str(&line).map_err(|error| no_answer(io::Error::other(error)))
}

/// Has the running client ask the center now.
pub(crate) fn refresh(state: &StateDir) -> Result<(), LocalError> {
    ask(state, Request::Refresh).map(drop)
}

/// Ends the running client and waits until it has let go.
pub(crate) fn down(state: &StateDir) -> Result<(), LocalError> {
    ask(state, Request::Down)?;
    // It has taken everything down; its last act is to end, which frees the lock.
    let path = state.path(state::LOCK);
    let wait = Flock::lock(open_lock(state)?, FlockArg::LockShared);
    wait.map(drop)
        .map_err(|(_, errno)| StateError { doing: "waiting for", path, source: errno.into() }.into())
}

fn ask(state: &StateDir, request: Request) -> Result<String, LocalError> {
    let mut attempt = 0;
    loop {
        if Flock::lock(open_lock(state)?, FlockArg::LockSharedNonblock).is_ok() {
            return Err(LocalError::NotUp);
        }
        match exchange(state, request) {
            Ok(line) => return Ok(line),
            // It has just been started, or is just ending: the lock comes first and goes last.
            Err(_) if attempt < ATTEMPTS => attempt += 1,
            Err(source) => return Err(no_answer(state)(source)),
        }
        std::thread::sleep(PAUSE);
    }
}

fn exchange(state: &StateDir, request: Request) -> io::Result<String> {
    let mut stream = UnixStream::connect(state.path(state::SOCKET))?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    serde_json::to_writer(&stream, &request)?;
    stream.write_all(b"\n")?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut line)?;
    Ok(line)
}

fn no_answer(state: &StateDir) -> impl FnOnce(io::Error) -> LocalError {
    let path = state.path(state::SOCKET).display().to_string();
    |source| LocalError::NoAnswer { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn one_holder_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::make(directory.path()).unwrap();
        assert!(matches!(status(&state), Err(LocalError::NotUp)));
        let mut lock = Lock::take(&state).unwrap();
        lock.sign(&state).unwrap();
        let error = Lock::take(&state).unwrap_err().to_string();
        let pid = std::process::id();
        assert_eq!(error, format!("already up (process {pid}): run `verona-client down` first"));
        drop(lock);
        assert!(Lock::take(&state).is_ok());
    }

    #[test]
    fn the_socket_is_private_and_survives_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::make(directory.path()).unwrap();
        let lock = Lock::take(&state).unwrap();
        drop(listen(&state, &lock).unwrap());
        let again = listen(&state, &lock).unwrap();
        let mode = state.path(state::SOCKET).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(again);
        assert!(matches!(status(&state), Err(LocalError::NoAnswer { .. })));
    }
}
