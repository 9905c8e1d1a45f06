//! The signer's Unix socket: who may speak, one line in, one line out.

use super::protocol::{Answer, MAX_LINE, Reply, Request};
use super::service::Service;
use crate::private_file::FileError;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::{Zeroize as _, Zeroizing};

/// For each wait on the peer, either way. Who has nothing to ask closes.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections at once, a thread each; one more is closed.
const MAX_CONNECTIONS: usize = 512;

/// Binds the socket. Its mode lets only the signer's own user in, or everyone when `others` may ask: then
/// the peer's credentials alone decide.
///
/// # Errors
///
/// When the path cannot be bound.
pub(crate) fn bind(path: &Path, others: bool) -> Result<UnixListener, FileError> {
    // Left by a run that was killed. One that is alive still answers, and is not thrown out.
    if UnixStream::connect(path).is_ok() {
        return Err(FileError::at("bind", path)(std::io::ErrorKind::AddrInUse.into()));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(FileError::at("remove", path)(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(FileError::at("bind", path))?;
    let mode = std::fs::Permissions::from_mode(if others { 0o666 } else { 0o600 });
    std::fs::set_permissions(path, mode).map_err(FileError::at("set the mode of", path))?;
    Ok(listener)
}

/// Serves for ever, a thread for each connection.
pub(crate) fn serve(listener: &UnixListener, service: Service, allowed: &[Uid]) {
    let service = Arc::new(service);
    // Each conversation holds one.
    let open = Arc::new(());
    for connection in listener.incoming() {
        match connection {
            Ok(stream) if may_speak(&stream, allowed) => {
                if Arc::strong_count(&open) > MAX_CONNECTIONS {
                    tracing::warn!("more than {MAX_CONNECTIONS} connections at once; closed");
                    continue;
                }
                let (service, open) = (Arc::clone(&service), Arc::clone(&open));
                std::thread::spawn(move || {
                    converse(&stream, &service);
                    drop(open);
                });
            }
            Ok(_) => tracing::warn!("connection by another user refused"),
            Err(error) => {
                tracing::error!(%error, "accept failed");
                // Out of file descriptors: trying at once again would only burn the processor.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn may_speak(stream: &UnixStream, allowed: &[Uid]) -> bool {
    getsockopt(stream, PeerCredentials).is_ok_and(|peer| {
        let uid = Uid::from_raw(peer.uid());
        uid.is_root() || uid == Uid::effective() || allowed.contains(&uid)
    })
}

fn converse(stream: &UnixStream, service: &Service) {
    if let Err(error) = stream.set_read_timeout(Some(WAIT_TIMEOUT)) {
        tracing::warn!(%error, "connection closed: its read timeout cannot be set");
        return;
    }
    let mut reader = BufReader::new(stream);
    // Configurations hold the roots of preshared keys.
    let mut line = Zeroizing::new(Vec::new());
    loop {
        line.zeroize();
        let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return;
        }
        let answer = if line.last() == Some(&b'\n') {
            answer(&line, service)
        } else {
            Err(format!("a request is one line of at most {MAX_LINE} octets"))
        };
        if let Err(error) = reply(stream, answer) {
            tracing::warn!(%error, "answer not delivered");
            return;
        }
    }
}

fn answer(line: &[u8], service: &Service) -> Answer {
    let request: Request = serde_json::from_slice(line).map_err(|error| format!("request: {error}"))?;
    service.answer(request)
}

fn reply(mut stream: &UnixStream, mut answer: Answer) -> std::io::Result<()> {
    stream.set_write_timeout(Some(WAIT_TIMEOUT))?;
    let mut line = Zeroizing::new(serde_json::to_vec(&answer)?);
    if let Ok(Reply::Bundle(envelope)) = &mut answer {
        envelope.payload.0.zeroize();
    }
    line.push(b'\n');
    stream.write_all(&line)
}
