//! Time servers by name.

use super::services::DomainName;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Most time servers. Four outvote one that lies also while one is silent.
pub const MAX_TIME_SERVERS: usize = 8;

/// A server that tells the time by NTP: a name, which may stand for several addresses, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeServer {
    text: String,
    address: Option<IpAddr>,
}

/// Text that is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time server is a host's name such as ntp.example.com, or its address")]
pub struct TimeServerError;

impl TimeServer {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its address, where it is named by one.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl FromStr for TimeServer {
    type Err = TimeServerError;

    fn from_str(text: &str) -> Result<Self, TimeServerError> {
        let address = text.parse::<IpAddr>().ok();
        let is_host = |address: IpAddr| !address.is_unspecified() && !address.is_multicast();
        let sound = match address {
            Some(address) => is_host(address),
            // What looks like an address and is none would be asked for as a name for ever.
            None => {
                text.parse::<DomainName>().is_ok() && text.contains(|one: char| one.is_ascii_alphabetic())
            }
        };
        if sound { Ok(Self { text: text.to_owned(), address }) } else { Err(TimeServerError) }
    }
}

impl TryFrom<String> for TimeServer {
    type Error = TimeServerError;

    fn try_from(text: String) -> Result<Self, TimeServerError> {
        text.parse()
    }
}

impl From<TimeServer> for String {
    fn from(server: TimeServer) -> Self {
        server.text
    }
}

impl fmt::Display for TimeServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        for good in ["ntp.nict.jp", "ntp1", "192.0.2.1", "2001:db8::1", "a.b-c.example"] {
            assert!(good.parse::<TimeServer>().is_ok(), "{good}");
        }
        for bad in
            ["", "0.0.0.0", "224.0.1.1", "192.0.2.256", "a b", "-x.example", "x;y", "[::1]", "host:123"]
        {
            assert!(bad.parse::<TimeServer>().is_err(), "{bad}");
        }
    }
}
