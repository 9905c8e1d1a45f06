//! The messages of DHCPv6 (RFC 8415 §8, §21), as far as the client needs them.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr};
use verona_contract::config::network::services::DomainName;
use verona_contract::ipnet::IpNet;

/// Message types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Solicit = 1,
    Advertise = 2,
    Request = 3,
    Renew = 5,
    Rebind = 6,
    Reply = 7,
}

/// Option codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Option6 {
    /// Who asks.
    ClientId = 1,
    /// Who answers.
    ServerId = 2,
    /// Addresses.
    IaNa = 3,
    /// One of them.
    IaAddress = 5,
    /// What is asked for besides.
    Request = 6,
    /// Since when, in hundredths of a second.
    ElapsedTime = 8,
    /// What went wrong; 0 = nothing.
    StatusCode = 13,
    /// Name servers (RFC 3646).
    NameServers = 23,
    /// Prefixes.
    IaPd = 25,
    /// One of them.
    IaPrefix = 26,
    /// The tunnel's end of DS-Lite (RFC 6334).
    AftrName = 64,
}

/// The number of our only association of each kind.
const IA: u32 = 1;

/// Longest identity of a server, RFC 8415 §11.1.
const MAX_DUID: usize = 130;

/// Renewed at the latest after a day, and after ten seconds at the earliest.
const RENEW_S: std::ops::RangeInclusive<u32> = 10..=86_400;

/// What a server gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// The server's identity.
    pub server: Vec<u8>,
    /// An address for the line itself, and how long it holds, in seconds.
    pub address: Option<(Ipv6Addr, u32)>,
    /// A network for the hosts behind, and how long it holds, in seconds.
    pub prefix: Option<(IpNet, u32)>,
    /// Name servers, at most three.
    pub servers: Vec<IpAddr>,
    /// The tunnel's end of DS-Lite.
    pub aftr: Option<DomainName>,
    /// Seconds until it is to be renewed at this server, and at any.
    pub renew: u32,
    /// See `renew`.
    pub rebind: u32,
}

impl Lease {
    /// Seconds until nothing of it holds.
    #[must_use]
    pub fn valid(&self) -> u32 {
        let address = self.address.map_or(0, |(_, valid)| valid);
        self.prefix.map_or(address, |(_, valid)| valid.max(address))
    }

    /// Whether the box would look the same with it.
    #[must_use]
    pub fn gives_the_same(&self, other: &Self) -> bool {
        let what = |lease: &Self| {
            let (address, prefix) = (lease.address.map(|(one, _)| one), lease.prefix.map(|(one, _)| one));
            (address, prefix, lease.servers.clone(), lease.aftr.clone())
        };
        what(self) == what(other)
    }
}

/// A message that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// None = the server has nothing.
    pub(super) lease: Option<Lease>,
}

fn option(out: &mut Vec<u8>, code: Option6, data: &[u8]) {
    // Every caller's data is short.
    let length = u16::try_from(data.len()).unwrap_or(0);
    out.extend_from_slice(&(code as u16).to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&data[..usize::from(length)]);
}

/// `asked`: what the server should give again.
pub(super) fn write(
    kind: Kind,
    transaction: [u8; 3],
    duid: &[u8],
    server: Option<&[u8]>,
    elapsed: u16,
    asked: Option<&Lease>,
) -> Vec<u8> {
    let mut out = vec![kind as u8];
    out.extend_from_slice(&transaction);
    option(&mut out, Option6::ClientId, duid);
    if let Some(server) = server {
        option(&mut out, Option6::ServerId, server);
    }
    option(&mut out, Option6::ElapsedTime, &elapsed.to_be_bytes());
    let wanted = [Option6::NameServers, Option6::AftrName].map(|code| (code as u16).to_be_bytes());
    option(&mut out, Option6::Request, wanted.as_flattened());
    // Number, and no wish for the times of renewal.
    let association = [IA.to_be_bytes(), [0; 4], [0; 4]].concat();
    // After an offer, only what was offered.
    if asked.is_none_or(|lease| lease.address.is_some()) {
        let mut body = association.clone();
        if let Some((address, _)) = asked.and_then(|lease| lease.address) {
            option(&mut body, Option6::IaAddress, &[&address.octets()[..], &[0; 8]].concat());
        }
        option(&mut out, Option6::IaNa, &body);
    }
    if asked.is_none_or(|lease| lease.prefix.is_some()) {
        let mut body = association;
        if let Some((IpAddr::V6(address), prefix)) =
            asked.and_then(|lease| lease.prefix).map(|(net, _)| (net.address(), net.prefix()))
        {
            option(&mut body, Option6::IaPrefix, &[&[0; 8][..], &[prefix], &address.octets()].concat());
        }
        option(&mut out, Option6::IaPd, &body);
    }
    out
}

/// Options, up to the first that is cut off.
fn options(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let [c0, c1, l0, l1] = *head;
        let (data, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        rest = tail;
        Some((u16::from_be_bytes([c0, c1]), data))
    })
}

fn find(list: &[u8], code: Option6) -> Option<&[u8]> {
    options(list).find(|(one, _)| *one == code as u16).map(|(_, data)| data)
}

fn number(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk::<4>().map(|four| u32::from_be_bytes(*four))
}

/// An answer to this transaction of this client; none for everything else.
pub(super) fn read(datagram: &[u8], transaction: [u8; 3], duid: &[u8]) -> Option<Message> {
    let ([kind, a, b, c], list) = datagram.split_first_chunk::<4>()?;
    let kind = match kind {
        2 => Kind::Advertise,
        7 => Kind::Reply,
        _ => return None,
    };
    if [*a, *b, *c] != transaction || find(list, Option6::ClientId) != Some(duid) {
        return None;
    }
    let server = find(list, Option6::ServerId).filter(|server| (1..=MAX_DUID).contains(&server.len()))?;
    Some(Message { kind, lease: lease(list, server) })
}

fn failed(list: &[u8]) -> bool {
    find(list, Option6::StatusCode).is_some_and(|status| status.first_chunk() != Some(&[0, 0]))
}

/// The association's times, and the first of its parts that still holds.
fn association(list: &[u8], code: Option6, part: Option6, valid_at: usize) -> Option<(u32, u32, &[u8], u32)> {
    let body = options(list).filter(|(one, _)| *one == code as u16).map(|(_, data)| data);
    let (body, inner) = body
        .filter_map(|body| Some((body, body.get(12..)?)))
        .find(|(body, _)| number(body, 0) == Some(IA))?;
    if failed(inner) {
        return None;
    }
    let parts = options(inner).filter(|(one, _)| *one == part as u16);
    let (data, valid) =
        parts.filter_map(|(_, data)| Some((data, number(data, valid_at)?))).find(|(_, valid)| *valid > 0)?;
    Some((number(body, 4)?, number(body, 8)?, data, valid))
}

fn lease(list: &[u8], server: &[u8]) -> Option<Lease> {
    if failed(list) {
        return None;
    }
    let mut renew = Vec::new();
    let address =
        association(list, Option6::IaNa, Option6::IaAddress, 20).and_then(|(t1, t2, data, valid)| {
            let address = Ipv6Addr::from(*data.first_chunk::<16>()?);
            let unicast = !(address.is_unspecified() || address.is_multicast() || address.is_loopback());
            renew.push((t1, t2, valid));
            unicast.then_some((address, valid))
        });
    let prefix = association(list, Option6::IaPd, Option6::IaPrefix, 4).and_then(|(t1, t2, data, valid)| {
        let (length, address) = data.get(8..)?.split_first()?;
        let address = Ipv6Addr::from(*address.first_chunk::<16>()?);
        let net = IpNet::new(address.into(), *length).ok()?.network();
        // 2000::/3 and fc00::/7 are what hosts may have; more than /64 gives no network to any.
        let first = address.octets()[0];
        renew.push((t1, t2, valid));
        let usable = (first & 0xe0 == 0x20 || first & 0xfe == 0xfc) && (16..=64).contains(length);
        usable.then_some((net, valid))
    });
    if address.is_none() && prefix.is_none() {
        return None;
    }
    let servers = find(list, Option6::NameServers).unwrap_or_default().as_chunks::<16>().0.iter();
    let servers = servers.map(|octets| Ipv6Addr::from(*octets));
    let servers = servers.filter(|one| !one.is_multicast() && !one.is_unspecified() && !one.is_loopback());
    let shortest = renew.iter().map(|(_, _, valid)| *valid).min().unwrap_or(0);
    let least = |time: fn(&(u32, u32, u32)) -> u32| renew.iter().map(time).filter(|time| *time > 0).min();
    // A server may leave the times to the client (RFC 8415 §14.2).
    let renew_at = least(|times| times.0).unwrap_or(shortest / 2).clamp(*RENEW_S.start(), *RENEW_S.end());
    let rebind_at = least(|times| times.1).unwrap_or(shortest / 5 * 4).max(renew_at);
    Some(Lease {
        server: server.to_vec(),
        address,
        prefix,
        servers: servers.map(IpAddr::V6).take(3).collect(),
        aftr: find(list, Option6::AftrName).and_then(name),
        renew: renew_at,
        rebind: rebind_at,
    })
}

/// A name of labels (RFC 1035 §3.1), without compression.
fn name(mut octets: &[u8]) -> Option<DomainName> {
    let mut labels = Vec::new();
    loop {
        let (length, rest) = octets.split_first()?;
        if *length == 0 {
            break;
        }
        let (label, rest) = rest.split_at_checked(usize::from(*length))?;
        labels.push(std::str::from_utf8(label).ok()?.to_ascii_lowercase());
        octets = rest;
    }
    labels.join(".").parse().ok()
}
