//! Decides whether a configuration may be signed.
//!
//! The web tier composes it, so it may say anything. Signed is only what fits the signer's own memory: the
//! edge's owner and no other, his own CAs as anchors, pushed certificates that hold under them.

use super::state::{EdgeState, IssuerKind, IssuerState};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use verona_contract::cert::Leaf;
use verona_contract::config::{EdgeConfig, OwnerConfig};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// How far ahead of the signer's clock a configuration may be dated, in seconds. It is a floor for the
/// boxes' clocks: one dated far ahead would make every certificate look expired.
const MAX_AHEAD_S: i64 = 300;

/// Why a configuration is not signed; one line that names the field.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {rule}")]
pub(crate) struct BundleError {
    path: String,
    rule: String,
}

fn refuse<T>(path: impl Into<String>, rule: impl Into<String>) -> Result<T, BundleError> {
    Err(BundleError { path: path.into(), rule: rule.into() })
}

/// Checks `config` against the `edge` that it names and the CAs of that edge's owner.
///
/// # Errors
///
/// [`BundleError`], the first rule that it breaks. The seq is checked here too, and taken by the caller.
pub(crate) fn check(
    config: &EdgeConfig,
    edge: &EdgeState,
    issuers: &[IssuerState],
    now_s: i64,
) -> Result<(), BundleError> {
    if config.seq <= edge.seq {
        return refuse("seq", format!("must be above {}, the last one signed", edge.seq));
    }
    if config.issued_at.as_second() > now_s + MAX_AHEAD_S {
        return refuse("issued_at", format!("must be at most {MAX_AHEAD_S} s ahead"));
    }
    for (index, owner) in config.tunnel.owners.iter().enumerate() {
        let path = format!("tunnel.owners[{index}]");
        if owner.owner != edge.owner {
            return refuse(format!("{path}.owner"), "must be the owner of this edge");
        }
        check_owner(owner, &path, issuers, now_s)?;
    }
    Ok(())
}

fn check_owner(
    owner: &OwnerConfig,
    path: &str,
    issuers: &[IssuerState],
    now_s: i64,
) -> Result<(), BundleError> {
    // What these say would be the web tier's word alone: nothing here remembers CAs of others, keys of identities
    // or networks of sites, and with any of them a breached front could give a peer another's place.
    let unknown = [
        ("intermediates", owner.intermediates.is_empty()),
        ("identities", owner.identities.is_empty()),
        ("sites", owner.sites.is_empty()),
    ];
    if let Some((field, _)) = unknown.iter().find(|(_, empty)| !empty) {
        return refuse(format!("{path}.{field}"), "not known to the signer, so not signed");
    }
    let own = |issuer: &&IssuerState| matches!(issuer.kind, IssuerKind::Client | IssuerKind::Edge);
    for (index, anchor) in owner.anchors.iter().enumerate() {
        if !issuers.iter().filter(own).any(|issuer| issuer.issuer.der == anchor.0) {
            return refuse(format!("{path}.anchors[{index}]"), "must be a CA of this owner");
        }
    }
    let ders: Vec<CertificateDer<'_>> =
        issuers.iter().filter(own).map(|issuer| CertificateDer::from(issuer.issuer.der.as_slice())).collect();
    let anchors: Vec<TrustAnchor<'_>> =
        ders.iter().filter_map(|der| anchor_from_trusted_cert(der).ok()).collect();
    for (index, client) in owner.clients.iter().enumerate() {
        if let Err(rule) = check_client(&client.0, &anchors, now_s) {
            return refuse(format!("{path}.clients[{index}]"), rule);
        }
    }
    Ok(())
}

fn check_client(der: &[u8], anchors: &[TrustAnchor<'_>], now_s: i64) -> Result<(), String> {
    Leaf::parse(der).map_err(|error| error.to_string())?;
    let der = CertificateDer::from(der);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now_s).unwrap_or(0)));
    let algorithms = [webpki::aws_lc_rs::ECDSA_P256_SHA256];
    EndEntityCert::try_from(&der)
        .and_then(|leaf| {
            leaf.verify_for_usage(&algorithms, anchors, &[], now, KeyUsage::client_auth(), None, None)
                .map(|_| ())
        })
        .map_err(|error| format!("does not verify under this owner's CAs: {error}"))
}
