//! Serves the cross-platform UAPI (wireguard.com/xplatform) on `/var/run/wireguard/<interface>.sock`.
//!
//! `wg`, `wg-quick` and every tool for userspace WireGuard speak it. Here: operations, error numbers,
//! bounds. The text of `set` and `get` is in the files of that name; what a change does is decided by
//! the engine and the sockets.

mod get;
mod set;

pub use set::{SetError, parse_set};

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::device::DeviceHandle;
use crate::lines::{LineError, LineReader};
use crate::local_socket::Limits;
use crate::tun::InterfaceName;

/// Where `wg` looks for userspace interfaces.
const DIRECTORY: &str = "/var/run/wireguard";

/// The longest line of the protocol has some 90 octets.
const LONGEST_LINE: usize = 1024;

/// Lines of one `set`: a bound on the memory that a local root can make us use by mistake, far above
/// a full device.
const MOST_LINES: usize = 4_000_000;

pub(crate) const LIMITS: Limits = Limits {
    connections: 32,
    read_timeout: Some(Duration::from_secs(30)),
    write_timeout: Duration::from_secs(30),
};

/// The socket's path for an interface.
pub(crate) fn socket_path(name: &InterfaceName) -> PathBuf {
    PathBuf::from(format!("{DIRECTORY}/{name}.sock"))
}

/// Answers operations until the peer closes the connection or breaks the protocol.
pub(crate) fn handle(stream: &UnixStream, device: &DeviceHandle) {
    let mut lines = LineReader::new(stream, LONGEST_LINE);
    while let Ok(Some(operation)) = lines.next_line() {
        let errno = match operation {
            b"get=1" => get(&mut lines, stream, device),
            b"set=1" => set(&mut lines, device),
            _ => return,
        };
        let Ok(errno) = errno else { return };
        // `wg` and wireguard-go agree on negative numbers here.
        let mut stream = stream;
        if write!(stream, "errno={}\n\n", -errno).is_err() {
            return;
        }
    }
}

/// The connection is of no further use: it ended, or its lines are no protocol.
struct Broken;

impl From<LineError> for Broken {
    fn from(_: LineError) -> Self {
        Self
    }
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

fn get(
    lines: &mut LineReader<&UnixStream>,
    mut stream: &UnixStream,
    device: &DeviceHandle,
) -> Result<i32, Broken> {
    match lines.next_line()? {
        Some(b"") => {}
        Some(_) => return Ok(libc::EINVAL),
        None => return Err(Broken),
    }
    let Ok(snapshot) = device.snapshot() else { return Ok(libc::ENODEV) };
    stream.write_all(get::print(&snapshot).as_bytes())?;
    Ok(0)
}

/// Reads to the empty line also after an error, so that the next operation is found.
fn set(lines: &mut LineReader<&UnixStream>, device: &DeviceHandle) -> Result<i32, Broken> {
    let mut parser = set::SetParser::default();
    let mut error = None;
    for _ in 0..MOST_LINES {
        let Some(line) = lines.next_line()? else { return Err(Broken) };
        if line.is_empty() {
            return Ok(finish(parser, error, device));
        }
        if error.is_none() {
            error = parser.line(line).err();
        }
    }
    Err(Broken)
}

fn finish(parser: set::SetParser, error: Option<SetError>, device: &DeviceHandle) -> i32 {
    if let Some(error) = error {
        tracing::warn!("configuration refused: {error}");
        return error.errno();
    }
    match device.configure(parser.finish()) {
        Ok(()) => 0,
        Err(error) => {
            tracing::warn!("configuration refused: {error}");
            error.errno()
        }
    }
}
