//! TLS of the center: version 1.3 only, X25519MLKEM768 first, no resumption, client certificate optional.
//!
//! A resumed session would skip the client certificate, so there are no tickets. The verifier checks only
//! that the peer holds the key of the certificate it shows: whose it is, and for what, each endpoint decides
//! ([`super::caller`]), since a box with an expired birth certificate must still be able to enrol.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use std::sync::{Arc, PoisonError, RwLock};
use verona_contract::csr::DeviceKey;

/// TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// rustls refused key, certificate or parameters.
    #[error("TLS server setup")]
    Rustls(#[from] rustls::Error),
    /// The server key cannot be encoded.
    #[error("TLS server key")]
    Key(#[from] verona_contract::csr::DeviceKeyError),
}

/// The server's key and certificate; replaced while it runs.
#[derive(Debug)]
pub(crate) struct ServerIdentity(RwLock<Arc<CertifiedKey>>);

impl ServerIdentity {
    /// `leaf` and its CA, DER.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when key and leaf do not fit.
    pub(crate) fn new(key: &DeviceKey, leaf: &[u8], ca: &[u8]) -> Result<Self, TlsError> {
        Ok(Self(RwLock::new(certified(key, leaf, ca)?)))
    }

    /// New connections get this leaf.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when key and leaf do not fit; the old one stays.
    pub(crate) fn replace(&self, key: &DeviceKey, leaf: &[u8], ca: &[u8]) -> Result<(), TlsError> {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = certified(key, leaf, ca)?;
        Ok(())
    }
}

fn certified(key: &DeviceKey, leaf: &[u8], ca: &[u8]) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = vec![CertificateDer::from(leaf.to_vec()), CertificateDer::from(ca.to_vec())];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_der()?.to_vec()));
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?))
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The configuration of the listener.
///
/// # Errors
///
/// [`TlsError`].
pub(crate) fn server_config(identity: Arc<ServerIdentity>) -> Result<ServerConfig, TlsError> {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(HoldsItsKey(provider.signature_verification_algorithms));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts every certificate whose key the peer holds.
#[derive(Debug)]
struct HoldsItsKey(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for HoldsItsKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
