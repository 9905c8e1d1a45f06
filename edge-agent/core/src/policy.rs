//! From a configuration to what the data plane is told.

use verona_contract::api::Rejected;
use verona_contract::base64::Octets;
use verona_contract::config::{EdgeConfig, OwnerConfig};
use verona_contract::control::{OwnerPolicy, PeerEndpoint, Policy, RejectedClient};
use verona_contract::key::Secret;

/// The policy of `config`, with the edge's own key, which the center never sees, its certificate if there is one
/// yet, and the last known endpoints.
#[must_use]
pub fn policy(
    config: &EdgeConfig,
    private_key: Secret,
    certificate: Option<Octets>,
    endpoints: Vec<PeerEndpoint>,
) -> Policy {
    Policy {
        seq: config.seq,
        private_key,
        certificate,
        listen_port: config.tunnel.listen_port,
        owners: config.tunnel.owners.iter().map(owner_policy).collect(),
        endpoints,
    }
}

/// A policy that admits nobody, for a box whose first configuration was taken back.
#[must_use]
pub const fn closed(private_key: Secret) -> Policy {
    Policy {
        seq: 0,
        private_key,
        certificate: None,
        listen_port: 0,
        owners: Vec::new(),
        endpoints: Vec::new(),
    }
}

fn owner_policy(owner: &OwnerConfig) -> OwnerPolicy {
    OwnerPolicy {
        owner: owner.owner.clone(),
        anchors: owner.anchors.clone(),
        intermediates: owner.intermediates.clone(),
        crl: owner.crl,
        psk_root: owner.psk_root.clone(),
        psk_previous: owner.psk_previous.clone(),
        clients: owner.clients.clone(),
        identities: owner.identities.clone(),
        sites: owner.sites.clone(),
        max_clients: owner.max_clients,
    }
}

/// A pushed certificate that the data plane did not take, as the center is told of it.
#[must_use]
pub fn rejected(client: &RejectedClient) -> Rejected {
    Rejected { path: format!("tunnel.{}", client.path), reason: client.reason.clone(), used_instead: None }
}
