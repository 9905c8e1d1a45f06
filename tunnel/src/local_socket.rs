//! A Unix stream socket that serves a bounded number of connections, one thread each.
//!
//! Both local protocols stand on it. Decides who may hold the path (a live socket of another process
//! is respected, a dead one replaced), the file's mode, and how connections end at shutdown. What is
//! said on a connection is left to the handler.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::stop::Stop;

/// Why a socket could not be put at its path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalSocketError {
    /// Another process answers on it.
    #[error("{path} is in use by another process", path = .0.display())]
    InUse(PathBuf),
    /// Something else than a socket has the name; it is not ours to remove.
    #[error("{path} exists and is not a socket", path = .0.display())]
    NotASocket(PathBuf),
    /// A step of creating it failed.
    #[error("{doing} {path} failed", path = .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A listening socket. Its file is removed when this is dropped, unless it was replaced meanwhile.
#[derive(Debug)]
pub(crate) struct LocalListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket file, to recognise it at removal.
    identity: Option<(u64, u64)>,
}

impl LocalListener {
    /// Creates the socket with mode 0600, and its directory with 0755 if it is missing.
    pub(crate) fn bind(path: &Path) -> Result<Self, LocalSocketError> {
        let failed =
            |doing| move |source: io::Error| LocalSocketError::Io { doing, path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(directory)
                .map_err(failed("creating the directory of"))?;
        }
        remove_dead(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed("opening a socket for"))?;
        // Linux gives the file the mode of the socket's own inode, so it never exists with more.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(io::Error::from)
            .map_err(failed("setting the mode of"))?;
        SockAddr::unix(path).and_then(|address| socket.bind(&address)).map_err(failed("binding"))?;
        socket.listen(16).map_err(failed("listening on"))?;
        let listener = UnixListener::from(OwnedFd::from(socket));
        Ok(Self::adopt(listener, path))
    }

    /// Takes over a socket that another process bound to `path` and listens on.
    pub(crate) fn from_fd(fd: OwnedFd, path: &Path) -> Self {
        Self::adopt(UnixListener::from(fd), path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file to a user and a group, with `mode`.
    pub(crate) fn give_to(&self, uid: u32, gid: u32, mode: u32) -> Result<(), LocalSocketError> {
        let failed = |source| LocalSocketError::Io { doing: "giving away", path: self.path.clone(), source };
        chown(&self.path, Some(uid), Some(gid)).map_err(failed)?;
        fs::set_permissions(&self.path, fs::Permissions::from_mode(mode)).map_err(failed)
    }

    fn adopt(listener: UnixListener, path: &Path) -> Self {
        // The process may change its directory before the file is removed.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self { listener, identity: identity(&path), path }
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        if self.identity.is_some() && self.identity == identity(&self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Removes the socket file of a process that is gone: nobody accepts connections on it.
fn remove_dead(path: &Path) -> Result<(), LocalSocketError> {
    match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(LocalSocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| LocalSocketError::Io {
                doing: "removing the dead socket",
                path: path.to_owned(),
                source,
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => Err(LocalSocketError::InUse(path.to_owned())),
    }
}

/// How many connections there may be and how long a read or write may take.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at a time; one more is closed at once.
    pub(crate) connections: usize,
    /// A connection on which nothing is read for so long is closed; `None`: never (subscribers).
    pub(crate) read_timeout: Option<Duration>,
    /// A peer that takes nothing for so long is cut off.
    pub(crate) write_timeout: Duration,
}

/// Accepts connections in a thread of its own and calls `handle` for each in another, until `stop`.
/// The thread ends after all its connections have.
pub(crate) fn serve(
    listener: LocalListener,
    limits: Limits,
    stop: Stop,
    handle: impl Fn(UnixStream) + Send + Sync + 'static,
) -> io::Result<JoinHandle<()>> {
    listener.listener.set_nonblocking(true)?;
    let handle = Arc::new(handle);
    let name = listener.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    thread::Builder::new().name(name).spawn(move || {
        let connections = Connections::default();
        let mut workers: Vec<JoinHandle<()>> = Vec::new();
        while let Some(stream) = accept(&listener.listener, &stop) {
            workers.retain(|worker| !worker.is_finished());
            if workers.len() >= limits.connections || configure(&stream, limits).is_err() {
                continue;
            }
            let Ok(entry) = connections.enter(&stream) else { continue };
            let handle = Arc::clone(&handle);
            let worker = thread::Builder::new().name("connection".to_owned()).spawn(move || {
                handle(stream);
                drop(entry);
            });
            workers.extend(worker);
        }
        // The file goes first: nobody should connect to what is about to end.
        drop(listener);
        connections.shut_down();
        for worker in workers {
            let _ = worker.join();
        }
    })
}

fn configure(stream: &UnixStream, limits: Limits) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(limits.read_timeout)?;
    stream.set_write_timeout(Some(limits.write_timeout))
}

/// Waits for a connection; `None` at `stop` or when the socket failed for good.
fn accept(listener: &UnixListener, stop: &Stop) -> Option<UnixStream> {
    loop {
        let mut fds =
            [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
        if stop.is_set() {
            return None;
        }
        match listener.accept() {
            Ok((stream, _)) => return Some(stream),
            Err(error) => match error.raw_os_error() {
                // Out of descriptors or memory: the connection stays in the backlog, so poll would
                // return at once. Waiting gives others the time to close theirs.
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    thread::sleep(Duration::from_millis(100));
                }
                Some(libc::EBADF | libc::EINVAL) => return None,
                _ => {}
            },
        }
    }
}

/// The live connections, so that shutdown can end reads that wait.
#[derive(Clone, Default)]
struct Connections(Arc<Mutex<ConnectionTable>>);

#[derive(Default)]
struct ConnectionTable {
    next: u64,
    streams: HashMap<u64, UnixStream>,
}

impl Connections {
    fn enter(&self, stream: &UnixStream) -> io::Result<Entry> {
        let stream = stream.try_clone()?;
        let mut table = self.table();
        let id = table.next;
        table.next += 1;
        table.streams.insert(id, stream);
        Ok(Entry { connections: self.clone(), id })
    }

    fn shut_down(&self) {
        for stream in self.table().streams.values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// The table is valid after a panic elsewhere: each change to it is one call.
    fn table(&self) -> MutexGuard<'_, ConnectionTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in [`Connections`], given back when dropped.
struct Entry {
    connections: Connections,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.table().streams.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    const LIMITS: Limits =
        Limits { connections: 2, read_timeout: None, write_timeout: Duration::from_secs(1) };

    #[test]
    fn a_dead_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new").join("x.sock");
        let first = LocalListener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(LocalListener::bind(&path), Err(LocalSocketError::InUse(_))));
        drop(first);
        assert!(!path.exists());
        // A std listener leaves its file behind, as a killed process does.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let second = LocalListener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        drop(second);
        assert!(path.exists(), "a foreign file was removed");
        assert!(matches!(LocalListener::bind(&path), Err(LocalSocketError::NotASocket(_))));
    }

    #[test]
    fn connections_are_bounded_and_end_at_stop() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let stop = Stop::new().unwrap();
        let echo = |mut stream: UnixStream| {
            let mut octet = [0];
            while stream.read_exact(&mut octet).is_ok() && stream.write_all(&octet).is_ok() {}
        };
        let server = serve(LocalListener::bind(&path).unwrap(), LIMITS, stop.clone(), echo).unwrap();
        let mut open: Vec<UnixStream> = (0..2).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let mut octet = [0];
        for stream in &mut open {
            stream.write_all(b"!").unwrap();
            stream.read_exact(&mut octet).unwrap();
        }
        let mut third = UnixStream::connect(&path).unwrap();
        assert_eq!(third.read(&mut octet).unwrap(), 0, "a third connection was served");
        stop.set();
        server.join().unwrap();
        assert_eq!(open[0].read(&mut octet).unwrap(), 0);
        assert!(!path.exists());
    }
}
