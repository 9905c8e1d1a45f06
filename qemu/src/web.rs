//! The web server in the edge's LAN: a page, and a download without end at a steady pace.
//!
//! HTTP/1.0 as far as `curl` and the lab's own [`crate::Download`] need it. One thread a connection.

use crate::{Error, Namespace, Process, Result, wait, workspace};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// What `GET /` answers.
pub const PAGE: &str = "hello from the LAN behind the edge\n";
/// Octets in one piece of the download: one packet in the tunnel.
const PIECE: usize = 1200;
/// Pause between two pieces: 4.8 Mbit/s, and a cut is seen to 2 ms.
const PACE: Duration = Duration::from_millis(2);

/// Serves `GET /` and `GET /download` at `address` until the process ends.
///
/// # Errors
///
/// The address cannot be bound.
pub fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).map_err(Error::io(format!("listen at {address}")))?;
    for stream in listener.incoming().flatten() {
        // A visitor who goes away in the middle is no fault of the server.
        std::thread::spawn(move || answer(stream));
    }
    Ok(())
}

/// Starts the server as a process of its own in `place`, and waits until it answers there.
///
/// # Errors
///
/// It does not come up.
pub fn start(place: &Namespace, address: SocketAddr) -> Result<Process> {
    let mut command = place.command(workspace::binary("lab")?);
    command.args(["serve", &address.to_string()]);
    let mut process = place.run().start_process("web", command)?;
    wait::for_value("the web server", Duration::from_secs(10), || {
        process.must_run()?;
        Ok(fetch(place, address).ok())
    })?;
    Ok(process)
}

/// `GET /` by curl from inside `place`, with a second's patience.
///
/// # Errors
///
/// The answer is not 200 and the page.
pub fn fetch(place: &Namespace, server: SocketAddr) -> Result<()> {
    let url = format!("http://{server}/");
    let answer = place.output("curl", &["-sS", "--max-time", "1", "-w", "%{http_code}", &url])?;
    if answer == format!("{PAGE}200") {
        return Ok(());
    }
    Err(Error::Environment(format!("{url} answered {answer:?}")))
}

/// Repeats [`fetch`] until it succeeds.
///
/// # Errors
///
/// It has not within `limit`.
pub fn fetch_soon(place: &Namespace, server: SocketAddr, limit: Duration) -> Result<()> {
    let what = format!("GET http://{server}/ from {}", place.name());
    wait::for_value(&what, limit, || Ok(fetch(place, server).ok()))
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    match request.split_whitespace().nth(1) {
        Some("/") => {
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{PAGE}", PAGE.len())
        }
        Some("/download") => {
            write!(stream, "HTTP/1.0 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(&[b'.'; PIECE])?;
                std::thread::sleep(PACE);
            }
        }
        _ => write!(stream, "HTTP/1.0 404 Not Found\r\n\r\n"),
    }
}
