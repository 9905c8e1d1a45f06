//! STUN binding (RFC 8489), as far as an edge needs it to learn how its line looks from outside: under which address it
//! is known, whether a NAT changes that by destination, and which packets pass.
//!
//! The center answers on both of [`PORTS`]; a mapping that differs between them depends on the destination. A question
//! is filled up (PADDING, RFC 5780 §7.6) and an answer is never longer than it, so nobody's flood grows here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The UDP ports of the center.
pub const PORTS: [u16; 2] = [3478, 3479];

/// Names a question in its answer.
pub type TransactionId = [u8; 12];

/// The least octets of a question that gets an answer: as many as the longest answer has.
pub const LEAST: usize = 44;

/// The largest datagram that is looked at.
pub const MOST: usize = 2048;

const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PADDING: u16 = 0x0026;
/// From here on attributes may be passed over by who does not know them.
const OPTIONAL: u16 = 0x8000;

/// A question of about `size` octets: between [`LEAST`] and [`MOST`], rounded down to a multiple of four.
#[must_use]
pub fn request(id: &TransactionId, size: usize) -> Vec<u8> {
    let size = size.clamp(LEAST, MOST) & !3;
    let mut octets = header(BINDING_REQUEST, size - HEADER, id);
    octets.extend(PADDING.to_be_bytes());
    octets.extend(u16_of(size - HEADER - 4).to_be_bytes());
    octets.resize(size, 0);
    octets
}

/// The answer to `request`, which came from `source`; none to what is no question, or a short one.
#[must_use]
pub fn reply(request: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let (kind, id, mut attributes) = split(request)?;
    if kind != BINDING_REQUEST || request.len() < LEAST {
        return None;
    }
    // What must be understood and is not gets no answer of ours.
    if attributes.any(|(kind, _)| kind < OPTIONAL && kind != PADDING) {
        return None;
    }
    let value = masked(source, &id);
    let mut octets = header(BINDING_SUCCESS, 4 + value.len(), &id);
    octets.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
    octets.extend(u16_of(value.len()).to_be_bytes());
    octets.extend(value);
    Some(octets)
}

/// Which question `answer` answers, and the address in it.
#[must_use]
pub fn mapped(answer: &[u8]) -> Option<(TransactionId, SocketAddr)> {
    let (kind, id, mut attributes) = split(answer)?;
    if kind != BINDING_SUCCESS {
        return None;
    }
    let (_, value) = attributes.find(|(kind, _)| *kind == XOR_MAPPED_ADDRESS)?;
    let (head, address) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([head[2] ^ MAGIC_COOKIE[0], head[3] ^ MAGIC_COOKIE[1]]);
    let mask = mask(&id);
    let ip = match (head[1], address.len()) {
        (1, 4) => IpAddr::V4(Ipv4Addr::from(xor::<4>(address, &mask)?)),
        (2, 16) => IpAddr::V6(Ipv6Addr::from(xor::<16>(address, &mask)?)),
        _ => return None,
    };
    Some((id, SocketAddr::new(ip, port)))
}

fn header(kind: u16, length: usize, id: &TransactionId) -> Vec<u8> {
    let mut octets = kind.to_be_bytes().to_vec();
    octets.extend(u16_of(length).to_be_bytes());
    octets.extend(MAGIC_COOKIE);
    octets.extend(id);
    octets
}

/// Lengths here are below [`MOST`].
fn u16_of(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Kind, transaction and attributes of a message that is whole.
fn split(octets: &[u8]) -> Option<(u16, TransactionId, Attributes<'_>)> {
    let (header, body) = octets.split_first_chunk::<HEADER>()?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[4..8] != MAGIC_COOKIE || length != body.len() || !length.is_multiple_of(4) {
        return None;
    }
    let id = header[8..].try_into().ok()?;
    Some((u16::from_be_bytes([header[0], header[1]]), id, Attributes(body)))
}

/// What is torn ends the walk.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let value = rest.get(..length)?;
        self.0 = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_be_bytes([head[0], head[1]]), value))
    }
}

/// NATs that translate addresses wherever they see them must not see this one.
fn masked(source: SocketAddr, id: &TransactionId) -> Vec<u8> {
    let [p0, p1] = source.port().to_be_bytes();
    let mask = mask(id);
    let (family, address) = match source.ip().to_canonical() {
        IpAddr::V4(v4) => (1, v4.octets().to_vec()),
        IpAddr::V6(v6) => (2, v6.octets().to_vec()),
    };
    let mut value = vec![0, family, p0 ^ MAGIC_COOKIE[0], p1 ^ MAGIC_COOKIE[1]];
    value.extend(address.iter().zip(mask).map(|(octet, mask)| octet ^ mask));
    value
}

fn mask(id: &TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE);
    mask[4..].copy_from_slice(id);
    mask
}

fn xor<const N: usize>(octets: &[u8], mask: &[u8; 16]) -> Option<[u8; N]> {
    let mut plain: [u8; N] = octets.try_into().ok()?;
    plain.iter_mut().zip(mask).for_each(|(octet, mask)| *octet ^= mask);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: TransactionId = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

    #[test]
    fn the_address_in_the_rfcs_test_vectors() {
        // RFC 5769 §2.2 and §2.3, without what signs them.
        let v4 = "0101000c2112a442b7e7a701bc34d686fa87dfae002000080001a147e112a643";
        let v6 = "010100182112a442b7e7a701bc34d686fa87dfae002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9";
        let octets = |hex: &str| -> Vec<u8> {
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
        };
        for (hex, address) in [(v4, "192.0.2.1:32853"), (v6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
        {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(mapped(&octets(hex)), Some((ID, address)));
            assert_eq!(reply(&request(&ID, 100), address), Some(octets(hex)));
        }
    }

    #[test]
    fn no_answer_is_longer_than_its_question() {
        let source: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        for size in [0, LEAST, 45, 1472, MOST, 70_000] {
            let question = request(&ID, size);
            assert_eq!(question.len(), size.clamp(LEAST, MOST) & !3);
            assert!(reply(&question, source).unwrap().len() <= question.len());
        }
        let mut short = header(BINDING_REQUEST, 0, &ID);
        assert_eq!(reply(&short, source), None);
        short[3] = 24;
        assert_eq!(reply(&short, source), None);
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let source = "192.0.2.1:1".parse().unwrap();
        for (name, at, value) in [
            ("an answer", 0, 1),
            ("another method", 1, 2),
            ("another cookie", 4, 0),
            ("a wrong length", 3, 0xff),
            ("an attribute that must be understood", 21, 6),
        ] {
            let mut question = request(&ID, 100);
            question[at] = value;
            assert_eq!(reply(&question, source), None, "{name}");
        }
        let answer = reply(&request(&ID, 100), source).unwrap();
        assert_eq!(reply(&answer, source), None, "two such servers do not talk for ever");
    }

    proptest! {
        #[test]
        fn no_datagram_brings_it_down(octets: Vec<u8>, port: u16) {
            let _ = mapped(&octets);
            let answer = reply(&octets, ([192, 0, 2, 1], port).into());
            prop_assert!(answer.is_none_or(|answer| answer.len() <= octets.len()));
            // The same behind a sound header.
            let mut framed = header(BINDING_REQUEST, octets.len(), &ID);
            framed.extend(&octets);
            let _ = (reply(&framed, ([192, 0, 2, 1], port).into()), mapped(&framed));
        }
    }
}
