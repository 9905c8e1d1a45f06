//! The web server in the edge's LAN: a page, and a download without end at a steady pace.
//!
//! HTTP/1.0 as far as `curl` and the lab's own [`crate::Download`] need it. One thread a connection.

use crate::{Error, Result};
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
