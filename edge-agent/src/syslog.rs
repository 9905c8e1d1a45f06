//! Records to a customer's collector: syslog over TLS (RFC 5425), beside what goes to the center. TLS 1.2 as well as
//! 1.3, since much of what is installed speaks no newer one (RFC 9662): with forward secrecy and AEAD only.
//!
//! It reads the spool by a cursor of its own and holds up nobody. Syslog has no acknowledgement: what the collector's
//! TCP has acknowledged counts as taken, so a collector that dies just then lacks what it had not read yet, and one
//! that comes back may get some records again, which it knows by stream and number. The messages are
//! `edge_agent_core::syslog`.

use crate::bundles::Wanted;
use crate::center::{chain, entropy};
use crate::clock::Clock;
use crate::endpoint::{TlsTime, keep_alive};
use crate::spool::Spool;
use crate::store::StoreError;
use crate::sys;
use edge_agent_core::backoff::Backoff;
use edge_agent_core::syslog::{frame, gap};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;
use verona_contract::config::SyslogConfig;
use verona_contract::log::{Record, Stream};

/// For TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(15);

/// How long one segment may take: a collector that reads no faster is as good as away.
const DELIVER: Duration = Duration::from_secs(120);

/// Between two looks at what is acknowledged.
const SETTLE: Duration = Duration::from_millis(20);

/// Records that come within this time travel together.
const GATHER: Duration = Duration::from_millis(200);

/// Longest pause between two attempts: the customer sees his collector as long as that without news.
const CAP: Duration = Duration::from_secs(60);

/// Why the collector does not get its records; none = it does, or there is none.
pub type Failure = Arc<Mutex<Option<String>>>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyslogError {
    /// The connection: name, TCP, TLS, or in the middle.
    #[error("collector {0}")]
    Connection(String, #[source] io::Error),
    /// Its CA cannot be used.
    #[error("logs.syslog.ca")]
    Ca(#[source] rustls::Error),
    /// The spool.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread of ours.
    #[error("reading the spool")]
    Task(#[from] tokio::task::JoinError),
}

/// Forwards for ever, to the collector of the configuration in force.
pub async fn run(
    spool: Spool,
    mut wanted: watch::Receiver<Option<Wanted>>,
    clock: Arc<Clock>,
    failure: Failure,
) {
    let mut backoff = Backoff::new(CAP);
    wanted.mark_changed();
    loop {
        let config = configured(&mut wanted);
        show(&failure, None);
        let Some(config) = config else {
            forward(&spool, &[]).await;
            if changed(&mut wanted, None).await.is_err() {
                return;
            }
            continue;
        };
        forward(&spool, &config.streams).await;
        tokio::select! {
            biased;
            gone = changed(&mut wanted, Some(&config)) => if gone.is_err() { return },
            Err(error) = deliver(&spool, &config, &clock, (&mut backoff, &failure)) => {
                let told = chain(&error);
                tracing::warn!(error = told, "syslog");
                show(&failure, Some(told));
                tokio::select! {
                    gone = changed(&mut wanted, Some(&config)) => if gone.is_err() { return },
                    () = sleep(backoff.delay(entropy(), None)) => {}
                }
            }
        }
    }
}

fn configured(wanted: &mut watch::Receiver<Option<Wanted>>) -> Option<SyslogConfig> {
    wanted.borrow_and_update().as_ref().and_then(|wanted| wanted.bundle.config().logs.syslog.clone())
}

/// Waits until the configuration wants something else than `config`.
async fn changed(
    wanted: &mut watch::Receiver<Option<Wanted>>,
    config: Option<&SyslogConfig>,
) -> Result<(), watch::error::RecvError> {
    let other = |wanted: &Option<Wanted>| {
        wanted.as_ref().and_then(|wanted| wanted.bundle.config().logs.syslog.as_ref()) != config
    };
    wanted.wait_for(other).await.map(drop)
}

fn show(failure: &Failure, text: Option<String>) {
    *failure.lock().unwrap_or_else(PoisonError::into_inner) = text;
}

async fn forward(spool: &Spool, streams: &[Stream]) {
    let (spool, streams) = (spool.clone(), streams.to_vec());
    match tokio::task::spawn_blocking(move || spool.forward(&streams)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(error = chain(&error), "syslog"),
        Err(error) => tracing::error!(%error, "syslog"),
    }
}

/// Delivers until the connection fails.
async fn deliver(
    spool: &Spool,
    config: &SyslogConfig,
    clock: &Arc<Clock>,
    (backoff, failure): (&mut Backoff, &Failure),
) -> Result<std::convert::Infallible, SyslogError> {
    let broken = |error| SyslogError::Connection(format!("{} port {}", config.host, config.port), error);
    let mut connection = connect(config, clock).await?;
    tracing::info!(host = config.host, port = config.port, "syslog collector reached");
    let mut written = spool.written();
    loop {
        written.borrow_and_update();
        let mut idle = true;
        for stream in Stream::ALL.into_iter().rev().filter(|stream| config.streams.contains(stream)) {
            let Some((text, last)) = next(spool, stream).await? else { continue };
            idle = false;
            let sent = timeout(DELIVER, send(&mut connection, &text)).await;
            sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(broken)?;
            let writer = spool.clone();
            tokio::task::spawn_blocking(move || writer.forwarded(stream, last)).await??;
            backoff.succeeded();
            show(failure, None);
        }
        let mut octet = [0];
        tokio::select! {
            // It says nothing; this is its end.
            read = connection.read(&mut octet) => match read {
                Ok(0) => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(broken(error)),
            },
            _ = written.changed(), if idle => sleep(GATHER).await,
            () = sleep(GATHER), if !idle => {}
        }
    }
}

/// The frames of the next records that it does not have, at most about one segment, and the last one's number.
async fn next(spool: &Spool, stream: Stream) -> Result<Option<(Vec<u8>, u64)>, SyslogError> {
    let reader = spool.clone();
    let (had, records) = tokio::task::spawn_blocking(move || {
        // First, so that records that go meanwhile are told as missing rather than not at all.
        let had = reader.collector_has(stream);
        reader.unforwarded(stream).map(|records| (had, records))
    })
    .await??;
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(None) };
    let mut text = Vec::new();
    if let Some(had) = had.filter(|had| *had > 0 && first.seq > had + 1) {
        text.extend(gap(first, had + 1, first.seq - 1));
    }
    text.extend(records.iter().flat_map(|record: &Record| frame(record)));
    Ok(Some((text, last.seq)))
}

/// Returns when the other side's TCP has it.
async fn send(connection: &mut TlsStream<TcpStream>, text: &[u8]) -> io::Result<()> {
    connection.write_all(text).await?;
    connection.flush().await?;
    while sys::unacknowledged(connection.get_ref().0.as_fd())? > 0 {
        sleep(SETTLE).await;
    }
    // What was acknowledged before a reset is in nobody's hands.
    connection.get_ref().0.take_error()?.map_or(Ok(()), Err)
}

async fn connect(config: &SyslogConfig, clock: &Arc<Clock>) -> Result<TlsStream<TcpStream>, SyslogError> {
    let broken = |error| SyslogError::Connection(format!("{} port {}", config.host, config.port), error);
    let tls = tls_config(config, clock).map_err(SyslogError::Ca)?;
    let name = ServerName::try_from(config.host.clone()).map_err(|error| broken(io::Error::other(error)))?;
    let connecting = async {
        let tcp = TcpStream::connect((config.host.as_str(), config.port)).await?;
        keep_alive(&tcp)?;
        tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, tcp).await
    };
    timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(broken)
}

fn tls_config(config: &SyslogConfig, clock: &Arc<Clock>) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in &config.ca {
        roots.add(CertificateDer::from(certificate.0.clone()))?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(TlsTime(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.resumption = Resumption::disabled();
    // TLS 1.2 binds its keys to the whole handshake by this only (RFC 7627).
    tls.require_ems = true;
    Ok(tls)
}
