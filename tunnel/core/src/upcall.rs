//! What a lane cannot decide by itself, handed up to the engine.
//!
//! A lane never waits for the engine: the queue between them is bounded, and what finds no room is dropped and
//! counted. Nothing is lost for good by that: senders repeat handshake messages, and the engine looks at each
//! live line once a second by itself.

use crate::message::Message;
use crate::peers::PeerId;
use std::net::SocketAddr;
use verona_contract::control::Refusal;

/// One upcall. `B` is borrowed octets on the lane's side, boxed ones in a queue.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Upcall<B> {
    /// A datagram that needs the engine: of a handshake with the right mac1, a cookie reply, or data that
    /// came while the engine had the keys.
    Datagram(SocketAddr, B),
    /// Something has happened on this peer's line.
    Attention(PeerId),
    /// A datagram was refused, and before it `suppressed` others like it that were not told.
    Refused {
        /// Why.
        reason: Refusal,
        /// Its source address.
        from: SocketAddr,
        /// How many like it were not told since the last that was.
        suppressed: u64,
    },
}

/// How soon an upcall must be seen to. Each class deserves a queue of its own, so that a flood of the last one
/// keeps nobody else waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// News of lines, by the lanes themselves: nobody outside can make one without keys.
    Line,
    /// Answers to what we have sent: a line of such a number exists.
    Answer,
    /// Somebody begins a handshake.
    Initiation,
    /// Somebody shows a certificate.
    Introduction,
}

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Line, Self::Answer, Self::Initiation, Self::Introduction];
}

impl<B: AsRef<[u8]>> Upcall<B> {
    /// Its class.
    pub fn class(&self) -> Class {
        match self {
            Self::Datagram(_, octets) => match Message::parse(octets.as_ref()) {
                Some(Message::Initiation(_)) => Class::Initiation,
                Some(Message::Introduction { .. }) => Class::Introduction,
                _ => Class::Answer,
            },
            Self::Attention(_) | Self::Refused { .. } => Class::Line,
        }
    }

    /// The same with octets of its own.
    pub fn to_owned(&self) -> Upcall<Box<[u8]>> {
        match self {
            Self::Datagram(from, octets) => Upcall::Datagram(*from, octets.as_ref().into()),
            Self::Attention(id) => Upcall::Attention(*id),
            Self::Refused { reason, from, suppressed } => {
                Upcall::Refused { reason: *reason, from: *from, suppressed: *suppressed }
            }
        }
    }
}

/// The lane's end of the queue.
pub trait Upcalls {
    /// Takes an upcall, or returns false when there is no room. It must not block: locks are held.
    fn push(&mut self, upcall: Upcall<&[u8]>) -> bool;
}

/// An engine that drives its own lane takes everything.
impl Upcalls for std::collections::VecDeque<Upcall<Box<[u8]>>> {
    fn push(&mut self, upcall: Upcall<&[u8]>) -> bool {
        self.push_back(upcall.to_owned());
        true
    }
}
