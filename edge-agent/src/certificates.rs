//! Keeps the box's certificates: enrols when there is none, certifies the tunnel key, renews both in time.

use crate::agent::Agent;
use crate::center::{Caller, chain, entropy};
use crate::clock::wall_s;
use crate::endpoint::EndpointError;
use crate::enrolment::{self, EnrolmentError};
use crate::identity::{IdentityError, Operational, to_pem};
use crate::store;
use edge_agent_core::journal::Draft;
use edge_agent_core::renewal::renew_at;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use verona_contract::api::TunnelCertificate;
use verona_contract::cert::Leaf;
use verona_contract::log::{Severity, Stream};

/// How often it is looked whether a certificate is due: clocks step, boxes sleep.
const LOOK: Duration = Duration::from_secs(60);

/// Longest certificate file.
const MAX_FILE: usize = 64 * 1024;

/// The keeper.
pub struct Certificates {
    agent: Arc<Agent>,
    caller: Caller,
    /// Drawn once, so that the moment of a renewal does not move.
    jitter: u64,
}

impl Certificates {
    /// Shows what there is: the operational certificate, or the birth certificate when there is neither that
    /// nor a token.
    ///
    /// # Errors
    ///
    /// Key and certificate do not serve for TLS.
    pub fn new(agent: Arc<Agent>) -> Result<Self, CertificatesError> {
        store::make_directory(&agent.certificate_path(""))?;
        let caller = agent.caller();
        let keeper = Self { agent, caller, jitter: entropy() };
        match keeper.agent.operational() {
            Some(operational) => keeper.show(&operational)?,
            None => keeper.show_birth_certificate()?,
        }
        Ok(keeper)
    }

    fn show(&self, operational: &Operational) -> Result<(), EndpointError> {
        self.agent.endpoint.identify(&operational.chain, &self.agent.keys.device)
    }

    fn show_birth_certificate(&self) -> Result<(), CertificatesError> {
        let agent = &self.agent;
        if agent.record.token.is_none() {
            let birth = agent.keys.birth_certificate(&agent.record.serial)?;
            agent.endpoint.identify(&[birth], &agent.keys.device)?;
        }
        Ok(())
    }

    /// The operational certificate, and whether it is new. Tries until the center gives one.
    pub async fn obtain(&mut self) -> (Operational, bool) {
        if let Some(operational) = self.agent.operational() {
            return (operational, false);
        }
        match self.agent.keys.device.fingerprint() {
            Ok(fingerprint) => tracing::info!(serial = self.agent.record.serial, fingerprint, "enrolling"),
            Err(error) => tracing::error!(%error, "device key"),
        }
        loop {
            let agent = self.agent.clone();
            let enrolled = enrolment::enrol(self.caller.channel(), &agent.record, &agent.keys).await;
            match self.settle(enrolled) {
                Ok(operational) => {
                    tracing::info!(edge = %operational.edge, "enrolled");
                    return (operational, true);
                }
                Err(delay) => tokio::time::sleep(delay).await,
            }
        }
    }

    /// Certifies the tunnel key and renews, for ever.
    pub async fn keep(mut self) {
        loop {
            let delay = match self.look().await {
                Ok(()) => LOOK,
                Err(delay) => delay,
            };
            tokio::time::sleep(delay).await;
        }
    }

    async fn look(&mut self) -> Result<(), Duration> {
        // A wrong clock would renew for nothing, or not at all.
        let trusted = self.agent.clock.verdict().trusted();
        if trusted && let Some(operational) = self.agent.operational() {
            let (not_before, not_after) = (operational.not_before, operational.not_after);
            if wall_s() > not_after {
                self.enrol_again().await?;
            } else if wall_s() >= renew_at(not_before, not_after, self.jitter) {
                let agent = self.agent.clone();
                let serial = &agent.record.serial;
                let renewed = enrolment::renew(self.caller.channel(), serial, &agent.keys).await;
                self.settle(renewed)?;
                self.note("certificate.renewed", "operational certificate renewed");
            }
        }
        let due = match self.tunnel_certificate() {
            None => true,
            Some(leaf) => trusted && wall_s() >= renew_at(leaf.not_before, leaf.not_after, self.jitter),
        };
        if due { self.certify_tunnel_key().await } else { Ok(()) }
    }

    /// The certificate has ended, perhaps in a warehouse: the device key is still known.
    async fn enrol_again(&mut self) -> Result<(), Duration> {
        tracing::error!("the operational certificate has ended, enrolling again");
        let agent = self.agent.clone();
        let enrolled = enrolment::enrol(self.caller.channel(), &agent.record, &agent.keys).await;
        self.settle(enrolled)?;
        self.note("certificate.renewed", "enrolled again after the operational certificate had ended");
        Ok(())
    }

    /// Stores and shows a new operational certificate.
    fn settle(&mut self, got: Result<Operational, EnrolmentError>) -> Result<Operational, Duration> {
        let operational = self.judge(got)?;
        let agent = &self.agent;
        if let Err(error) = operational.save(&agent.certificate_path("operational.pem")) {
            tracing::error!(error = chain(&error), "operational certificate is not on the disk");
            return Err(self.caller.delay(None));
        }
        if let Err(error) = self.show(&operational) {
            tracing::error!(%error, "operational certificate");
            return Err(self.caller.delay(None));
        }
        *agent.operational.lock().unwrap_or_else(PoisonError::into_inner) = Some(operational.clone());
        Ok(operational)
    }

    async fn certify_tunnel_key(&mut self) -> Result<(), Duration> {
        let agent = self.agent.clone();
        let serial = &agent.record.serial;
        let got = enrolment::certify_tunnel_key(self.caller.channel(), serial, &agent.keys).await;
        let TunnelCertificate { certificate, issuer } = self.judge(got)?;
        let pem = to_pem(&[certificate.0, issuer.0]);
        if let Err(error) = store::replace(&agent.certificate_path("tunnel.pem"), pem.as_bytes()) {
            tracing::error!(error = chain(&error), "tunnel certificate is not on the disk");
            return Err(self.caller.delay(None));
        }
        tracing::info!(key = %agent.keys.tunnel_public, "tunnel key certified");
        self.note("tunnel-key.certified", "the tunnel key has a certificate");
        Ok(())
    }

    /// The stored certificate of the tunnel key, if it is one and over the present key.
    fn tunnel_certificate(&self) -> Option<Leaf> {
        let pem = store::read(&self.agent.certificate_path("tunnel.pem"), MAX_FILE).ok()??;
        let der = CertificateDer::pem_slice_iter(&pem).next()?.ok()?;
        Leaf::parse(&der).ok().filter(|leaf| leaf.key == self.agent.keys.tunnel_public)
    }

    fn judge<T>(&mut self, got: Result<T, EnrolmentError>) -> Result<T, Duration> {
        match got {
            Ok(got) => {
                self.caller.judge(None);
                Ok(got)
            }
            Err(error) => {
                let mut retry_after = None;
                if let EnrolmentError::Http(error) = &error {
                    self.caller.judge(Some(error));
                    retry_after = error.retry_after();
                }
                let delay = self.caller.delay(retry_after);
                tracing::warn!(error = chain(&error), ?delay, "no certificate yet");
                Err(delay)
            }
        }
    }

    fn note(&self, event: &str, body: &str) {
        if let Ok(spool) = self.agent.spool() {
            spool.note(Draft::new(Stream::Audit, event, body).severity(Severity::Info));
        }
    }
}

/// Why there is nothing to show to the center.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificatesError {
    /// The disk failed.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// TLS does not take them.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// They cannot be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}
