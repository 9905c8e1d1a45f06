//! The center as a TLS server, and who we are to it: name, pinned CA, client certificate.
//!
//! TLS 1.3 only, verified at a time that is never before the floor. Resumption is off: with it a server may skip
//! the client certificate. What goes over the connections is [`crate::https`].

use crate::clock::Clock;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use verona_contract::csr::DeviceKey;

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

    /// The name or address alone.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What the name stands for now.
    ///
    /// # Errors
    ///
    /// It does not resolve.
    pub async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((self.host.as_str(), self.port)).await?.collect())
    }

    /// A new connection that shows the certificate of `tls`.
    pub(crate) async fn connect(&self, tls: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
        tcp.set_nodelay(true)?;
        keep_alive(&tcp)?;
        tokio_rustls::TlsConnector::from(tls).connect(self.server.clone(), tcp).await
    }

    /// Notes the `Date` of an answer.
    pub(crate) fn heard(&self, unix_s: i64) {
        self.clock.heard_center(unix_s);
    }

    /// What a connection made now shows. A connection made with another one is not to be used any more.
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
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
    // What comes holds the roots of preshared keys; they are to outlast a quantum computer.
    let kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    let provider = Arc::new(provider);
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

/// Certificates are checked at a time that is never before the floor.
pub(crate) struct TlsTime(pub(crate) Arc<Clock>);

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

/// Has TCP notice a path that swallows packets.
pub(crate) fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use edge_agent_core::clock::TrustMode;
    use rustls::NamedGroup;
    use rustls::server::Acceptor;

    /// A center, or one in its place, that knows classical groups only gets no connection.
    #[test]
    fn the_key_exchange_is_post_quantum_or_there_is_none() {
        let clock = Arc::new(Clock::load(TrustMode::Always, "no such file".into()));
        let config = tls_config(&Arc::new(RootCertStore::empty()), &clock, None).unwrap();
        let name = ServerName::try_from("center.example").unwrap();
        let mut hello = Vec::new();
        rustls::ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut &hello[..]).unwrap();
        let accepted = acceptor.accept().unwrap().expect("a whole hello");
        assert_eq!(accepted.client_hello().named_groups(), Some(&[NamedGroup::X25519MLKEM768][..]));
    }

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
}
