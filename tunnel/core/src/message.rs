//! What a datagram claims to be: WireGuard's four messages (whitepaper §5.4) and our introduction.
//!
//! Only lengths and fixed octets are looked at; each field that follows is still the sender's word.

/// Octets of a handshake initiation.
pub const INITIATION: usize = 148;
/// Octets of a handshake response.
pub const RESPONSE: usize = 92;
/// Octets of a cookie reply.
pub const COOKIE_REPLY: usize = 64;
/// Header and tag of a transport message.
pub const DATA_OVERHEAD: usize = 32;

/// WireGuard's Reject-After-Messages (whitepaper §6.1): 2^64 − 2^13 − 1. boringtun does not check it, and a
/// higher counter overflows its replay window.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// A datagram of the right length and type.
#[derive(Debug)]
pub enum Message<'a> {
    /// Type 1.
    Initiation(InitiationMessage<'a>),
    /// Type 2; its index is the receiver's.
    Response {
        /// Ours, if the sender speaks the truth.
        receiver: u32,
        /// The sender's, echoed in a cookie reply.
        sender: u32,
    },
    /// Type 3.
    CookieReply(CookieReplyMessage<'a>),
    /// Type 4.
    Data {
        /// Ours, if the sender speaks the truth.
        receiver: u32,
    },
    /// Type 0x10.
    Introduction {
        /// The sender's, echoed in a cookie reply.
        sender: u32,
    },
}

/// The fields of an initiation.
#[derive(Debug)]
pub struct InitiationMessage<'a> {
    /// The sender's index.
    pub sender: u32,
    /// Unencrypted ephemeral key.
    pub ephemeral: &'a [u8; 32],
    /// The sender's static key, sealed.
    pub sealed_static: &'a [u8; 48],
    /// TAI64N, sealed.
    pub sealed_timestamp: &'a [u8; 28],
}

/// The fields of a cookie reply.
#[derive(Debug)]
pub struct CookieReplyMessage<'a> {
    /// The index of the message it answers.
    pub receiver: u32,
    /// Nonce of `XChaCha20-Poly1305`.
    pub nonce: &'a [u8; 24],
    /// The cookie, sealed.
    pub sealed_cookie: &'a [u8; 32],
}

impl<'a> Message<'a> {
    /// Reads a datagram; `None` when length or type fit no message.
    #[must_use]
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let kind = datagram.first_chunk::<4>()?;
        match (kind, datagram.len()) {
            ([1, 0, 0, 0], INITIATION) => Some(Self::Initiation(InitiationMessage {
                sender: u32_at(datagram, 4)?,
                ephemeral: array_at(datagram, 8)?,
                sealed_static: array_at(datagram, 40)?,
                sealed_timestamp: array_at(datagram, 88)?,
            })),
            ([2, 0, 0, 0], RESPONSE) => {
                Some(Self::Response { sender: u32_at(datagram, 4)?, receiver: u32_at(datagram, 8)? })
            }
            ([3, 0, 0, 0], COOKIE_REPLY) => Some(Self::CookieReply(CookieReplyMessage {
                receiver: u32_at(datagram, 4)?,
                nonce: array_at(datagram, 8)?,
                sealed_cookie: array_at(datagram, 32)?,
            })),
            ([4, 0, 0, 0], DATA_OVERHEAD..) => {
                let counter = u64::from_le_bytes(*array_at(datagram, 8)?);
                (counter < REJECT_AFTER_MESSAGES).then_some(Self::Data { receiver: u32_at(datagram, 4)? })
            }
            ([0x10, 1, 0, 0], crate::introduction::SMALL | crate::introduction::LARGE) => {
                Some(Self::Introduction { sender: u32_at(datagram, 4)? })
            }
            _ => None,
        }
    }
}

fn array_at<const N: usize>(datagram: &[u8], offset: usize) -> Option<&[u8; N]> {
    datagram.get(offset..)?.first_chunk()
}

fn u32_at(datagram: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*array_at(datagram, offset)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_types_and_reserved_octets() {
        for (kind, len) in [(1u8, INITIATION), (2, RESPONSE), (3, COOKIE_REPLY), (4, 32), (4, 1500)] {
            let mut datagram = vec![0; len];
            datagram[0] = kind;
            assert!(Message::parse(&datagram).is_some(), "type {kind} of {len}");
            datagram[3] = 1;
            assert!(Message::parse(&datagram).is_none(), "reserved octet set, type {kind}");
            datagram[3] = 0;
            assert!(Message::parse(&datagram[..31]).is_none(), "short, type {kind}");
        }
        for (len, accepted) in [(640, true), (1232, true), (641, false), (960, false)] {
            let mut datagram = vec![0; len];
            datagram[..2].copy_from_slice(&[0x10, 1]);
            assert_eq!(Message::parse(&datagram).is_some(), accepted, "introduction of {len}");
        }
    }

    #[test]
    fn counters_at_the_end_are_refused() {
        let mut datagram = [0; 32];
        datagram[0] = 4;
        datagram[8..16].copy_from_slice(&(REJECT_AFTER_MESSAGES - 1).to_le_bytes());
        assert!(Message::parse(&datagram).is_some());
        datagram[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(Message::parse(&datagram).is_none());
    }

    proptest! {
        #[test]
        fn any_octets(datagram in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..6) {
            let mut datagram = datagram;
            if let Some(first) = datagram.first_mut() {
                *first = kind;
            }
            let _ = Message::parse(&datagram);
        }
    }
}
