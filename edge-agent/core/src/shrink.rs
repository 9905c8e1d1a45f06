//! The shrink guard: a configuration that would take most of what is there away is taken for an accident.
//!
//! A database that answers with half its rows looks, in a snapshot, like the wish to remove the other half. Who
//! means it says `allow_shrink`. A few may always go: removing the third client of three is a day's work.

use std::collections::BTreeSet;
use verona_contract::config::EdgeConfig;

/// So many of a kind may go without leave, whatever their share.
const FEW: usize = 4;

/// What a configuration would take away without leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("removes {removed} of {held} {kind}: a configuration that means it says allow_shrink")]
pub struct Shrinks {
    kind: &'static str,
    removed: usize,
    held: usize,
}

/// Compares `next` with the configuration in force.
///
/// # Errors
///
/// [`Shrinks`]: the first kind of which more than half would go.
pub fn check(current: &EdgeConfig, next: &EdgeConfig) -> Result<(), Shrinks> {
    if next.allow_shrink {
        return Ok(());
    }
    // By number: a renewed certificate is another one of the same client.
    shrinks("peers", FEW, peers(current), peers(current).saturating_sub(peers(next)))?;
    let gone = |of: fn(&EdgeConfig) -> BTreeSet<String>| of(current).difference(&of(next)).count();
    // An owner stands for any number of clients that introduce themselves.
    shrinks("owners", 0, owners(current).len(), gone(owners))?;
    shrinks("routes", FEW, routes(current).len(), gone(routes))
}

const fn shrinks(kind: &'static str, few: usize, held: usize, removed: usize) -> Result<(), Shrinks> {
    if removed > few && removed * 2 > held { Err(Shrinks { kind, removed, held }) } else { Ok(()) }
}

fn owners(config: &EdgeConfig) -> BTreeSet<String> {
    config.tunnel.owners.iter().map(|owner| owner.owner.to_string()).collect()
}

/// Whoever is named one by one.
fn peers(config: &EdgeConfig) -> usize {
    let owners = config.tunnel.owners.iter();
    owners.map(|owner| owner.clients.len() + owner.identities.len() + owner.sites.len()).sum()
}

fn routes(config: &EdgeConfig) -> BTreeSet<String> {
    let sites = config.tunnel.owners.iter().flat_map(|owner| &owner.sites).flat_map(|site| &site.subnets);
    config.tunnel.routes.iter().chain(sites).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// With `clients` pushed clients, `routes` routes and owners called `owners`.
    fn config(clients: u16, routes: u8, owners: &[&str], allow_shrink: bool) -> EdgeConfig {
        let octets = |n: u16| verona_contract::base64::encode(n.to_be_bytes());
        let owner = |(index, name): (usize, &&str)| {
            // The first owner has the clients.
            let clients: Vec<String> = if index == 0 { (0..clients).map(octets).collect() } else { vec![] };
            json!({
                "owner": name, "anchors": ["MAA="], "crl": { "grace_s": 1, "stale": "deny-new" },
                "psk_root": { "id": 1, "secret": verona_contract::base64::encode([9; 32]) },
                "clients": clients, "max_clients": 10,
            })
        };
        let routes: Vec<String> = (0..routes).map(|n| format!("10.{n}.0.0/16")).collect();
        let config = json!({
            "edge_id": uuid::Uuid::nil(), "seq": 1, "issued_at": "2026-01-02T03:04:05Z",
            "minimum_agent": "0.1.0", "allow_shrink": allow_shrink,
            "tunnel": {
                "addresses": ["10.8.0.1/16"], "listen_port": 1, "mtu": 1420, "routes": routes,
                "owners": owners.iter().enumerate().map(owner).collect::<Vec<_>>(),
            },
        });
        EdgeConfig::parse(config.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn more_than_half_needs_leave() {
        let one = &["acme"][..];
        let many = &["acme", "bolt", "core"][..];
        for (name, before, after, refused) in [
            ("the same", (20, 9, one), (20, 9, one), None),
            ("half of the peers", (20, 9, one), (10, 9, one), None),
            ("more than half of the peers", (20, 9, one), (9, 9, one), Some("removes 11 of 20 peers")),
            ("all of many peers", (5, 0, one), (0, 0, one), Some("removes 5 of 5 peers")),
            ("all of a few peers", (4, 0, one), (0, 0, one), None),
            ("more than half of the routes", (0, 9, one), (0, 4, one), Some("removes 5 of 9 routes")),
            ("the only owner", (0, 0, one), (0, 0, &[]), Some("removes 1 of 1 owners")),
            ("one owner of three", (0, 0, many), (0, 0, &["acme", "bolt"]), None),
            ("two owners of three", (0, 0, many), (0, 0, one), Some("removes 2 of 3 owners")),
            ("growth", (1, 1, one), (500, 9, many), None),
        ] {
            let of =
                |(clients, routes, owners): (u16, u8, &[&str]), allow| config(clients, routes, owners, allow);
            let found = check(&of(before, false), &of(after, false)).map_err(|shrinks| shrinks.to_string());
            match refused {
                None => assert_eq!(found, Ok(()), "{name}"),
                Some(start) => {
                    assert!(found.as_ref().is_err_and(|text| text.starts_with(start)), "{name}: {found:?}");
                }
            }
            assert_eq!(check(&of(before, false), &of(after, true)), Ok(()), "{name}, with leave");
        }
    }
}
