//! Knows the center by the key of its CA: the pin that came with the enrolment code.
//!
//! Of the chain that the server presents, the certificate whose `SubjectPublicKeyInfo` has the pinned
//! SHA-256 becomes the only root; path, dates, names and signatures are then webpki's to check. Public CAs
//! mean nothing here, and a CA that merely copies the name of ours does not pass.

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// No certificate of the chain holds the pinned key: another center, or somebody in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server does not present the CA that is pinned in the enrolment code")]
pub(crate) struct PinMismatch;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct PinnedVerifier {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl PinnedVerifier {
    /// `pin` is the SHA-256 of the CA's `SubjectPublicKeyInfo`.
    pub(crate) const fn new(pin: [u8; 32], provider: Arc<CryptoProvider>) -> Self {
        Self { pin, provider }
    }

    fn is_pinned(&self, certificate: &CertificateDer<'_>) -> bool {
        // It parses any certificate of version 3, a CA's too; whether it may issue, webpki checks as of a root.
        webpki::EndEntityCert::try_from(certificate).is_ok_and(|certificate| {
            digest(&SHA256, certificate.subject_public_key_info().as_ref()).as_ref() == self.pin
        })
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let root = intermediates.iter().find(|certificate| self.is_pinned(certificate));
        let root = root.ok_or_else(|| CertificateError::Other(OtherError(Arc::new(PinMismatch))))?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // The configuration offers TLS 1.3 only; whoever gets here anyway is refused.
        Err(rustls::PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pki::Authority;
    use std::time::Duration;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn verify(
        pin: [u8; 32],
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &str,
    ) -> Result<(), rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let name = ServerName::try_from(name).unwrap();
        PinnedVerifier::new(pin, provider)
            .verify_server_cert(leaf, chain, &name, &[], UnixTime::since_unix_epoch(NOW))
            .map(drop)
    }

    fn is_mismatch(result: Result<(), rustls::Error>) -> bool {
        matches!(result, Err(rustls::Error::InvalidCertificate(CertificateError::Other(error)))
            if error.0.downcast_ref::<PinMismatch>().is_some())
    }

    #[test]
    fn only_the_pinned_ca_counts() {
        let (ours, other) = (Authority::new("CN=center CA", 1), Authority::new("CN=center CA", 2));
        let leaf = ours.server("center.example", NOW);
        let forged = other.server("center.example", NOW);
        let chain = [ours.certificate()];
        assert_eq!(verify(ours.pin(), &leaf, &chain, "center.example"), Ok(()));
        // A chain that holds together, but is another's, with the same name.
        assert!(is_mismatch(verify(ours.pin(), &forged, &[other.certificate()], "center.example")));
        // Somebody's leaf beside our CA: the signature decides.
        let beside = verify(ours.pin(), &forged, &chain, "center.example");
        assert!(beside.is_err() && !is_mismatch(beside), "signed by another key");
        assert!(is_mismatch(verify(ours.pin(), &leaf, &[], "center.example")), "the CA must be presented");
    }

    #[test]
    fn names_dates_and_uses_are_still_checked() {
        let ours = Authority::new("CN=center CA", 1);
        let chain = [ours.certificate()];
        let leaf = ours.server("center.example", NOW);
        let wrong_name = verify(ours.pin(), &leaf, &chain, "other.example");
        assert!(format!("{wrong_name:?}").contains("NotValidForName"), "{wrong_name:?}");
        let old = ours.server("center.example", NOW - Duration::from_secs(30 * 86_400));
        let expired = verify(ours.pin(), &old, &chain, "center.example");
        assert!(format!("{expired:?}").contains("Expired"), "{expired:?}");
        // The CA itself as a server's certificate is no chain.
        assert!(is_mismatch(verify(ours.pin(), &ours.certificate(), &[], "center.example")));
    }
}
