//! HTTPS to the center: TLS 1.3 with the pinned CA, HTTP/1.1, JSON.
//!
//! One [`Connection`] is one TLS session, because a proof of possession is bound to it: its keying material
//! is exported here and the challenge and the answer go over it. Answers are bounded in size and time. What
//! to ask, and what to make of a refusal, is the caller's business.

use crate::identity::{Identity, Keys};
use crate::pin::{PinMismatch, PinnedVerifier};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use verona_contract::pop::EXPORTER_LABEL;
use verona_contract::problem::Problem;
use zeroize::Zeroizing;

/// For the name, the connection and TLS together.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// For one request and its answer; the center signs certificates meanwhile.
const REQUEST_TIME: Duration = Duration::from_secs(20);
/// The largest answer, octets: a profile with a thousand edges.
const MAX_ANSWER: usize = 1024 * 1024;

/// Why the center did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CenterError {
    /// The configured address is none.
    #[error("center address {0:?} must be https://host[:port]")]
    Address(String),
    /// No connection: the network's fault, or the center's.
    #[error("center {authority} cannot be reached")]
    Unreachable { authority: String, source: io::Error },
    /// Another center, or somebody in between.
    #[error("{authority} is not the center of the enrolment code: its CA does not have the pinned key")]
    WrongPin { authority: String },
    /// TLS failed otherwise.
    #[error("TLS with center {authority} failed")]
    Tls { authority: String, source: io::Error },
    /// The connection broke in the middle.
    #[error("center {authority} did not answer {path}")]
    Broken { authority: String, path: &'static str, source: hyper::Error },
    /// No answer in time.
    #[error("center {authority} did not answer {path} within {limit} s", limit = REQUEST_TIME.as_secs())]
    Slow { authority: String, path: &'static str },
    /// The center said no.
    #[error("the center refuses: {}", .0.detail)]
    Refused(Problem),
    /// The answer is not of the API.
    #[error("center {authority} answered {path} with {what}")]
    Answer { authority: String, path: &'static str, what: String },
    /// Our own certificate or key is unusable for TLS.
    #[error("our device certificate is unusable for TLS")]
    Identity(#[source] rustls::Error),
    /// Our device key does not encode.
    #[error(transparent)]
    Key(#[from] verona_contract::csr::DeviceKeyError),
}

impl CenterError {
    /// The type of the center's problem document ([`verona_contract::problem::kind`]), when there was one.
    pub(crate) fn problem(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) => Some(&problem.kind),
            _ => None,
        }
    }
}

/// Where the center is and how to know it.
pub(crate) struct Center {
    name: ServerName<'static>,
    /// As in the URL.
    authority: String,
    host: String,
    port: u16,
    tls: TlsConnector,
    /// SO_MARK of the connections, so that they pass beside our own tunnel.
    mark: Option<u32>,
}

impl Center {
    /// Without a client certificate: serves for enrolment only.
    pub(crate) fn anonymous(url: &str, pin: [u8; 32]) -> Result<Self, CenterError> {
        Self::new(url, pin, None)
    }

    /// With the device certificate.
    pub(crate) fn identified(identity: &Identity, keys: &Keys) -> Result<Self, CenterError> {
        let chain = [&identity.device_certificate, &identity.issuer]
            .map(|certificate| CertificateDer::from(certificate.0.clone()));
        let key = PrivatePkcs8KeyDer::from(keys.device.to_der()?.to_vec());
        Self::new(&identity.center, identity.pin, Some((chain.to_vec(), key.into())))
    }

    /// Marks the connections with `mark` (SO_MARK); needs CAP_NET_ADMIN.
    pub(crate) fn marked(self, mark: u32) -> Self {
        Self { mark: Some(mark), ..self }
    }

    fn new(
        url: &str,
        pin: [u8; 32],
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self, CenterError> {
        let (authority, host, port) = parse_url(url).ok_or_else(|| CenterError::Address(url.to_owned()))?;
        let name = ServerName::try_from(host.clone()).map_err(|_| CenterError::Address(url.to_owned()))?;
        // What comes holds preshared keys; they are to outlast a quantum computer.
        let kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
        let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
        let provider = Arc::new(provider);
        let verifier = Arc::new(PinnedVerifier::new(pin, Arc::clone(&provider)));
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(CenterError::Identity)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            Some((chain, key)) => config.with_client_auth_cert(chain, key).map_err(CenterError::Identity)?,
            None => config.with_no_client_auth(),
        };
        // A resumed session would skip the center's check of our certificate.
        config.resumption = Resumption::disabled();
        Ok(Self { name, authority, host, port, tls: TlsConnector::from(Arc::new(config)), mark: None })
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connection, CenterError> {
        match timeout(CONNECT_TIME, self.connect_unbounded()).await {
            Ok(result) => result,
            Err(_) => Err(self.unreachable(io::ErrorKind::TimedOut.into())),
        }
    }

    async fn connect_unbounded(&self) -> Result<Connection, CenterError> {
        let tcp = self.connect_tcp().await.map_err(|error| self.unreachable(error))?;
        let tls = self.tls.connect(self.name.clone(), tcp).await.map_err(|error| self.tls_error(error))?;
        let exporter = tls
            .get_ref()
            .1
            .export_keying_material(Zeroizing::new([0; 32]), EXPORTER_LABEL, None)
            .map_err(|error| self.tls_error(io::Error::other(error)))?;
        let broken = |source| CenterError::Broken { authority: self.authority.clone(), path: "/", source };
        let (requests, connection) = handshake(TokioIo::new(tls)).await.map_err(broken)?;
        // It ends with the last request handle; its errors reach the request that meets them.
        tokio::spawn(connection);
        Ok(Connection { authority: self.authority.clone(), requests, exporter })
    }

    async fn connect_tcp(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in lookup_host((self.host.as_str(), self.port)).await? {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(mark) = self.mark {
                setsockopt(&socket, sockopt::Mark, &mark)?;
            }
            match socket.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn unreachable(&self, source: io::Error) -> CenterError {
        CenterError::Unreachable { authority: self.authority.clone(), source }
    }

    fn tls_error(&self, source: io::Error) -> CenterError {
        let tls = source.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        let mismatch = match tls {
            Some(rustls::Error::InvalidCertificate(CertificateError::Other(error))) => {
                error.0.downcast_ref::<PinMismatch>().is_some()
            }
            _ => false,
        };
        let authority = self.authority.clone();
        if mismatch { CenterError::WrongPin { authority } } else { CenterError::Tls { authority, source } }
    }
}

/// Authority, host without brackets, port.
fn parse_url(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    let only_authority = matches!(uri.path(), "" | "/") && uri.query().is_none();
    if uri.scheme_str() != Some("https") || !only_authority || authority.as_str().contains('@') {
        return None;
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Some((authority.as_str().to_owned(), host.to_owned(), authority.port_u16().unwrap_or(443)))
}

/// One TLS session with the center.
pub(crate) struct Connection {
    authority: String,
    requests: SendRequest<Full<Bytes>>,
    exporter: Zeroizing<[u8; 32]>,
}

impl Connection {
    /// What binds a proof to this session (RFC 8446 §7.5).
    pub(crate) fn exporter(&self) -> &[u8; 32] {
        &self.exporter
    }

    /// `GET`s JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &'static str) -> Result<T, CenterError> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// `POST`s JSON and reads JSON.
    pub(crate) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<T, CenterError> {
        let body = serde_json::to_vec(body).map_err(|error| self.answer(path, error.to_string()))?;
        self.send(Method::POST, path, body.into()).await
    }

    async fn send<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &'static str,
        body: Bytes,
    ) -> Result<T, CenterError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.answer(path, error.to_string()))?;
        let (status, body) = match timeout(REQUEST_TIME, self.exchange(path, request)).await {
            Ok(result) => result?,
            Err(_) => return Err(CenterError::Slow { authority: self.authority.clone(), path }),
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.answer(path, error.to_string()));
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(CenterError::Refused(problem)),
            Err(_) => Err(self.answer(path, format!("status {status} and no problem document"))),
        }
    }

    async fn exchange(
        &mut self,
        path: &'static str,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CenterError> {
        let broken = |source| CenterError::Broken { authority: self.authority.clone(), path, source };
        let response = self.requests.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| self.answer(path, format!("a body that broke off: {error}")))?;
        Ok((status, body.to_bytes()))
    }

    fn answer(&self, path: &'static str, what: String) -> CenterError {
        CenterError::Answer { authority: self.authority.clone(), path, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::NamedGroup;
    use rustls::server::Acceptor;
    use tokio_rustls::LazyConfigAcceptor;

    /// A center, or one in its place, that knows classical groups only gets no connection.
    #[tokio::test]
    async fn the_key_exchange_is_post_quantum_or_there_is_none() {
        let center = Center::anonymous("https://center.example", [0; 32]).unwrap();
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        tokio::spawn(center.tls.connect(center.name, ours));
        let accepted = LazyConfigAcceptor::new(Acceptor::default(), theirs).await.unwrap();
        assert_eq!(accepted.client_hello().named_groups(), Some(&[NamedGroup::X25519MLKEM768][..]));
    }

    #[test]
    fn addresses() {
        let table = [
            ("https://center.example", Some(("center.example", 443))),
            ("https://center.example:8443/", Some(("center.example", 8443))),
            ("https://10.0.0.1:8443", Some(("10.0.0.1", 8443))),
            ("https://[fd00::1]:8443", Some(("fd00::1", 8443))),
            ("http://center.example", None),
            ("https://center.example/path", None),
            ("https://user@center.example", None),
            ("center.example", None),
            ("", None),
        ];
        for (url, expected) in table {
            let parsed = parse_url(url).map(|(_, host, port)| (host, port));
            assert_eq!(parsed, expected.map(|(host, port)| (host.to_owned(), port)), "{url}");
        }
    }
}
