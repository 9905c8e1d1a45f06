//! Serves the agent's socket.

use super::{Answer, MAX_REQUEST, Reply, Request};
use crate::agent::Agent;
use crate::center::chain;
use crate::{netcheck, support};
use nix::sys::stat::{Mode, umask};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 64;

/// The socket cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("agent socket {path}: cannot {action}")]
pub struct BindError {
    path: PathBuf,
    action: &'static str,
    #[source]
    source: io::Error,
}

/// Makes the socket, mode 0600. One that a killed agent left is replaced; the state directory's lock says that
/// there is no other agent. Called before any other thread exists, since the umask belongs to the process.
///
/// # Errors
///
/// [`BindError`].
pub fn bind(path: &Path) -> Result<std::os::unix::net::UnixListener, BindError> {
    let fail = |action| move |source| BindError { path: path.to_owned(), action, source };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).map_err(fail("make its directory"))?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(fail("remove the old one")(error));
        }
        _ => {}
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = std::os::unix::net::UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(fail("bind"))?;
    listener.set_nonblocking(true).map_err(fail("prepare"))?;
    Ok(listener)
}

/// Serves for ever.
///
/// # Errors
///
/// The listener is not usable in the runtime.
pub async fn serve(listener: std::os::unix::net::UnixListener, agent: Arc<Agent>) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        match listener.accept().await {
            Ok((stream, _)) if may_ask(&stream) => {
                let agent = agent.clone();
                tokio::spawn(async move {
                    // The peer's business: it went away.
                    let _ = converse(stream, &agent).await;
                    drop(place);
                });
            }
            Ok(_) => tracing::warn!("connection of another user to the agent's socket refused"),
            Err(error) => {
                // Out of descriptors: the others must end first.
                tracing::warn!(%error, "agent socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

fn may_ask(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}

async fn converse(stream: UnixStream, agent: &Arc<Agent>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut reader).take(MAX_REQUEST as u64 + 1).read_until(b'\n', &mut line).await?;
        if line.is_empty() {
            return Ok(());
        }
        let too_long = line.len() > MAX_REQUEST;
        let answer = if too_long {
            Err(format!("request longer than {MAX_REQUEST} octets"))
        } else {
            match serde_json::from_slice(&line) {
                Ok(request) => answer(agent, request).await,
                Err(error) => Err(format!("request: {error}")),
            }
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        writer.write_all(&text).await?;
        if too_long {
            return Ok(());
        }
    }
}

async fn answer(agent: &Arc<Agent>, request: Request) -> Answer {
    match request {
        Request::Status => Ok(Reply::Status(Box::new(agent.state().await))),
        Request::Peers => agent.peers().await.map(Reply::Peers),
        Request::Crl => Ok(Reply::Crl(agent.lists().await)),
        Request::Config => Ok(Reply::Config(agent.config(true))),
        Request::ConfigHistory => {
            let agent = agent.clone();
            apart(move || agent.config_history()).await.map(Reply::ConfigHistory)
        }
        Request::ConfigDifference { before, after } => {
            let agent = agent.clone();
            apart(move || agent.config_difference((before, after))).await.map(Reply::ConfigDifference)
        }
        Request::ConfirmConfig { lose_center } => {
            agent.confirm_config(lose_center).await.map(|seq| Reply::ConfigChosen { seq })
        }
        Request::RollBackConfig { seq } => {
            agent.roll_back_config(seq).await.map(|seq| Reply::ConfigChosen { seq })
        }
        Request::Update => agent.update().map(|info| Reply::Update(Box::new(info))),
        Request::SetCenter { address } => agent.set_center(address).await.map(|()| Reply::CenterSet),
        Request::Reset => agent.reset().await.map(|restarts| Reply::ResetOrdered { restarts }),
        Request::Time => Ok(Reply::Time(Box::new(agent.time()))),
        Request::Support => {
            let now = u64::try_from(crate::clock::wall_s()).unwrap_or(0);
            let (name, archive) = support::bundle(agent, now).await?;
            Ok(Reply::Support { name, archive: archive.into() })
        }
        Request::Netcheck => Ok(Reply::Netcheck(netcheck::check(agent).await)),
        Request::Logs { stream, count } => {
            let spool = agent.spool()?;
            let count = count.min(super::MAX_RECORDS);
            let read = tokio::task::spawn_blocking(move || spool.newest(stream, count)).await;
            let records = read.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
            Ok(Reply::Logs(records))
        }
        Request::AppendLog(draft) => {
            draft.check().map_err(|error| error.to_string())?;
            let stream = draft.stream;
            let seq = agent.spool()?.append(draft).await.map_err(|error| error.to_string())?;
            Ok(Reply::Appended { stream, seq })
        }
    }
}

/// Work that reads the disk.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}
