//! Which connections the kernel shall forget when a client is cut, in nfnetlink's own octets.
//!
//! The kernel's connection table outlives a session: a flow that was let through stays let through, and its
//! translated port stays taken. An entry belongs to a client when the client's tunnel address is the source of
//! either direction; so flows behind address translation are found, too. Sockets belong to the shell.
//! (linux/netfilter/nfnetlink_conntrack.h)

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `NFNL_SUBSYS_CTNETLINK << 8`, with `IPCTNL_MSG_CT_NEW`, `_GET`, `_DELETE`.
const CT_NEW: u16 = 1 << 8;
const CT_GET: u16 = CT_NEW | 1;
const CT_DELETE: u16 = CT_NEW | 2;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
/// Flags of an attribute's type: nested, network byte order.
const TYPE_MASK: u16 = 0x3fff;
const NLMSGHDR: usize = 16;
const NFGENMSG: usize = 4;

/// One message of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A connection.
    Entry(Entry),
    /// The end of a dump.
    Done,
    /// The outcome of a request: 0 or a negative errno.
    Outcome(i32),
}

/// A connection as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    sources: Vec<IpAddr>,
    family: u8,
    /// The attributes that name it, as the kernel gave them.
    name: Vec<u8>,
}

impl Entry {
    /// Whether one of `addresses` sends in it.
    #[must_use]
    pub fn is_of(&self, addresses: &HashSet<IpAddr>) -> bool {
        self.sources.iter().any(|source| addresses.contains(source))
    }

    /// The request that removes it. Another connection in its place is left alone.
    #[must_use]
    pub fn removal(&self) -> Vec<u8> {
        request(CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, self.family, &self.name)
    }
}

/// The request for all entries of both families.
#[must_use]
pub fn dump() -> Vec<u8> {
    request(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, 0, &[])
}

fn request(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    // A dumped entry's attributes are far below 4 GiB.
    let length = (NLMSGHDR + NFGENMSG + attributes.len()) as u32;
    let mut out = Vec::with_capacity(NLMSGHDR + NFGENMSG + attributes.len());
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    // Sequence and port: there is one request on the way at a time.
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[family, 0, 0, 0]);
    out.extend_from_slice(attributes);
    out
}

/// The messages in one datagram from the kernel. What is not known or does not read is left out.
#[must_use]
pub fn messages(datagram: &[u8]) -> Vec<Message> {
    let mut rest = datagram;
    let mut found = Vec::new();
    while let Some(length) = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(message) = rest.get(..length).filter(|message| message.len() >= NLMSGHDR) else { break };
        found.extend(message_of(message));
        rest = rest.get(align(length)..).unwrap_or_default();
    }
    found
}

fn message_of(message: &[u8]) -> Option<Message> {
    let body = message.get(NLMSGHDR..)?;
    match u16_at(message, 4)? {
        NLMSG_DONE => Some(Message::Done),
        NLMSG_ERROR => u32_at(body, 0).map(|errno| Message::Outcome(errno.cast_signed())),
        CT_NEW => entry(*body.first()?, body.get(NFGENMSG..)?).map(Message::Entry),
        _ => None,
    }
}

fn entry(family: u8, octets: &[u8]) -> Option<Entry> {
    let mut entry = Entry { sources: Vec::with_capacity(2), family, name: Vec::new() };
    for Attribute { kind, value, whole } in attributes(octets) {
        match kind {
            CTA_TUPLE_ORIG | CTA_TUPLE_REPLY => entry.sources.extend(source(value)),
            _ => {}
        }
        if matches!(kind, CTA_TUPLE_ORIG | CTA_ID | CTA_ZONE) {
            entry.name.extend_from_slice(whole);
            entry.name.resize(align(entry.name.len()), 0);
        }
    }
    (!entry.name.is_empty()).then_some(entry)
}

fn source(tuple: &[u8]) -> Option<IpAddr> {
    let ip = attributes(tuple).find(|attribute| attribute.kind == CTA_TUPLE_IP)?;
    attributes(ip.value).find_map(|Attribute { kind, value, .. }| match kind {
        CTA_IP_V4_SRC => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        CTA_IP_V6_SRC => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    })
}

/// One attribute (netlink(7)).
struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
    /// With its header, without padding.
    whole: &'a [u8],
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let whole = rest.get(..length)?;
        let (value, kind) = (whole.get(4..)?, u16_at(rest, 2)? & TYPE_MASK);
        rest = rest.get(align(length)..).unwrap_or_default();
        Some(Attribute { kind, value, whole })
    })
}

const fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(value);
        out.resize(align(out.len()), 0);
        out
    }

    fn tuple(kind: u16, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let ip = [attribute(CTA_IP_V4_SRC, &source), attribute(2, &destination)].concat();
        let proto = attribute(0x8002, &attribute(1, &[6]));
        attribute(0x8000 | kind, &[attribute(0x8000 | CTA_TUPLE_IP, &ip), proto].concat())
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut out = request(kind, 2, 2, body);
        out.resize(align(out.len()), 0);
        out
    }

    fn set(addresses: &[&str]) -> HashSet<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn an_entry_is_found_by_the_source_of_either_direction() {
        // A translated flow: the client's address is in the original direction only.
        let orig = tuple(CTA_TUPLE_ORIG, [10, 9, 0, 2], [192, 168, 77, 5]);
        let reply = tuple(CTA_TUPLE_REPLY, [192, 168, 77, 5], [192, 168, 77, 1]);
        let status = attribute(3, &[0, 0, 0, 14]);
        let id = attribute(CTA_ID, &[1, 2, 3, 4]);
        let body = [orig.clone(), reply, status, id.clone()].concat();
        let datagram = [message(CT_NEW, &body), message(CT_NEW, &body)].concat();
        let found = messages(&datagram);
        assert_eq!(found.len(), 2);
        let Message::Entry(entry) = &found[0] else { unreachable!("{found:?}") };
        assert!(entry.is_of(&set(&["10.9.0.2"])) && entry.is_of(&set(&["10.9.0.9", "192.168.77.5"])));
        assert!(
            !entry.is_of(&set(&["192.168.77.1"])) && !entry.is_of(&set(&[])),
            "a destination is no source"
        );
        let removal = entry.removal();
        assert_eq!(u16_at(&removal, 4), Some(CT_DELETE));
        assert_eq!(removal[NLMSGHDR + NFGENMSG..], [orig, id].concat(), "nothing but its name");
        assert_eq!(u32_at(&removal, 0), Some(removal.len() as u32));
    }

    #[test]
    fn ends_errors_and_garbage() {
        let done = [20u32.to_ne_bytes().to_vec(), NLMSG_DONE.to_ne_bytes().to_vec(), vec![0; 14]].concat();
        assert_eq!(messages(&done), [Message::Done]);
        let mut error =
            [36u32.to_ne_bytes().to_vec(), NLMSG_ERROR.to_ne_bytes().to_vec(), vec![0; 10]].concat();
        error.extend_from_slice(&(-2i32).to_ne_bytes());
        error.resize(36, 0);
        assert_eq!(messages(&error), [Message::Outcome(-2)]);
        let whole = message(CT_NEW, &tuple(CTA_TUPLE_ORIG, [10, 9, 0, 2], [10, 9, 0, 3]));
        for length in 0..whole.len() {
            assert!(messages(&whole[..length]).is_empty(), "{length} octets");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 3, 4, 0x7f, 0xff] {
                let mut garbage = whole.clone();
                garbage[at] = value;
                let _ = messages(&garbage);
            }
        }
    }
}
