//! The signer's Unix socket: who may speak, one line in, one line out.

use super::protocol::{Answer, MAX_LINE, Request};
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

/// How long a line may take to come or go, once begun. Connections may be idle for as long as they like.
const LINE_TIMEOUT: Duration = Duration::from_secs(30);

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
    for connection in listener.incoming() {
        match connection {
            Ok(stream) if may_speak(&stream, allowed) => {
                let service = Arc::clone(&service);
                std::thread::spawn(move || converse(&stream, &service));
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
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return;
        }
        let answer = if line.last() == Some(&b'\n') {
            answer(&line, service)
        } else {
            Err(format!("a request is one line of at most {MAX_LINE} octets"))
        };
        if let Err(error) = reply(stream, &answer) {
            tracing::warn!(%error, "answer not delivered");
            return;
        }
    }
}

fn answer(line: &[u8], service: &Service) -> Answer {
    let request: Request = serde_json::from_slice(line).map_err(|error| format!("request: {error}"))?;
    service.answer(request)
}

fn reply(mut stream: &UnixStream, answer: &Answer) -> std::io::Result<()> {
    stream.set_write_timeout(Some(LINE_TIMEOUT))?;
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}
