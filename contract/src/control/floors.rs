//! Timestamp floors on their way between the tunnel, which learns them, and the agent, which keeps them.
//!
//! WireGuard refuses an initiation that is not newer than the last one of its key (whitepaper §5.1). That memory
//! must outlive the process that made it, or a recorded initiation is answered after a restart. A floor is
//! what the peer has proven, never a time of ours: a wrong clock here can neither raise nor lower one.

use crate::key::PublicKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Most floors that either side keeps; the key longest without news goes first.
pub const MAX_FLOORS: usize = 131_072;

/// Most floors in one [`super::Command::LoadFloors`]: the data plane takes them between two batches of packets.
pub const FLOORS_AT_ONCE: usize = 4096;

/// The newest initiation that a key has proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The peer's WireGuard key.
    pub key: PublicKey,
    /// Nothing up to it is answered again.
    pub timestamp: Tai64n,
}

/// The answer to [`super::Command::Floors`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floors {
    /// In no particular order.
    pub floors: Vec<Floor>,
    /// Whether nothing is missing. When false, more was proven than the tunnel keeps for an agent that does not
    /// ask: only the question for all of them makes it whole.
    pub complete: bool,
}

/// A TAI64N label as WireGuard sends it (whitepaper §5.4.2): 8 octets of seconds, 4 of nanoseconds, both
/// big-endian, so that the order of the octets is the order in time. Only that order is used. In JSON 24
/// hexadecimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tai64n(pub [u8; 12]);

/// Text that is not a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a TAI64N label is 24 hexadecimal digits")]
pub struct Tai64nError;

impl FromStr for Tai64n {
    type Err = Tai64nError;

    fn from_str(text: &str) -> Result<Self, Tai64nError> {
        if text.len() != 24 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Tai64nError);
        }
        // All digits, so no sign and nothing but ASCII: the slices are whole characters.
        let octet = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16);
        let mut label = [0; 12];
        for (at, slot) in label.iter_mut().enumerate() {
            *slot = octet(at).map_err(|_| Tai64nError)?;
        }
        Ok(Self(label))
    }
}

impl TryFrom<String> for Tai64n {
    type Error = Tai64nError;

    fn try_from(text: String) -> Result<Self, Tai64nError> {
        text.parse()
    }
}

impl From<Tai64n> for String {
    fn from(label: Tai64n) -> Self {
        label.to_string()
    }
}

impl fmt::Display for Tai64n {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_weigh_more_than_nanoseconds() {
        let label = |seconds: u64, nanos: u32| {
            let mut octets = [0; 12];
            octets[..8].copy_from_slice(&seconds.to_be_bytes());
            octets[8..].copy_from_slice(&nanos.to_be_bytes());
            Tai64n(octets)
        };
        assert!(label(2, 0) > label(1, 999_999_999));
        assert!(label(256, 0) > label(255, 0));
        assert!(label(1, 2) > label(1, 1));
        assert!(label(0, 1) > Tai64n::default());
    }

    #[test]
    fn text_and_back() {
        let label = Tai64n([0x40, 0, 0, 0, 0x6a, 0xfe, 1, 2, 0, 0, 0, 9]);
        assert_eq!(label.to_string(), "400000006afe010200000009");
        assert_eq!(label.to_string().parse(), Ok(label));
        for bad in
            ["", "40", "400000006afe01020000000g", "+00000006afe010200000009", "４00000006afe010200009"]
        {
            assert_eq!(bad.parse::<Tai64n>(), Err(Tai64nError), "{bad}");
        }
    }
}
