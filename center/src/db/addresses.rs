//! Tunnel addresses: which host of an owner's network is whose.
//!
//! Edges get the first hosts, clients those after them. Addresses are never moved: they are in certificates,
//! and rules of firewalls are written for them.

use super::{DbError, OwnerId};
use rusqlite::{Connection, Transaction};
use std::net::IpAddr;
use verona_contract::ipnet::IpNet;

/// Most hosts kept for edges.
const EDGE_HOSTS: i64 = 15;

/// Who gets an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// One of the first hosts.
    Edge,
    /// One after those.
    Client,
}

/// Host numbers of a network: 1 to the last one. IPv4's broadcast address is none.
pub(crate) fn last_host(network: IpNet) -> i64 {
    let bits = if network.address().is_ipv4() { 32 } else { 128 } - u32::from(network.prefix());
    // More than 2^40 hosts are as good as endless.
    let size = 1_i64 << bits.min(40);
    if network.address().is_ipv4() { size - 2 } else { size - 1 }
}

/// The address of a host number.
pub(crate) fn host_address(network: IpNet, host: i64) -> IpAddr {
    match network.network().address() {
        IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).wrapping_add(host as u32).into()),
        IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_add(host.unsigned_abs().into()).into()),
    }
}

/// Takes the lowest free host. None when the network is full.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn take(
    transaction: &Transaction<'_>,
    owner: OwnerId,
    network: IpNet,
    holder: Holder,
) -> Result<Option<i64>, DbError> {
    let last = last_host(network);
    let kept = EDGE_HOSTS.min(last / 4);
    let host = match holder {
        // Edges may spill over into the clients' hosts, never the other way round.
        Holder::Edge => lowest_free(transaction, owner, 1, last)?,
        Holder::Client => lowest_free(transaction, owner, kept + 1, last)?,
    };
    if let Some(host) = host {
        transaction.execute("INSERT INTO address(owner, host) VALUES (?1, ?2)", (owner, host))?;
    }
    Ok(host)
}

fn lowest_free(connection: &Connection, owner: OwnerId, from: i64, to: i64) -> Result<Option<i64>, DbError> {
    let sql = "SELECT min(candidate) FROM (
            SELECT ?2 AS candidate UNION ALL
            SELECT host + 1 FROM address WHERE owner = ?1 AND host >= ?2
        ) WHERE candidate <= ?3
            AND NOT EXISTS (SELECT 1 FROM address WHERE owner = ?1 AND host = candidate)";
    Ok(connection.query_row(sql, (owner, from, to), |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_networks() {
        let table = [
            ("10.8.0.0/24", 1, "10.8.0.1", 254),
            ("10.8.0.0/24", 254, "10.8.0.254", 254),
            ("10.0.0.0/8", 256, "10.0.1.0", 16_777_214),
            ("fd00::/64", 16, "fd00::10", (1 << 40) - 1),
        ];
        for (network, host, address, last) in table {
            let network = network.parse().unwrap();
            assert_eq!(host_address(network, host).to_string(), address);
            assert_eq!(last_host(network), last);
        }
    }
}
