//! The accept loop: TCP, TLS, HTTP/1.1, with a limit on everything a stranger can make us hold.

use super::connection::{Connection, Source};
use super::places::{Place, Places};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::NamedGroup;
use rustls::crypto::SupportedKxGroup;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;
use verona_contract::pop::EXPORTER_LABEL;

/// Open connections; each edge holds a handful. Above it new ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 20_000;

/// TLS handshakes at once: they are the expensive part, and strangers can ask for them.
const MAX_HANDSHAKES: usize = 256;

/// Connections of one source: a large site behind one address. A stranger with one address can neither take
/// them all nor hold the handshakes of others.
const MAX_CONNECTIONS_PER_SOURCE: usize = 512;

/// TLS handshakes of one source at once; more of them wait for each other.
const MAX_HANDSHAKES_PER_SOURCE: usize = 32;

/// The handshakes of one source.
struct Handshakes(Semaphore);

impl Default for Handshakes {
    fn default() -> Self {
        Self(Semaphore::new(MAX_HANDSHAKES_PER_SOURCE))
    }
}

type SourcePlace = Place<Source, Handshakes>;

/// From connect to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// For one request's head, and for a connection to be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Most octets of a request's head.
const MAX_HEAD: usize = 32 * 1024;

/// What requests in flight get at the end.
const GRACE: Duration = Duration::from_secs(5);

/// Accepts until `stop` turns true, then lets requests in flight end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let sources = Places::<Source, Handshakes>::new(MAX_CONNECTIONS_PER_SOURCE);
    let mut tasks = JoinSet::new();
    loop {
        let next = tokio::select! {
            next = accept(&listener, &connections) => next,
            () = stopped(&mut stop) => break,
            Some(_) = tasks.join_next() => continue,
        };
        let Some((stream, remote, permit)) = next else { continue };
        let Some(place) = sources.take(Source::of(remote.ip())) else {
            tracing::debug!(%remote, "too many connections of this source; closed");
            continue;
        };
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        let handshakes = Arc::clone(&handshakes);
        tasks.spawn(async move {
            let _permit = permit;
            if let Some(stream) = handshake(stream, remote, &tls, &place, &handshakes).await {
                converse(stream, remote, router, stop).await;
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!(open = tasks.len(), "connections cut at the end of the grace time");
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, remote)) => Some((stream, remote, permit)),
        Err(error) => {
            tracing::error!(%error, "accept failed");
            // Out of file descriptors: trying at once again would only burn the processor.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

async fn handshake(
    stream: TcpStream,
    remote: SocketAddr,
    tls: &TlsAcceptor,
    place: &SourcePlace,
    handshakes: &Semaphore,
) -> Option<TlsStream<TcpStream>> {
    // Small answers to long-polls must not wait for Nagle; a socket that refuses works all the same.
    let _ = stream.set_nodelay(true);
    let run = async {
        // Its own first: who waits for his neighbours must not hold what others need.
        let _own = place.shared.0.acquire().await.ok()?;
        let _permit = handshakes.acquire().await.ok()?;
        match tls.accept(stream).await {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::debug!(%remote, %error, "TLS handshake failed");
                None
            }
        }
    };
    tokio::time::timeout(HANDSHAKE_TIMEOUT, run).await.ok().flatten()
}

async fn converse(
    stream: TlsStream<TcpStream>,
    remote: SocketAddr,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let (_, tls) = stream.get_ref();
    let certificate =
        tls.peer_certificates().and_then(|chain| chain.first()).map(|leaf| Arc::from(leaf.as_ref()));
    let Ok(exporter) = tls.export_keying_material([0; 32], EXPORTER_LABEL, None) else { return };
    let group = tls.negotiated_key_exchange_group().map(SupportedKxGroup::name);
    let post_quantum = group == Some(NamedGroup::X25519MLKEM768);
    let connection = Connection { remote, certificate, post_quantum, exporter };
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (router, connection) = (router.clone(), connection.clone());
        async move {
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(connection);
            Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
        }
    });
    let conversation = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(conversation);
    let result = tokio::select! {
        result = conversation.as_mut() => result,
        () = stopped(&mut stop) => {
            conversation.as_mut().graceful_shutdown();
            conversation.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%remote, %error, "connection ended");
    }
}

/// Ends when the process is to end, also when who would say so is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
