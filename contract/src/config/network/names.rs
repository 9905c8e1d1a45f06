//! Names in a network's configuration: of zones, and of the box's ports.
//!
//! Both become names of interfaces and parts of firewall rules, so their characters are few.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Names an uplink or a local network: 1 to 12 characters of `a-z`, `0-9` and `-`, the first a letter. With a prefix
/// of three it is still a name for an interface. `wan`, `lan`, `vpn`, `box` and `any` mean something else in rules.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName(String);

/// Text that is not a zone's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name is 1 to 12 characters of a-z, 0-9 and -, the first a letter, and not wan, lan, vpn, box or any"
)]
pub struct ZoneNameError;

impl ZoneName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ZoneName {
    type Err = ZoneNameError;

    fn from_str(text: &str) -> Result<Self, ZoneNameError> {
        let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        let begins = text.bytes().next().is_some_and(|octet| octet.is_ascii_lowercase());
        let reserved = ["wan", "lan", "vpn", "box", "any"].contains(&text);
        if begins && text.len() <= 12 && text.bytes().all(allowed) && !reserved {
            Ok(Self(text.to_owned()))
        } else {
            Err(ZoneNameError)
        }
    }
}

/// An Ethernet port of the box as the kernel names it, or one 802.1Q VLAN on it: `eth1` or `eth1.20`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Port {
    device: String,
    vlan: Option<u16>,
}

/// Text that is not a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a port is an interface such as eth1, or a VLAN on it such as eth1.20, 15 characters at most, VLAN 1 to 4094"
)]
pub struct PortError;

impl Port {
    /// The physical interface.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The VLAN identifier, 1 to 4094; none = untagged.
    #[must_use]
    pub const fn vlan(&self) -> Option<u16> {
        self.vlan
    }
}

impl FromStr for Port {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let (device, vlan) = match text.split_once('.') {
            None => (text, None),
            Some((device, id)) => {
                let plain = !id.starts_with('0') && id.bytes().all(|octet| octet.is_ascii_digit());
                let id = id.parse().ok().filter(|id| plain && (1..=4094).contains(id));
                (device, Some(id.ok_or(PortError)?))
            }
        };
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        // Bridges, softwires and sessions are the agent's own, and the loopback is nobody's port.
        let ours = ["br-", "ds-", "pp-"].iter().any(|prefix| device.starts_with(prefix)) || device == "lo";
        if device.is_empty() || text.len() > 15 || !device.bytes().all(allowed) || ours {
            return Err(PortError);
        }
        Ok(Self { device: device.to_owned(), vlan })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vlan {
            None => f.write_str(&self.device),
            Some(id) => write!(f, "{}.{id}", self.device),
        }
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! text {
    ($type:ty, $error:ty) => {
        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

pub(crate) use text;

text!(ZoneName, ZoneNameError);
text!(Port, PortError);
