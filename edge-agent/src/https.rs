//! HTTPS to the center: TLS 1.3 against the pinned CA only, HTTP/1.1, one connection for each activity.
//!
//! Each task that talks to the center has its own [`Channel`], so a slow log upload never stands before a
//! revocation list. Resumption is off: with it a server may skip the client certificate. What requests mean and
//! when they are repeated is elsewhere.

use crate::clock::Clock;
use edge_agent_core::backoff::parse_retry_after;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use verona_contract::csr::DeviceKey;
use verona_contract::problem::Problem;
use zeroize::Zeroizing;

/// For TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A path that swallows packets is noticed after 10 + 3 × 5 seconds, also during a long-poll.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(5), 3);

/// What is wrong with the center's name, CA or our own certificate: the configuration's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Not `https://host[:port]`.
    #[error("center URL {0}: must be https://host[:port] without a path")]
    Url(String),
    /// The factory record's CA is unusable.
    #[error("center CA: {0}")]
    Ca(String),
    /// Key and certificate do not serve for TLS.
    #[error("TLS identity: {0}")]
    Identity(String),
}

/// Why a request got no 2xx or 304.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection.
    #[error("connect to {authority}: {source}")]
    Connect {
        /// Host and port.
        authority: String,
        /// Of TCP or TLS.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or the answer was no HTTP.
    #[error("{path}: {source}")]
    Exchange {
        /// The request's.
        path: String,
        /// What was wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{path}: no answer within {limit:?}")]
    Timeout {
        /// The request's.
        path: String,
        /// How long it was waited.
        limit: Duration,
    },
    /// The center answered with an error.
    #[error("{path}: {status}: {detail}")]
    Status {
        /// The request's.
        path: String,
        /// Not 2xx, not 304.
        status: StatusCode,
        /// The problem document's detail, or its absence.
        detail: String,
        /// How long to stay away.
        retry_after: Option<Duration>,
    },
}

impl HttpError {
    /// How long the center asked to stay away.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the center answered and the same request will never do: a 4xx that is about the content.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let Self::Status { status, .. } = self else { return false };
        // Not signed in (yet), not there yet, too slow, too early, too many: those may pass.
        status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 425 | 429)
    }

    /// Whether the center answered at all.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Status { status, .. } if !status.is_server_error())
    }
}

/// The center, and who we are to it. Shared by all channels.
pub struct Endpoint {
    authority: String,
    host: String,
    port: u16,
    server: ServerName<'static>,
    roots: Arc<RootCertStore>,
    clock: Arc<Clock>,
    tls: RwLock<Arc<ClientConfig>>,
}

impl Endpoint {
    /// `url` and `ca` are the factory record's. Without a client certificate at first.
    ///
    /// # Errors
    ///
    /// [`EndpointError`].
    pub fn new(url: &str, ca_pem: &str, clock: Arc<Clock>) -> Result<Self, EndpointError> {
        let (host, port) = split(url).ok_or_else(|| EndpointError::Url(url.to_owned()))?;
        let server = ServerName::try_from(host.clone()).map_err(|_| EndpointError::Url(url.to_owned()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            let certificate = certificate.map_err(|error| EndpointError::Ca(error.to_string()))?;
            roots.add(certificate).map_err(|error| EndpointError::Ca(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(EndpointError::Ca("no certificate in PEM".into()));
        }
        let roots = Arc::new(roots);
        let tls = RwLock::new(Arc::new(tls_config(&roots, &clock, None)?));
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        Ok(Self { authority: format!("{shown}:{port}"), host, port, server, roots, clock, tls })
    }

    /// From now on new connections show this certificate.
    ///
    /// # Errors
    ///
    /// [`EndpointError::Identity`].
    pub fn identify(&self, chain: &[Vec<u8>], key: &DeviceKey) -> Result<(), EndpointError> {
        let config = Arc::new(tls_config(&self.roots, &self.clock, Some((chain, key)))?);
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    fn tls(&self) -> Arc<ClientConfig> {
        self.tls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn split(url: &str) -> Option<(String, u16)> {
    let uri: hyper::Uri = url.parse().ok()?;
    let plain = uri.scheme_str() == Some("https") && uri.path() == "/" && uri.query().is_none();
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let userinfo = uri.authority()?.as_str().contains('@');
    (plain && !userinfo).then(|| (host, uri.port_u16().unwrap_or(443)))
}

fn tls_config(
    roots: &Arc<RootCertStore>,
    clock: &Arc<Clock>,
    identity: Option<(&[Vec<u8>], &DeviceKey)>,
) -> Result<ClientConfig, EndpointError> {
    let fail = |error: &dyn fmt::Display| EndpointError::Identity(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(TlsTime(clock.clone())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| fail(&error))?
        .with_root_certificates(roots.clone());
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
            let key = key.to_der().map_err(|error| fail(&error))?;
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec()));
            builder.with_client_auth_cert(chain, key).map_err(|error| fail(&error))?
        }
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

struct TlsTime(Arc<Clock>);

impl fmt::Debug for TlsTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTime")
    }
}

impl TimeProvider for TlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.0.tls_time())
    }
}

/// One request.
#[derive(Clone)]
pub struct Request<'a> {
    /// GET or POST.
    pub method: Method,
    /// From the root, such as `/v1/acks`.
    pub path: &'a str,
    /// Besides Host.
    pub headers: Vec<(header::HeaderName, String)>,
    /// Empty for GET.
    pub body: Bytes,
    /// How long until the whole answer must be there.
    pub limit: Duration,
    /// The longest answer accepted, in octets.
    pub max_answer: usize,
}

impl<'a> Request<'a> {
    /// A POST whose answer is short.
    #[must_use]
    pub fn post(path: &'a str, content_type: &str, body: Vec<u8>) -> Self {
        let headers = vec![(header::CONTENT_TYPE, content_type.to_owned())];
        let limit = Duration::from_secs(30);
        Self { method: Method::POST, path, headers, body: body.into(), limit, max_answer: 256 * 1024 }
    }
}

/// A 2xx or 304.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// As sent, with its quotes.
    pub etag: Option<String>,
    /// The whole body.
    pub body: Bytes,
}

/// One connection, made again when it is gone.
pub struct Channel {
    endpoint: Arc<Endpoint>,
    live: Option<Live>,
}

struct Live {
    sender: SendRequest<Full<Bytes>>,
    tls: Arc<ClientConfig>,
    exporter: Zeroizing<[u8; 32]>,
}

impl Channel {
    /// Connects at the first request.
    #[must_use]
    pub const fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, live: None }
    }

    /// The exporter of the connection that the next request uses ([`verona_contract::pop`]).
    ///
    /// # Errors
    ///
    /// [`HttpError::Connect`].
    pub async fn exporter(&mut self) -> Result<Zeroizing<[u8; 32]>, HttpError> {
        Ok(self.live().await?.exporter.clone())
    }

    /// Sends one request and reads the whole answer. A connection that had served before may have been closed
    /// by the center meanwhile, so its failure is no news: the request then goes over a new one. All requests
    /// of the agent may arrive twice.
    ///
    /// # Errors
    ///
    /// [`HttpError`], also for every status but 2xx and 304.
    pub async fn send(&mut self, request: Request<'_>) -> Result<Answer, HttpError> {
        let reused = self.live.is_some();
        match self.send_once(request.clone()).await {
            Err(HttpError::Exchange { .. }) if reused => self.send_once(request).await,
            answer => answer,
        }
    }

    async fn send_once(&mut self, request: Request<'_>) -> Result<Answer, HttpError> {
        let (path, limit) = (request.path.to_owned(), request.limit);
        let answer = match timeout(limit, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::Timeout { path, limit }),
        };
        if answer.as_ref().is_err_and(|error| !matches!(error, HttpError::Status { .. })) {
            self.live = None;
        }
        answer
    }

    async fn exchange(&mut self, request: Request<'_>) -> Result<Answer, HttpError> {
        let path = request.path.to_owned();
        let fail = |source| HttpError::Exchange { path: path.clone(), source };
        let mut builder = hyper::Request::builder()
            .method(request.method)
            .uri(request.path)
            .header(header::HOST, &self.endpoint.authority)
            .header(header::USER_AGENT, concat!("edge-agent/", env!("CARGO_PKG_VERSION")));
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        let message = builder.body(Full::new(request.body)).map_err(|error| fail(error.into()))?;
        let sender = &mut self.live().await?.sender;
        let answer = sender.send_request(message).await.map_err(|error| fail(error.into()))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, request.max_answer).collect().await.map_err(fail)?.to_bytes();
        let field = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(unix_s) = field(header::DATE).and_then(parse_date) {
            self.endpoint.clock.heard_center(unix_s);
        }
        if head.status.is_success() || head.status == StatusCode::NOT_MODIFIED {
            let etag = field(header::ETAG).map(str::to_owned);
            return Ok(Answer { status: head.status, etag, body });
        }
        let problem = serde_json::from_slice::<Problem>(&body);
        let detail = problem.map_or_else(|_| "no problem document".to_owned(), |problem| problem.detail);
        let retry_after = field(header::RETRY_AFTER).and_then(parse_retry_after);
        Err(HttpError::Status { path, status: head.status, detail, retry_after })
    }

    async fn live(&mut self) -> Result<&mut Live, HttpError> {
        let tls = self.endpoint.tls();
        // After a renewal the old connection would go on with the old certificate.
        let usable = |live: &Live| Arc::ptr_eq(&live.tls, &tls) && !live.sender.is_closed();
        let live = match self.live.take().filter(usable) {
            Some(live) => live,
            None => self.connect(tls).await?,
        };
        Ok(self.live.insert(live))
    }

    async fn connect(&self, tls: Arc<ClientConfig>) -> Result<Live, HttpError> {
        let endpoint = &self.endpoint;
        let fail = |source| HttpError::Connect { authority: endpoint.authority.clone(), source };
        let connecting = async {
            let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
            tcp.set_nodelay(true)?;
            keep_alive(&tcp)?;
            tokio_rustls::TlsConnector::from(tls.clone()).connect(endpoint.server.clone(), tcp).await
        };
        let stream = timeout(CONNECT_TIMEOUT, connecting).await;
        let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(fail)?;
        let exporter = stream
            .get_ref()
            .1
            .export_keying_material([0; 32], verona_contract::pop::EXPORTER_LABEL, None)
            .map_err(|error| fail(io::Error::other(error)))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| fail(io::Error::other(error)))?;
        // Ends when the sender is dropped or the peer closes.
        tokio::spawn(connection);
        Ok(Live { sender, tls, exporter: Zeroizing::new(exporter) })
    }
}

fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    let (idle, interval, count) = KEEPALIVE;
    setsockopt(tcp, sockopt::KeepAlive, &true)?;
    // Small constants.
    setsockopt(tcp, sockopt::TcpKeepIdle, &(idle.as_secs() as u32))?;
    setsockopt(tcp, sockopt::TcpKeepInterval, &(interval.as_secs() as u32))?;
    setsockopt(tcp, sockopt::TcpKeepCount, &count)?;
    // Keepalives stop while data is unacknowledged; this bounds that case.
    let unacknowledged = idle + interval * count;
    setsockopt(tcp, sockopt::TcpUserTimeout, &(unacknowledged.as_millis() as u32))?;
    Ok(())
}

/// `Date` in its one form that is still sent (RFC 9110 §5.6.7), Unix seconds.
fn parse_date(value: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(value).ok().map(|date| date.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, parts) in [
            ("https://center.example", Some(("center.example", 443))),
            ("https://192.0.2.1:8443", Some(("192.0.2.1", 8443))),
            ("https://[2001:db8::1]:8443/", Some(("2001:db8::1", 8443))),
            ("http://center.example", None),
            ("https://center.example/path", None),
            ("https://center.example?x", None),
            ("https://user@center.example", None),
            ("center.example", None),
            ("", None),
        ] {
            assert_eq!(split(url), parts.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_date("yesterday"), None);
    }
}
