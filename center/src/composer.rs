//! Composes the configurations of an owner's edges whenever something in them changed.
//!
//! Changes come as marks on an owner; marks that arrive together make one configuration. What says the same
//! as the one before is not signed again, so a restart makes no new revisions.

use crate::clock;
use crate::db::addresses::host_address;
use crate::db::edges::{EdgeRow, Leave};
use crate::db::owners::Owner;
use crate::db::{
    Db, DbError, OwnerId, Scope, certificates, configs, edges, firmware, groups, issuers, owners,
};
use crate::news::News;
use crate::signer::state::IssuerKind;
use crate::signer::{Signer, SignerError};
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;
use verona_contract::base64::Octets;
use verona_contract::config::{
    CrlPolicy, DEFAULT_CONFIRM_S, EdgeConfig, OwnerConfig, TunnelConfig, UpdateConfig, Version,
};
use verona_contract::groups::Group;
use verona_contract::ipnet::IpNet;
use zeroize::{Zeroize as _, Zeroizing};

/// MTU of the tunnel: fits an outer IPv6 path of 1500.
pub(crate) const MTU: u16 = 1420;

/// Most introduced clients of an owner at an edge: some 40 MB of records there.
const MAX_CLIENTS: u32 = 100_000;

/// How long marks gather before a round.
const GATHER: Duration = Duration::from_millis(20);

/// From a failed round to the next.
const RETRY: Duration = Duration::from_secs(2);

/// Why a configuration was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComposeError {
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The signer.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// It does not encode.
    #[error("configuration of edge {0} cannot be encoded")]
    Encode(Uuid, #[source] serde_json::Error),
    /// The edge's network ended under it.
    #[error("tunnel address of edge {0}")]
    Address(Uuid, #[source] verona_contract::ipnet::IpNetError),
}

/// Takes the marks.
#[derive(Clone, Default)]
pub(crate) struct Composer {
    marks: Arc<Marks>,
}

#[derive(Default)]
struct Marks {
    owners: Mutex<Vec<OwnerId>>,
    wake: Notify,
}

impl Composer {
    /// Something in the configurations of `owner` may have changed.
    pub(crate) fn mark(&self, owner: OwnerId) {
        let mut owners = self.marks.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if !owners.contains(&owner) {
            owners.push(owner);
        }
        self.marks.wake.notify_one();
    }

    /// Composes for ever, beginning with every owner: a crash may have come between a change and its
    /// configuration.
    pub(crate) async fn run(self, db: Db, signer: Signer, news: Arc<News<Uuid, u64>>) {
        match db.read(|db| owners::list(db, Scope::EVERY_OWNER)).await {
            Ok(owners) => owners.iter().for_each(|owner| self.mark(owner.id)),
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "owners not read"),
        }
        loop {
            self.marks.wake.notified().await;
            tokio::time::sleep(GATHER).await;
            let marked =
                std::mem::take(&mut *self.marks.owners.lock().unwrap_or_else(PoisonError::into_inner));
            for owner in marked {
                if let Err(error) = compose_owner(&db, &signer, &news, owner).await {
                    tracing::error!(error = &error as &dyn std::error::Error, "configuration not made");
                    let again = self.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(RETRY).await;
                        again.mark(owner);
                    });
                }
            }
        }
    }
}

async fn compose_owner(
    db: &Db,
    signer: &Signer,
    news: &News<Uuid, u64>,
    owner: OwnerId,
) -> Result<(), ComposeError> {
    let edges = db.read(move |db| edges::list(db, Scope::of(owner))).await?;
    // An edge without a tunnel key has nothing to configure yet. One that fails holds up none of the others.
    let mut result = Ok(());
    for edge in edges.into_iter().filter(|edge| edge.tunnel_key.is_some()) {
        result = result.and(compose_edge(db, signer, news, edge).await);
    }
    result
}

async fn compose_edge(
    db: &Db,
    signer: &Signer,
    news: &News<Uuid, u64>,
    edge: EdgeRow,
) -> Result<(), ComposeError> {
    let (id, leave) = (edge.id, edge.allow_shrink);
    let Some((mut config, before)) = db.read(move |db| draft(db, &edge)).await?.transpose()? else {
        return Ok(());
    };
    // It holds the root of the owner's preshared keys.
    let octets = |config: &EdgeConfig| {
        let json = serde_json::to_vec(config).map_err(|error| ComposeError::Encode(id, error));
        json.map(Zeroizing::new)
    };
    let mut says = [0; 32];
    says.copy_from_slice(digest(&SHA256, &octets(&config)?).as_ref());
    if before == Some(says) && leave != Leave::Given {
        return Ok(());
    }
    config.allow_shrink = leave != Leave::None;
    // Taken before it is signed: after a crash there is a gap, never a number that the signer has used.
    config.seq = db.write(move |transaction| configs::take_seq(transaction, id)).await?;
    config.issued_at = Timestamp::now();
    let seq = config.seq;
    let psk_id = config.tunnel.owners.first().map_or(0, |owner| owner.psk_root.id);
    let mut signed = signer.bundle(octets(&config)?).await?;
    let envelope = serde_json::to_vec(&signed).map(Zeroizing::new);
    signed.payload.0.zeroize();
    let envelope = envelope.map_err(|error| ComposeError::Encode(id, error))?;
    db.write(move |transaction| {
        if leave == Leave::Given {
            edges::set_leave(transaction, id, Leave::Signed)?;
        }
        configs::insert(transaction, id, seq, (&says, psk_id), &envelope)
    })
    .await?;
    tracing::info!(edge = %id, seq, "configuration made");
    news.publish(id, seq);
    Ok(())
}

type Draft = (EdgeConfig, Option<[u8; 32]>);

/// What the edge's configuration should say now, with seq 0 and the epoch as its date.
fn draft(db: &rusqlite::Connection, edge: &EdgeRow) -> Result<Option<Result<Draft, ComposeError>>, DbError> {
    let Some(owner) = owners::by_id(db, edge.owner)? else { return Ok(None) };
    let client_ca = issuers::of_owner(db, owner.id, IssuerKind::Client)?;
    let edge_ca = issuers::of_owner(db, owner.id, IssuerKind::Edge)?;
    let clients = certificates::pushed(db, owner.id, clock::now_s())?;
    let before = configs::digest(db, edge.id)?;
    let anchors = vec![Octets(client_ca.certificate), Octets(edge_ca.certificate)];
    let clients = clients.into_iter().map(Octets).collect();
    let groups = groups::for_edges(db, owner.id, owner.network)?;
    let update = firmware::wish(db, edge.id)?;
    Ok(Some(assemble(edge, owner, anchors, (clients, groups), update).map(|config| (config, before))))
}

fn assemble(
    edge: &EdgeRow,
    owner: Owner,
    anchors: Vec<Octets>,
    (clients, groups): (Vec<Octets>, Vec<Group>),
    update: Option<UpdateConfig>,
) -> Result<EdgeConfig, ComposeError> {
    let address = IpNet::new(host_address(owner.network, edge.host), owner.network.prefix())
        .map_err(|error| ComposeError::Address(edge.id, error))?;
    Ok(EdgeConfig {
        edge_id: edge.id,
        seq: 0,
        issued_at: Timestamp::UNIX_EPOCH,
        minimum_agent: Version::new(0, 1, 0),
        confirm_s: DEFAULT_CONFIRM_S,
        allow_shrink: false,
        network: edge.network.clone(),
        tunnel: TunnelConfig {
            addresses: vec![address],
            listen_port: edge.listen_port,
            mtu: MTU,
            routes: Vec::new(),
            owners: vec![OwnerConfig {
                owner: owner.code,
                anchors,
                intermediates: Vec::new(),
                crl: CrlPolicy::default(),
                psk_root: owner.psk_root,
                psk_previous: owner.psk_previous,
                clients,
                identities: Vec::new(),
                sites: Vec::new(),
                max_clients: MAX_CLIENTS,
                groups,
            }],
        },
        logs: edge.logs.clone(),
        update,
    })
}
