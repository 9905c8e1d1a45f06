//! Disable, enable, revoke: from the click to the list that carries it.
//!
//! The change is on disk before the signer is asked. If the signer is away the wish stays, the timer makes the
//! list, and the caller is told that it will follow.

use crate::center::Center;
use crate::clock;
use crate::db::certificates::{self, Status};
use crate::db::clients::{self, ClientRow};
use crate::db::{Scope, acks, edges, issuers};
use crate::http::failure::Failure;
use crate::signer::state::IssuerKind;
use rusqlite::Transaction;
use uuid::Uuid;
use verona_contract::api::{ClientDetail, ClientState, EdgeProof, StateChanged};
use verona_contract::cert::CLIENT_URN;
use verona_contract::key::KeyId;

/// What an admin may do to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// certificateHold.
    Disable,
    /// Takes the hold back.
    Enable,
    /// For good.
    Revoke,
}

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

fn decide(order: Order, state: ClientState) -> Decision {
    use ClientState::{Disabled, Enabled, Invited, Revoked};
    match (order, state) {
        (Order::Revoke, Revoked) | (Order::Disable, Disabled) | (Order::Enable, Enabled) => Decision::Nothing,
        (_, Revoked) => Decision::Refused("is revoked, which is final; add the client anew"),
        (Order::Disable | Order::Enable, Invited) => {
            Decision::Refused("has not enrolled yet, so it has no certificate; revoke it to void its code")
        }
        (Order::Revoke, _) => Decision::Change(Revoked, Status::Withdrawn),
        (Order::Disable, Enabled) => Decision::Change(Disabled, Status::Hold),
        (Order::Enable, Disabled) => Decision::Change(Enabled, Status::Good),
    }
}

/// Carries out an order. Repeating it changes nothing and answers the same.
///
/// # Errors
///
/// [`Failure`]: 404 outside of the scope, 409 when it cannot be, 503 when the list will follow later.
pub(crate) async fn order(
    center: &Center,
    scope: Scope,
    id: Uuid,
    order: Order,
) -> Result<StateChanged, Failure> {
    let changed_ns = clock::now_ns();
    let (client, issuer, wanted) = center
        .db
        .write(move |transaction| {
            let client = clients::by_id(transaction, scope, id)?.ok_or_else(|| unknown(id))?;
            let issuer = issuers::of_owner(transaction, client.owner, IssuerKind::Client)?.key_id;
            let wanted = apply(transaction, &client, &issuer, order, changed_ns)?;
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
    let client = center.db.read(move |db| clients::by_id(db, scope, id)).await?;
    let client = client.ok_or_else(|| unknown(id))?;
    tracing::info!(client = %id, ?order, "order carried out");
    change(&client, &issuer).ok_or_else(|| Failure::unavailable("stored; the list follows", 2))
}

fn apply(
    transaction: &Transaction<'_>,
    client: &ClientRow,
    issuer: &KeyId,
    order: Order,
    changed_ns: i64,
) -> Result<i64, Failure> {
    let id = client.id;
    let (state, status) = match decide(order, client.state) {
        Decision::Change(state, status) => (state, status),
        Decision::Refused(rule) => return Err(Failure::conflict(format!("client {id} {rule}"))),
        Decision::Nothing if client.changed_ns.is_some() => {
            return Ok(issuers::wishes(transaction, issuer)?.0);
        }
        // Enabled since it enrolled: the change is the enrolment, which the present list carries.
        Decision::Nothing => (client.state, Status::Good),
    };
    certificates::set_status(transaction, id, status, changed_ns / 1_000_000_000)?;
    let wanted = issuers::want_list(transaction, issuer)?;
    clients::set_state(transaction, id, state, changed_ns, wanted)?;
    Ok(wanted)
}

fn change(client: &ClientRow, issuer: &KeyId) -> Option<StateChanged> {
    Some(StateChanged {
        state: client.state,
        issuer: issuer.clone(),
        crl_number: client.change_number?,
        changed_at: clock::timestamp_ns(client.changed_ns?),
    })
}

/// A client with the proof of its last change, edge by edge.
///
/// # Errors
///
/// [`Failure`]: 404 outside of the scope.
pub(crate) async fn detail(center: &Center, scope: Scope, id: Uuid) -> Result<ClientDetail, Failure> {
    let (client, change, edges, acks) = center
        .db
        .read(move |db| {
            let Some(client) = clients::by_id(db, scope, id)? else { return Ok(None) };
            let issuer = issuers::of_owner(db, client.owner, IssuerKind::Client)?.key_id;
            let change = change(&client, &issuer);
            let number = change.as_ref().map(|change| change.crl_number);
            let acks = match number {
                Some(number) => acks::first_since(db, client.owner, &issuer, number)?,
                None => Vec::new(),
            };
            let edges = edges::list(db, Scope::of(client.owner))?;
            Ok(Some((client, change, edges, acks)))
        })
        .await?
        .ok_or_else(|| unknown(id))?;
    let name = format!("{CLIENT_URN}{id}");
    let since = client.changed_ns.unwrap_or(0);
    let proof = |edge: edges::EdgeRow| {
        let ack = acks.iter().find(|ack| ack.edge == edge.id);
        let after_ms =
            |arrived_ns: i64| (arrived_ns.saturating_sub(since) / 1_000_000).max(0).cast_unsigned();
        EdgeProof {
            edge: edge.id,
            applied_at: ack.map(|ack| clock::timestamp_ns(ack.applied_ns)),
            confirmed_after_ms: ack.map(|ack| after_ms(ack.arrived_ns)),
            cut: ack.is_some_and(|ack| ack.cut.iter().any(|cut| cut.subject == name)),
            last_seen: edge.to_api(center.seen.last(edge.id)).last_seen,
            name: edge.name,
        }
    };
    // An edge without a tunnel key serves nobody yet, so there is nothing that it could confirm.
    let edges = edges.into_iter().filter(|edge| change.is_some() && edge.tunnel_key.is_some()).map(proof);
    Ok(ClientDetail { client: client.to_api(), edges: edges.collect(), change })
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
        assert_eq!(decide(Order::Disable, Enabled), Decision::Change(Disabled, Status::Hold));
        assert_eq!(decide(Order::Disable, Disabled), Decision::Nothing);
        assert_eq!(decide(Order::Enable, Disabled), Decision::Change(Enabled, Status::Good));
        assert_eq!(decide(Order::Enable, Enabled), Decision::Nothing);
        for state in [Invited, Enabled, Disabled] {
            assert_eq!(decide(Order::Revoke, state), Decision::Change(Revoked, Status::Withdrawn));
        }
        assert_eq!(decide(Order::Revoke, Revoked), Decision::Nothing);
        for order in [Order::Disable, Order::Enable] {
            assert!(refused(decide(order, Invited)) && refused(decide(order, Revoked)), "{order:?}");
        }
    }
}
