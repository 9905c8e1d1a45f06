//! Certifies tunnel keys: of edges with their operational certificate, of clients with a code or their
//! device certificate.
//!
//! In this order: who asks, the request's own signature, the proof that the applicant holds the tunnel key on
//! this TLS channel, that no other subject of any owner has that key; then the signer, then one transaction.

use crate::center::Center;
use crate::clock;
use crate::composer::MTU;
use crate::db::addresses::host_address;
use crate::db::certificates::{self, NewCertificate, Use};
use crate::db::clients::ClientRow;
use crate::db::issuers::Issuer;
use crate::db::{DbError, OwnerId, Scope, clients, configs, edges, issuers, owners};
use crate::http::caller::{ClientCaller, EdgeCaller};
use crate::http::connection::Connection;
use crate::http::failure::Failure;
use crate::signer::state::IssuerKind;
use aws_lc_rs::digest::{SHA256, digest};
use std::net::IpAddr;
use uuid::Uuid;
use verona_contract::api::{
    ClientProfile, ClientState, EdgeProfile, EnrollRequest, Enrolled, Proof, RenewRequest, TunnelCertificate,
    TunnelKeyRequest,
};
use verona_contract::base64::Octets;
use verona_contract::csr::VerifiedCsr;
use verona_contract::ipnet::IpNet;
use verona_contract::key::{KeyId, PublicKey, Serial};
use verona_contract::problem::kind;
use verona_contract::{pop, psk};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Seconds between a client's keepalives: under the shortest NAT bindings seen.
const KEEPALIVE_S: u16 = 25;

/// A request whose tunnel key was proven to be the applicant's.
struct Proven {
    csr: VerifiedCsr,
    key: PublicKey,
    der: Vec<u8>,
}

fn prove(center: &Center, connection: &Connection, csr: &Octets, proof: &Proof) -> Result<Proven, Failure> {
    let verified = VerifiedCsr::parse(&csr.0).map_err(|error| Failure::bad(format!("csr: {error}")))?;
    let key = *verified.tunnel_key().ok_or_else(|| Failure::bad("csr: it carries no tunnel key"))?;
    let ephemeral = center.challenges.take(proof.challenge)?;
    pop::verify(&ephemeral, &key, &connection.exporter, &csr.0, &proof.proof.0)
        .map_err(|error| Failure::forbidden(format!("proof: {error}")))?;
    Ok(Proven { csr: verified, key, der: csr.0.clone() })
}

/// Certifies an edge's tunnel key, and composes the configurations anew.
///
/// # Errors
///
/// [`Failure`].
pub(crate) async fn edge_tunnel_key(
    center: &Center,
    caller: &EdgeCaller,
    connection: &Connection,
    request: &TunnelKeyRequest,
) -> Result<TunnelCertificate, Failure> {
    let proven = prove(center, connection, &request.csr, &request.proof)?;
    if proven.csr.fingerprint() != caller.fingerprint {
        return Err(Failure::forbidden("csr: it must be signed by the device key of this edge"));
    }
    let (owner, id, key) = (caller.owner, caller.id, proven.key);
    let (issuer, address) = center
        .db
        .write(move |transaction| {
            claim(transaction, &key, id)?;
            let edge = edges::by_id(transaction, Scope::of(owner), id)?;
            let edge = edge.ok_or_else(|| Failure::not_found(format!("no edge {id}")))?;
            let network = network(transaction, owner)?;
            let issuer = issuers::of_owner(transaction, owner, IssuerKind::Edge)?;
            Ok::<_, Failure>((issuer, host_address(network, edge.host)))
        })
        .await?;
    let der = center.signer.tunnel_leaf(issuer.key_id.clone(), id, &proven.der, vec![address]).await?;
    let leaf = stored(&issuer.key_id, id, Use::Tunnel, &der)?;
    let ca = issuer.key_id.clone();
    let wanted = center
        .db
        .write(move |transaction| {
            let edge = edges::by_id(transaction, Scope::of(owner), id)?;
            let wanted = rekeyed(transaction, &ca, id, edge.and_then(|edge| edge.tunnel_key), &key)?;
            certificates::insert(transaction, &leaf)?;
            edges::set_tunnel_key(transaction, id, &key)?;
            Ok::<_, Failure>(wanted)
        })
        .await?;
    after(center, owner, &issuer.key_id, wanted, true).await;
    Ok(TunnelCertificate { certificate: Octets(der), issuer: Octets(issuer.certificate) })
}

/// Enrols a client with its code.
///
/// # Errors
///
/// [`Failure`]; a wrong code counts against the source.
pub(crate) async fn enroll_client(
    center: &Center,
    connection: &Connection,
    request: EnrollRequest,
) -> Result<Enrolled, Failure> {
    let source = connection.source();
    center.throttle.check(source)?;
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &request.secret.0).as_ref());
    let client = center.db.read(move |db| clients::by_code(db, &hash)).await?;
    let Some(client) = client else {
        center.throttle.failed(source);
        return Err(code(kind::CODE_UNKNOWN, "this enrolment code is not known here"));
    };
    // The proof uses up the challenge, the code is used up only with the certificate.
    let proven = prove(center, connection, &request.csr, &request.proof)?;
    check_code(&client, &proven)?;
    certify_client(center, client, proven).await
}

fn code(kind: &'static str, detail: &str) -> Failure {
    Failure::forbidden(detail).kind(kind)
}

fn check_code(client: &ClientRow, proven: &Proven) -> Result<(), Failure> {
    if client.code_expires <= clock::now_s() {
        return Err(code(kind::CODE_EXPIRED, "this enrolment code has ended; ask for a new one"));
    }
    match client.state {
        ClientState::Invited => Ok(()),
        // Its answer may have been lost on the way: the same keys may ask again.
        ClientState::Enabled
            if client.device.as_deref() == Some(proven.csr.fingerprint().as_str())
                && client.tunnel_key == Some(proven.key) =>
        {
            Ok(())
        }
        ClientState::Enabled | ClientState::Disabled => {
            Err(code(kind::CODE_USED, "this enrolment code was used"))
        }
        ClientState::Revoked => Err(code(kind::CLIENT_REVOKED, "this client was revoked")),
    }
}

/// Renews a client's certificates.
///
/// # Errors
///
/// [`Failure`].
pub(crate) async fn renew_client(
    center: &Center,
    caller: &ClientCaller,
    connection: &Connection,
    request: &RenewRequest,
) -> Result<Enrolled, Failure> {
    let proven = prove(center, connection, &request.csr, &request.proof)?;
    if proven.csr.fingerprint() != caller.fingerprint {
        return Err(Failure::forbidden("csr: it must be signed by the device key of this client"));
    }
    let (owner, id) = (caller.owner, caller.id);
    let client = center.db.read(move |db| clients::by_id(db, Scope::of(owner), id)).await?;
    certify_client(center, client.ok_or_else(|| unknown_client(id))?, proven).await
}

async fn certify_client(center: &Center, client: ClientRow, proven: Proven) -> Result<Enrolled, Failure> {
    let (owner, id, key) = (client.owner, client.id, proven.key);
    let issuer = center
        .db
        .write(move |transaction| {
            claim(transaction, &key, id)?;
            Ok::<_, Failure>(issuers::of_owner(transaction, owner, IssuerKind::Client)?)
        })
        .await?;
    let ca = &issuer.key_id;
    let tunnel = center.signer.tunnel_leaf(ca.clone(), id, &proven.der, client.addresses()).await?;
    let device = center.signer.device_leaf(ca.clone(), id, &proven.der).await?;
    let leaves = [stored(ca, id, Use::Tunnel, &tunnel)?, stored(ca, id, Use::Device, &device)?];
    let wanted = store_client(center, &client, &proven, issuer.clone(), leaves).await?;
    after(center, owner, ca, wanted, client.push).await;
    let profile = profile(center, owner, id).await?;
    tracing::info!(client = %id, "certified");
    Ok(Enrolled {
        client: id,
        tunnel_certificate: Octets(tunnel),
        device_certificate: Octets(device),
        issuer: Octets(issuer.certificate),
        profile,
    })
}

async fn store_client(
    center: &Center,
    client: &ClientRow,
    proven: &Proven,
    issuer: Issuer,
    leaves: [NewCertificate; 2],
) -> Result<Option<i64>, Failure> {
    let (id, owner, key, device) = (client.id, client.owner, proven.key, proven.csr.fingerprint());
    center
        .db
        .write(move |transaction| {
            let before =
                clients::by_id(transaction, Scope::of(owner), id)?.and_then(|client| client.tunnel_key);
            // Disabled, revoked or enrolled by another device since we looked.
            if !clients::set_keys(transaction, id, &device, &key)? {
                return Err(Failure::conflict("this client was changed at the same time; try again"));
            }
            let wanted = rekeyed(transaction, &issuer.key_id, id, before, &key)?;
            for leaf in &leaves {
                certificates::insert(transaction, leaf)?;
            }
            Ok(wanted)
        })
        .await
}

/// The profile of a client.
///
/// # Errors
///
/// [`Failure`]; 404 for a client that has no key yet.
pub(crate) async fn profile(center: &Center, owner: OwnerId, id: Uuid) -> Result<ClientProfile, Failure> {
    let scope = Scope::of(owner);
    let (client, edges, owner) = center
        .db
        .read(move |db| {
            let mut edges: Vec<_> = Vec::new();
            for edge in edges::list(db, scope)? {
                let root = configs::confirmed_psk(db, edge.id)?;
                edges.push((edge, root));
            }
            Ok((clients::by_id(db, scope, id)?, edges, owners::by_id(db, owner)?))
        })
        .await?;
    let (Some(client), Some(owner)) = (client, owner) else { return Err(unknown_client(id)) };
    let Some(key) = client.tunnel_key else { return Err(unknown_client(id)) };
    let prefix = |address: IpAddr| {
        IpNet::new(address, owner.network.prefix()).unwrap_or_else(|_| IpNet::host(address))
    };
    let edges = edges.into_iter().filter_map(|(edge, confirmed)| {
        let public_key = edge.tunnel_key?;
        Some(EdgeProfile {
            edge: edge.id,
            name: edge.name,
            public_key,
            preshared_key: psk::derive(&owner.root_at(confirmed).secret, &key, &public_key),
            endpoints: edge.endpoints,
            routes: edge.lan,
        })
    });
    Ok(ClientProfile {
        addresses: client.addresses().into_iter().map(prefix).collect(),
        edges: edges.collect(),
        dns: Vec::new(),
        mtu: MTU,
        keepalive_s: KEEPALIVE_S,
        pushed: client.push,
    })
}

fn unknown_client(id: Uuid) -> Failure {
    Failure::not_found(format!("no client {id}"))
}

fn network(db: &rusqlite::Connection, owner: OwnerId) -> Result<IpNet, Failure> {
    let owner = owners::by_id(db, owner)?;
    owner.map(|owner| owner.network).ok_or_else(|| DbError::from(rusqlite::Error::QueryReturnedNoRows).into())
}

fn claim(transaction: &rusqlite::Transaction<'_>, key: &PublicKey, subject: Uuid) -> Result<(), Failure> {
    if certificates::claim_key(transaction, key, subject)? {
        return Ok(());
    }
    // Nothing about whose it is: that may be another owner's.
    Err(Failure::conflict("csr: this tunnel key is certified for another subject; make a new one")
        .kind("urn:verona:problem:key-taken"))
}

/// Ends the leaves of the key before, when it is another one, and wishes for a list that says so.
fn rekeyed(
    transaction: &rusqlite::Transaction<'_>,
    issuer: &KeyId,
    subject: Uuid,
    before: Option<PublicKey>,
    key: &PublicKey,
) -> Result<Option<i64>, DbError> {
    if before.is_none_or(|before| before == *key) {
        return Ok(None);
    }
    if certificates::supersede_tunnel(transaction, subject, clock::now_s())? == 0 {
        return Ok(None);
    }
    issuers::want_list(transaction, issuer).map(Some)
}

async fn after(center: &Center, owner: OwnerId, issuer: &KeyId, wanted: Option<i64>, configs: bool) {
    if let Some(wanted) = wanted
        && let Err(error) = center.lists.carry(issuer, wanted).await
    {
        // The wish is stored; the timer makes the list.
        tracing::error!(error = &error as &dyn std::error::Error, "revocation list not made yet");
    }
    if configs {
        center.composer.mark(owner);
    }
}

/// A leaf from the signer as a row.
///
/// # Errors
///
/// [`Failure`] when it does not parse, which would be the signer's mistake.
pub(crate) fn stored(
    issuer: &KeyId,
    subject: Uuid,
    usage: Use,
    der: &[u8],
) -> Result<NewCertificate, Failure> {
    let parsed = X509Certificate::from_der(der).ok().and_then(|(_, certificate)| {
        let serial = Serial::new(certificate.raw_serial()).ok()?;
        Some((serial, certificate.validity().not_after.timestamp()))
    });
    let (serial, not_after) = parsed.ok_or(crate::signer::SignerError::Protocol)?;
    Ok(NewCertificate { issuer: issuer.clone(), serial, subject, usage, der: der.to_vec(), not_after })
}
