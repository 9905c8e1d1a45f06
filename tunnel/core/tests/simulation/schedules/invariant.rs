//! What must hold of everything that leaves the edge, in either direction, after every step.
//!
//! No packet is ever delivered inward for a certificate that the newest accepted list revokes, that is
//! expired, not owned, or never proven; none twice, none from a foreign source. And none leaves for such a
//! certificate's holder, nor is one answered who has proven nothing, or who is replayed.

use super::world::{World, answered};
use std::net::{IpAddr, SocketAddr};

const RESPONSE: u8 = 2;
const COOKIE_REPLY: u8 = 3;

/// A packet came out on the inner side.
pub(crate) fn check_delivery(world: &mut World<'_>, packet: &[u8]) -> Result<(), String> {
    let payload = packet.get(20..29).ok_or("a packet that nobody sent")?;
    let client = usize::from(payload[0]);
    let number = u64::from_be_bytes(payload[1..].try_into().map_err(|_| "nine octets")?);
    // Sent by the holder of the key, from its own inner address, and once: others are not in this table.
    if !world.underway.remove(&(client, number)) {
        return Err(format!("packet {number} of client {client}: twice, spoofed, or never sent"));
    }
    let cast = world.cast;
    let key = cast.clients[client].key;
    let known = world.edge.engine.peers().into_iter().find(|peer| peer.key == key);
    let known = known.ok_or_else(|| format!("client {client} has a session and no record"))?;
    let certificate = cast.clients[client].certificates.iter().copied().find(|certificate| {
        let (_, serial) = cast.certificates[*certificate].chain[0];
        let leads_to = cast.certificates[*certificate].leads_to;
        leads_to.is_some_and(|(owner, _)| owner.code() == known.owner.as_str())
            && u64::from_str_radix(&known.serial.to_string(), 16) == Ok(serial)
    });
    let certificate =
        certificate.ok_or_else(|| format!("client {client} is in by a certificate that is not its own"))?;
    if !world.model.permits(cast, certificate, true) {
        return Err(format!("a packet by {:?} was delivered", cast.certificates[certificate].name));
    }
    let inner: IpAddr = cast.clients[client].inner.parse().map_err(|_| "an address")?;
    if known.addresses != [inner] || packet.get(12..16) != Some(&octets(inner)[..]) {
        return Err(format!("client {client} uses {:?}", known.addresses));
    }
    world.delivered += 1;
    Ok(())
}

/// A datagram left for `to`.
pub(crate) fn check_sending(world: &mut World<'_>, to: SocketAddr, datagram: &[u8]) -> Result<(), String> {
    let kind = *datagram.first().ok_or("an empty datagram")?;
    if let Some((client, attempt)) = answered(datagram) {
        // Each of a client's initiations is later than the ones before: none is answered twice, or out of order.
        let last = world.answered.insert(client, attempt);
        if last.is_some_and(|last| last >= attempt) {
            return Err(format!("attempt {attempt} of client {client} is answered after {last:?}"));
        }
    }
    let client = match kind {
        RESPONSE => answered(datagram).map(|(client, _)| client),
        COOKIE_REPLY => return Ok(()),
        _ => client_at(to),
    };
    let client = client.filter(|client| *client < world.cast.clients.len());
    match client {
        None => Err(format!("a message of type {kind} went to {to}, who has proven nothing")),
        Some(client) if world.model.permits_client(world.cast, client) => Ok(()),
        Some(client) => Err(format!("a message of type {kind} went out for client {client}, who is out")),
    }
}

/// Whose address it is, whatever the port.
fn client_at(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(v4) => match v4.octets() {
            [192, 0, 2, host] if host >= 10 => Some(usize::from(host - 10)),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
