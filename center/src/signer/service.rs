//! Answers the signer's requests. Several at once: what takes long is checked without holding the database,
//! so a list never waits for a configuration.

use super::bundle;
use super::ca_key::BuildError;
use super::certificate::{self, LeafRequest, Usage};
use super::leaves::{NextList, NextListError};
use super::protocol::{Answer, CrlEntry, IssuedCrl, OwnerCas, Reply, Request};
use super::revocation_list::{self, Dating};
use super::state::{IssuerKind, IssuerState, State, StateError};
use crate::clock::now_s;
use std::net::IpAddr;
use uuid::Uuid;
use verona_contract::base64::Octets;
use verona_contract::cert::{CLIENT_URN, EDGE_URN, MAX_ADDRESSES};
use verona_contract::config::{EdgeConfig, OwnerCode, PAYLOAD_TYPE};
use verona_contract::csr::VerifiedCsr;
use verona_contract::dsse::Envelope;
use verona_contract::ipnet::IpNet;
use verona_contract::key::KeyId;
use zeroize::Zeroizing;

const DAY_S: i64 = 24 * 3600;

/// Lives of what the signer issues, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lives {
    /// Leaves of clients. Short lives keep lists short; a client that is away for longer enrols again.
    pub(crate) client_s: i64,
    /// Leaves of edges. A box in a cupboard must come back without a visit.
    pub(crate) edge_s: i64,
    /// The center's own server leaf. A year: clients pin the CA, so nobody waits for it.
    pub(crate) server_s: i64,
    /// From thisUpdate to nextUpdate. Short: edges raise the alarm sooner when the center is away.
    pub(crate) crl_s: i64,
}

impl Default for Lives {
    fn default() -> Self {
        Self { client_s: 7 * DAY_S, edge_s: 30 * DAY_S, server_s: 365 * DAY_S, crl_s: DAY_S }
    }
}

/// Life of what people use.
const ADMIN_LIFE_S: i64 = 365 * DAY_S;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    /// The request breaks a rule; the text names it.
    #[error("{0}")]
    Refused(String),
    /// The signer's own trouble.
    #[error(transparent)]
    State(#[from] StateError),
}

impl From<NextListError> for ServiceError {
    fn from(error: NextListError) -> Self {
        match error {
            NextListError::Unknown(_) => Self::Refused(error.to_string()),
            NextListError::State(error) => Self::State(error),
        }
    }
}

impl From<BuildError> for ServiceError {
    fn from(error: BuildError) -> Self {
        Self::State(error.into())
    }
}

fn refused(text: impl Into<String>) -> ServiceError {
    ServiceError::Refused(text.into())
}

/// The signer behind its socket.
pub(crate) struct Service {
    state: State,
    lives: Lives,
}

impl Service {
    /// Serves from `state`.
    pub(crate) const fn new(state: State, lives: Lives) -> Self {
        Self { state, lives }
    }

    /// The signer's memory, for `init`.
    pub(crate) const fn state(&self) -> &State {
        &self.state
    }

    /// Answers one request. Trouble of the signer's own is logged whole and told in one line.
    pub(crate) fn answer(&self, request: Request) -> Answer {
        self.handle(request).map_err(|error| {
            if let ServiceError::State(error) = &error {
                tracing::error!(error = error as &dyn std::error::Error, "request failed");
            }
            error.to_string()
        })
    }

    fn handle(&self, request: Request) -> Result<Reply, ServiceError> {
        match request {
            Request::CreateOwner { owner, network } => self.create_owner(&owner, network).map(Reply::Owner),
            Request::RegisterEdge { edge, owner } => self.register_edge(edge, &owner),
            Request::TunnelLeaf { issuer, subject, csr, addresses } => {
                self.tunnel_leaf(&issuer, subject, &csr, &addresses)
            }
            Request::DeviceLeaf { issuer, subject, csr } => self.device_leaf(&issuer, subject, &csr),
            Request::ServerLeaf { csr } => self.server_leaf(&csr),
            Request::Crl { issuer, entries } => self.crl(&issuer, &entries).map(Reply::Crl),
            Request::Bundle { payload } => self.bundle(payload),
        }
    }

    fn create_owner(&self, owner: &OwnerCode, network: IpNet) -> Result<OwnerCas, ServiceError> {
        if network != network.network() {
            return Err(refused(format!("network {network} has host bits set")));
        }
        self.state.add_owner(owner, network)?;
        let existing = self.state.issuers_of(Some(owner))?;
        let ca = |kind| {
            // A crash may have left some of the three; the rest is made now.
            match existing.iter().find(|issuer| issuer.kind == kind) {
                Some(issuer) => Ok(Octets(issuer.issuer.der.clone())),
                None => self
                    .state
                    .create_issuer(kind, Some(owner), now_s())
                    .map(|issuer| Octets(issuer.issuer.der)),
            }
        };
        Ok(OwnerCas {
            client: ca(IssuerKind::Client)?,
            edge: ca(IssuerKind::Edge)?,
            admin: ca(IssuerKind::Admin)?,
        })
    }

    fn register_edge(&self, edge: Uuid, owner: &OwnerCode) -> Result<Reply, ServiceError> {
        if self.state.network(owner)?.is_none() {
            return Err(refused("unknown owner"));
        }
        self.state.add_edge(edge, owner)?;
        match self.state.edge(edge)? {
            Some(known) if known.owner == *owner => Ok(Reply::Done),
            _ => Err(refused(format!("edge {edge} belongs to another owner"))),
        }
    }

    fn tunnel_leaf(
        &self,
        issuer: &KeyId,
        subject: Uuid,
        csr: &Octets,
        addresses: &[IpAddr],
    ) -> Result<Reply, ServiceError> {
        let issuer = self.issuer(issuer)?;
        let (urn, life_s) = self.subject(&issuer, subject)?;
        let network = issuer.owner.as_ref().map(|owner| self.state.network(owner)).transpose()?.flatten();
        let network = network.ok_or_else(|| refused("a tunnel leaf is for clients and edges"))?;
        if !(1..=MAX_ADDRESSES).contains(&addresses.len()) {
            return Err(refused(format!("a tunnel leaf holds 1 to {MAX_ADDRESSES} addresses")));
        }
        if let Some(stray) = addresses.iter().find(|address| !network.contains(**address)) {
            return Err(refused(format!("address {stray} is not in the owner's network")));
        }
        let csr = VerifiedCsr::parse(&csr.0).map_err(|error| refused(error.to_string()))?;
        let key = csr.tunnel_key().ok_or_else(|| refused("the request carries no tunnel key"))?;
        let mut names = vec![certificate::uri_name(&urn)?];
        for address in addresses {
            names.push(certificate::address_name(*address)?);
        }
        let request = LeafRequest {
            common_name: &subject.to_string(),
            key: certificate::tunnel_spki(key)?,
            names,
            usage: Usage::Tunnel,
            life_s,
        };
        self.issue(&issuer, request, "tunnel leaf", &urn)
    }

    fn device_leaf(&self, issuer: &KeyId, subject: Uuid, csr: &Octets) -> Result<Reply, ServiceError> {
        let issuer = self.issuer(issuer)?;
        let (urn, life_s) = self.subject(&issuer, subject)?;
        self.device_leaf_named(&issuer, subject, &urn, life_s, csr)
    }

    /// Issues an operator's certificate. No request leads here: only `init`, which runs where the keys are.
    ///
    /// # Errors
    ///
    /// [`ServiceError`].
    pub(crate) fn operator_leaf(&self, subject: Uuid, csr: &Octets) -> Result<Reply, ServiceError> {
        let issuer = self.own_issuer(IssuerKind::Operator)?;
        self.device_leaf_named(&issuer, subject, &format!("urn:verona:operator:{subject}"), ADMIN_LIFE_S, csr)
    }

    fn device_leaf_named(
        &self,
        issuer: &IssuerState,
        subject: Uuid,
        urn: &str,
        life_s: i64,
        csr: &Octets,
    ) -> Result<Reply, ServiceError> {
        let csr = VerifiedCsr::parse(&csr.0).map_err(|error| refused(error.to_string()))?;
        let request = LeafRequest {
            common_name: &subject.to_string(),
            key: certificate::device_spki(csr.spki())?,
            names: vec![certificate::uri_name(urn)?],
            usage: Usage::TlsClient,
            life_s,
        };
        self.issue(issuer, request, "device leaf", urn)
    }

    fn server_leaf(&self, csr: &Octets) -> Result<Reply, ServiceError> {
        let csr = VerifiedCsr::parse(&csr.0).map_err(|error| refused(error.to_string()))?;
        let issuer = self.own_issuer(IssuerKind::Center)?;
        let host = self.state.host()?;
        let name = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => certificate::address_name(address)?,
            Err(_) => certificate::dns_name(&host)?,
        };
        let request = LeafRequest {
            common_name: "Verona center",
            key: certificate::device_spki(csr.spki())?,
            names: vec![name],
            usage: Usage::TlsServer,
            life_s: self.lives.server_s,
        };
        self.issue(&issuer, request, "server leaf", &host)
    }

    fn issue(
        &self,
        issuer: &IssuerState,
        request: LeafRequest<'_>,
        what: &str,
        subject: &str,
    ) -> Result<Reply, ServiceError> {
        let key = self.state.ca_key(&issuer.issuer.key_id)?;
        let leaf = certificate::leaf(&key, &issuer.issuer, request, now_s())?;
        // Remembered before it leaves the process: a list may have to name it.
        let id = &issuer.issuer.key_id;
        if has_lists(issuer.kind)
            && !self.state.add_leaf(id, leaf.serial.as_bytes(), subject, leaf.not_after)?
        {
            return Err(refused(format!("{subject} was revoked for good")));
        }
        self.state.record(what, subject, &leaf.der)?;
        Ok(Reply::Certificate(Octets(leaf.der)))
    }

    fn crl(&self, issuer: &KeyId, entries: &[CrlEntry]) -> Result<IssuedCrl, ServiceError> {
        let issuer = self.issuer(issuer)?;
        if !has_lists(issuer.kind) {
            return Err(refused("lists are made for client CAs and edge CAs"));
        }
        let id = &issuer.issuer.key_id;
        let key = self.state.ca_key(id)?;
        let this_update = now_s();
        let NextList { number, entries: listed } = self.state.next_list(id, entries, this_update)?;
        if listed.len() > entries.len() {
            let added = listed.len() - entries.len();
            tracing::warn!(issuer = %id, number, added, "certificates revoked for good were left out; listed");
        }
        let dating = Dating { number, this_update, next_update: this_update + self.lives.crl_s };
        let der = revocation_list::build(&key, &issuer.issuer, dating, &listed)?;
        self.state.record("crl", &format!("{id} {number}"), &der)?;
        let entries = listed.len() as u64;
        Ok(IssuedCrl { number, entries, this_update, next_update: dating.next_update, der: Octets(der) })
    }

    fn bundle(&self, payload: Octets) -> Result<Reply, ServiceError> {
        // It holds the root of the owner's preshared keys.
        let payload = Zeroizing::new(payload.0);
        let config = EdgeConfig::parse(&payload).map_err(|error| refused(error.to_string()))?;
        let id = config.edge_id;
        let edge = self.state.edge(id)?.ok_or_else(|| refused(format!("unknown edge {id}")))?;
        let issuers = self.state.issuers_of(Some(&edge.owner))?;
        bundle::check(&config, &edge, &issuers, now_s()).map_err(|error| refused(error.to_string()))?;
        if !self.state.take_seq(id, config.seq)? {
            return Err(refused(format!("seq: {} is not above the last one signed", config.seq)));
        }
        self.state.record("bundle", &format!("{id} {}", config.seq), &payload)?;
        Ok(Reply::Bundle(Envelope::sign(PAYLOAD_TYPE, payload.to_vec(), &[self.state.config_key()])))
    }

    fn issuer(&self, id: &KeyId) -> Result<IssuerState, ServiceError> {
        self.state.issuer(id)?.ok_or_else(|| refused(format!("unknown issuer {id}")))
    }

    fn own_issuer(&self, kind: IssuerKind) -> Result<IssuerState, ServiceError> {
        let own = self.state.issuers_of(None)?;
        own.into_iter().find(|issuer| issuer.kind == kind).ok_or_else(|| refused("the center has no such CA"))
    }

    /// Name and life of what an issuer certifies. An edge must be one of the issuer's owner.
    fn subject(&self, issuer: &IssuerState, id: Uuid) -> Result<(String, i64), ServiceError> {
        match issuer.kind {
            IssuerKind::Client => Ok((format!("{CLIENT_URN}{id}"), self.lives.client_s)),
            IssuerKind::Edge if self.state.edge(id)?.map(|edge| edge.owner) == issuer.owner => {
                Ok((format!("{EDGE_URN}{id}"), self.lives.edge_s))
            }
            IssuerKind::Edge => Err(refused(format!("edge {id} is not registered with this owner"))),
            IssuerKind::Admin => Ok((format!("urn:verona:admin:{id}"), ADMIN_LIFE_S)),
            IssuerKind::Center | IssuerKind::Operator => Err(refused("this CA issues nothing on request")),
        }
    }
}

/// Whether a CA of this kind has revocation lists. Admins and operators are known to the web tier alone.
const fn has_lists(kind: IssuerKind) -> bool {
    matches!(kind, IssuerKind::Client | IssuerKind::Edge)
}
