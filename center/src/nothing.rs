//! Answers the question for nothing by plain HTTP: 204 without a body to whoever asks for whatever.
//!
//! An edge that does not reach the center asks it, to learn whether a portal stands in between. Nothing else is served
//! here, since anybody on the way can alter it.

use anyhow::Context as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 256;

/// For a whole exchange: whoever takes longer does not ask for nothing.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest question, octets.
const MOST: usize = 4096;

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\nConnection: close\r\nCache-Control: no-store\r\n\r\n";

/// Listens.
///
/// # Errors
///
/// The address is taken.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Answers for ever.
pub(crate) async fn serve(listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: the others must end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        tokio::spawn(async move {
            // The asker's business: it went away, or was slow.
            let _ = tokio::time::timeout(LIMIT, answer(stream)).await;
            drop(place);
        });
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut question, mut length) = ([0; MOST], 0);
    loop {
        let read = stream.read(&mut question[length..]).await?;
        length += read;
        if question[..length].windows(4).any(|end| end == b"\r\n\r\n") {
            break;
        }
        // Too long, or torn: no question.
        if read == 0 || length == MOST {
            return Ok(());
        }
    }
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}
