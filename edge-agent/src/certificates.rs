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
use uuid::Uuid;
use verona_contract::api::TunnelCertificate;
use verona_contract::cert::Leaf;
use verona_contract::log::Stream;

/// How often at least it is looked whether a certificate is due: clocks step, boxes sleep.
const LOOK: Duration = Duration::from_secs(60);

/// How often at most. A center that gives certificates that are due at once is not asked in a loop.
const PAUSE: Duration = Duration::from_secs(5);

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
    /// Shows what there is: the operational certificate, or a birth certificate over the device key.
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
        let birth = agent.keys.birth_certificate(&agent.record.serial)?;
        Ok(agent.endpoint.identify(&[birth], &agent.keys.device)?)
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
                Ok(()) => self.next_look(),
                Err(delay) => delay,
            };
            tokio::time::sleep(delay).await;
        }
    }

    /// How long until the next certificate is due, within [`PAUSE`] and [`LOOK`].
    fn next_look(&self) -> Duration {
        let operational = self.agent.operational().map(|one| (one.not_before, one.not_after));
        let tunnel = self.tunnel_certificate().map(|leaf| (leaf.not_before, leaf.not_after));
        let lives = operational.into_iter().chain(tunnel);
        let due = lives.map(|(not_before, not_after)| renew_at(not_before, not_after, self.jitter)).min();
        let until = due.map_or(0, |due| due.saturating_sub(wall_s()));
        Duration::from_secs(u64::try_from(until).unwrap_or(0)).clamp(PAUSE, LOOK)
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
                self.record("certificate.renewed", "operational certificate renewed").await;
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
        self.record("certificate.renewed", "enrolled again after the operational certificate had ended")
            .await;
        Ok(())
    }

    /// Stores and shows a new operational certificate.
    fn settle(&mut self, got: Result<Operational, EnrolmentError>) -> Result<Operational, Duration> {
        let present = self.agent.operational().map(|present| present.edge);
        let operational = self.judge(got.and_then(|new| same_edge(present, new)))?;
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
        self.record("tunnel-key.certified", "the tunnel key has a certificate").await;
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
                    // A box that waits for its owner has not failed: its pause does not grow.
                    self.caller.judge(Some(error).filter(|error| !error.is_pending()));
                    retry_after = error.retry_after();
                }
                let delay = self.caller.delay(retry_after);
                tracing::warn!(error = chain(&error), ?delay, "no certificate yet");
                Err(delay)
            }
        }
    }

    /// Puts a record into the log and waits until it is on the disk.
    async fn record(&self, event: &str, body: &str) {
        if let Ok(spool) = self.agent.spool()
            && let Err(error) = spool.append(Draft::new(Stream::Audit, event, body)).await
        {
            tracing::error!(%error, event, "log");
        }
    }
}

/// An edge stays the edge that it is: log chain and configuration belong to it.
fn same_edge(present: Option<Uuid>, new: Operational) -> Result<Operational, EnrolmentError> {
    match present {
        Some(present) if present != new.edge => {
            let rule = format!("is for edge {}, this is edge {present}", new.edge);
            Err(IdentityError::Certificate(rule).into())
        }
        _ => Ok(new),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_another_edge_is_refused() {
        let of =
            |edge| Operational { chain: vec![], edge: Uuid::from_u128(edge), not_before: 0, not_after: 1 };
        assert!(same_edge(None, of(1)).is_ok(), "the first one says who we are");
        assert!(same_edge(Some(Uuid::from_u128(1)), of(1)).is_ok());
        let error = same_edge(Some(Uuid::from_u128(1)), of(2)).unwrap_err().to_string();
        assert!(error.contains("is for edge 00000000-0000-0000-0000-000000000002"), "{error}");
    }
}
