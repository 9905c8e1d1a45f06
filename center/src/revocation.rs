//! Disable, enable, revoke: from the click to the list that carries it.
//!
//! The change is on disk before the signer is asked. If the signer is away the wish stays, the timer makes the
//! list, and the caller is told that it will follow.

use crate::center::Center;
use crate::clock;
use crate::db::acks::{self, FirstAck};
use crate::db::certificates::{self, Status};
use crate::db::changes::{self, Change};
use crate::db::clients::{self, ClientRow};
use crate::db::edges::{self, EdgeRow};
use crate::db::{DbError, Scope, issuers};
use crate::http::caller::Administrator;
use crate::http::failure::Failure;
use crate::signer::state::IssuerKind;
use rusqlite::{Connection, Transaction};
use uuid::Uuid;
use verona_contract::api::{ChangeProof, ClientAction, ClientDetail, ClientState, EdgeProof, StateChanged};
use verona_contract::cert::CLIENT_URN;
use verona_contract::key::KeyId;

/// Changes before the last one that are shown.
const HISTORY: u32 = 20;

/// What an order does to a client in a given state.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// It is so already.
    Nothing,
    /// The client and its certificates change.
    Change(ClientState, Status),
    /// It cannot be.
    Refused(&'static str),
}

fn decide(order: ClientAction, state: ClientState) -> Decision {
    use ClientState::{Disabled, Enabled, Invited, Revoked};
    match (order, state) {
        (ClientAction::Revoke, Revoked)
        | (ClientAction::Disable, Disabled)
        | (ClientAction::Enable, Enabled) => Decision::Nothing,
        (_, Revoked) => Decision::Refused("is revoked, which is final; add the client anew"),
        (ClientAction::Disable | ClientAction::Enable, Invited) => {
            Decision::Refused("has not enrolled yet, so it has no certificate; revoke it to void its code")
        }
        (ClientAction::Revoke, _) => Decision::Change(Revoked, Status::Withdrawn),
        (ClientAction::Disable, Enabled) => Decision::Change(Disabled, Status::Hold),
        (ClientAction::Enable, Disabled) => Decision::Change(Enabled, Status::Good),
    }
}

/// Carries out an order. Repeating it changes nothing and answers the same.
///
/// # Errors
///
/// [`Failure`]: 404 outside of the scope, 409 when it cannot be, 503 when the list will follow later.
pub(crate) async fn order(
    center: &Center,
    caller: &Administrator,
    id: Uuid,
    action: ClientAction,
) -> Result<StateChanged, Failure> {
    let (scope, by, changed_ns) = (caller.scope, caller.name.clone(), clock::now_ns());
    let (client, issuer, wanted) = center
        .db
        .write(move |transaction| {
            let client = clients::by_id(transaction, scope, id)?.ok_or_else(|| unknown(id))?;
            let issuer = issuers::of_owner(transaction, client.owner, IssuerKind::Client)?.key_id;
            let order = Change { action, by, changed_ns, wanted: 0, number: None };
            let wanted = apply(transaction, &client, &issuer, order)?;
            Ok::<_, Failure>((client, issuer, wanted))
        })
        .await?;
    if let Err(error) = center.lists.carry(&issuer, wanted).await {
        tracing::error!(error = &error as &dyn std::error::Error, "revocation list not made yet");
        return Err(Failure::unavailable("stored; the list follows as soon as the signer is back", 2));
    }
    // A pushed certificate goes with a revocation for good, and comes back with nothing.
    if client.push {
        center.composer.mark(client.owner);
    }
    let newest = center.db.read(move |db| changes::newest(db, id, 1)).await?;
    tracing::info!(client = %id, ?action, by = caller.name, "order carried out");
    let changed = newest.first().and_then(|change| state_changed(change, &issuer));
    changed.ok_or_else(|| Failure::unavailable("stored; the list follows", 2))
}

/// Returns the wish of the list that carries the order.
fn apply(
    transaction: &Transaction<'_>,
    client: &ClientRow,
    issuer: &KeyId,
    order: Change,
) -> Result<i64, Failure> {
    let id = client.id;
    let (state, status) = match decide(order.action, client.state) {
        Decision::Change(state, status) => (state, status),
        Decision::Refused(rule) => return Err(Failure::conflict(format!("client {id} {rule}"))),
        Decision::Nothing => match changes::newest(transaction, id, 1)?.first() {
            Some(newest) => return Ok(newest.wanted),
            // Enabled since it enrolled: the change is the enrolment, which the present list carries.
            None => (client.state, Status::Good),
        },
    };
    certificates::set_status(transaction, id, status, order.changed_ns / 1_000_000_000)?;
    let wanted = issuers::want_list(transaction, issuer)?;
    clients::set_state(transaction, id, state)?;
    changes::insert(transaction, id, &Change { wanted, ..order })?;
    Ok(wanted)
}

/// None while its list is still to be made.
fn state_changed(change: &Change, issuer: &KeyId) -> Option<StateChanged> {
    Some(StateChanged {
        state: match change.action {
            ClientAction::Disable => ClientState::Disabled,
            ClientAction::Enable => ClientState::Enabled,
            ClientAction::Revoke => ClientState::Revoked,
        },
        action: change.action,
        by: change.by.clone(),
        issuer: issuer.clone(),
        crl_number: change.number?,
        changed_at: clock::timestamp_ns(change.changed_ns),
    })
}

/// A client with the proof of its changes, edge by edge.
///
/// # Errors
///
/// [`Failure`]: 404 outside of the scope.
pub(crate) async fn detail(center: &Center, scope: Scope, id: Uuid) -> Result<ClientDetail, Failure> {
    let (client, changes, edges) = center
        .db
        .read(move |db| {
            let Some(client) = clients::by_id(db, scope, id)? else { return Ok(None) };
            let issuer = issuers::of_owner(db, client.owner, IssuerKind::Client)?.key_id;
            let changes = with_acks(db, &client, &issuer)?;
            let edges = edges::list(db, Scope::of(client.owner))?;
            Ok(Some((client, changes, edges)))
        })
        .await?
        .ok_or_else(|| unknown(id))?;
    // An edge without a tunnel key serves nobody yet, so there is nothing that it could confirm.
    let edges: Vec<_> = edges.into_iter().filter(|edge| edge.tunnel_key.is_some()).collect();
    let mut history = changes.into_iter().map(|(change, changed_ns, acks)| {
        let prove = |edge: &EdgeRow| EdgeProof {
            last_seen: edge.to_api(center.seen.last(edge.id), None).last_seen,
            ..proof(edge, acks.iter().find(|ack| ack.edge == edge.id), (id, changed_ns))
        };
        ChangeProof { change, edges: edges.iter().map(prove).collect() }
    });
    let last = history.next();
    let history = history.collect();
    let (change, edges) = last.map(|last| (last.change, last.edges)).unzip();
    Ok(ClientDetail { client: client.to_api(), change, edges: edges.unwrap_or_default(), history })
}

/// The changes that a list carries, each with the time of the order and the edges' first acks to that list.
fn with_acks(
    db: &Connection,
    client: &ClientRow,
    issuer: &KeyId,
) -> Result<Vec<(StateChanged, i64, Vec<FirstAck>)>, DbError> {
    let mut found = Vec::new();
    for change in changes::newest(db, client.id, HISTORY + 1)? {
        let Some(changed) = state_changed(&change, issuer) else { continue };
        let acks = acks::first_since(db, client.owner, issuer, changed.crl_number)?;
        found.push((changed, change.changed_ns, acks));
    }
    Ok(found)
}

/// What an edge has shown about a change of `client` at `changed_ns`; when it was last seen is not asked here.
fn proof(edge: &EdgeRow, ack: Option<&FirstAck>, (client, changed_ns): (Uuid, i64)) -> EdgeProof {
    let after_ms = |at_ns: i64| (at_ns.saturating_sub(changed_ns) / 1_000_000).max(0).cast_unsigned();
    let name = format!("{CLIENT_URN}{client}");
    let cut = ack.map_or(0, |ack| ack.cut.iter().filter(|cut| cut.subject == name).count());
    let in_order = |ack: &&FirstAck| (changed_ns..=ack.arrived_ns).contains(&ack.applied_ns);
    EdgeProof {
        edge: edge.id,
        name: edge.name.clone(),
        applied_at: ack.map(|ack| clock::timestamp_ns(ack.applied_ns)),
        confirmed_after_ms: ack.map(|ack| after_ms(ack.arrived_ns)),
        crl_number: ack.map(|ack| ack.number),
        cut_after_ms: ack.filter(in_order).map(|ack| after_ms(ack.applied_ns)),
        cut: cut > 0,
        sessions_cut: u32::try_from(cut).unwrap_or(u32::MAX),
        waiting_since: ack.is_none().then(|| clock::timestamp_ns(changed_ns)),
        last_seen: None,
    }
}

fn unknown(id: Uuid) -> Failure {
    Failure::not_found(format!("no client {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_table() {
        use ClientState::{Disabled, Enabled, Invited, Revoked};
        let refused = |decision: Decision| matches!(decision, Decision::Refused(_));
        assert_eq!(decide(ClientAction::Disable, Enabled), Decision::Change(Disabled, Status::Hold));
        assert_eq!(decide(ClientAction::Disable, Disabled), Decision::Nothing);
        assert_eq!(decide(ClientAction::Enable, Disabled), Decision::Change(Enabled, Status::Good));
        assert_eq!(decide(ClientAction::Enable, Enabled), Decision::Nothing);
        for state in [Invited, Enabled, Disabled] {
            assert_eq!(decide(ClientAction::Revoke, state), Decision::Change(Revoked, Status::Withdrawn));
        }
        assert_eq!(decide(ClientAction::Revoke, Revoked), Decision::Nothing);
        for order in [ClientAction::Disable, ClientAction::Enable] {
            assert!(refused(decide(order, Invited)) && refused(decide(order, Revoked)), "{order:?}");
        }
    }
}
