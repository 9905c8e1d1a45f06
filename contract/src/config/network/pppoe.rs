//! What an uplink by PPPoE (RFC 2516) needs to know, and the texts in it.
//!
//! They end up in the options of a program that runs as root, so their characters are few: what is not a printable
//! character of ASCII no provider's form has, and a line break would begin another option.

use super::names::text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroize as _;

/// What the session carries where nothing else is asked for: Ethernet's 1500 octets without the headers of PPPoE and
/// PPP (RFC 2516 §7).
pub const PPPOE_MTU: u16 = 1492;

/// An uplink by PPPoE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pppoe {
    /// As the provider gave it, often with its realm: `user@example.ne.jp`.
    pub user: PppoeText,
    /// For PAP or CHAP, whichever the provider asks for.
    pub password: PppoePassword,
    /// The service that is asked for; none = whichever is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<PppoeText>,
    /// The only access concentrator that is taken; none = whichever answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concentrator: Option<PppoeText>,
}

/// 1 to 255 printable characters of ASCII.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PppoeText(String);

/// Text that PPPoE does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("1 to 255 printable characters of ASCII")]
pub struct PppoeTextError;

impl PppoeText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PppoeText {
    type Err = PppoeTextError;

    fn from_str(text: &str) -> Result<Self, PppoeTextError> {
        if fits(text) { Ok(Self(text.to_owned())) } else { Err(PppoeTextError) }
    }
}

impl fmt::Display for PppoeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text!(PppoeText, PppoeTextError);

/// A provider's password, of the same characters. Wiped when it is dropped, not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PppoePassword(String);

impl PppoePassword {
    /// The text, for the program that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for PppoePassword {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl FromStr for PppoePassword {
    type Err = PppoeTextError;

    fn from_str(text: &str) -> Result<Self, PppoeTextError> {
        if fits(text) { Ok(Self(text.to_owned())) } else { Err(PppoeTextError) }
    }
}

impl fmt::Debug for PppoePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PppoePassword(…)")
    }
}

impl Serialize for PppoePassword {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PppoePassword {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        let password = text.parse().map_err(serde::de::Error::custom);
        text.zeroize();
        password
    }
}

fn fits(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|octet| (b' '..=b'~').contains(&octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for good in ["user@example.ne.jp", "a", "pass word\"'\\#", &"x".repeat(255)] {
            assert_eq!(good.parse::<PppoeText>().unwrap().as_str(), good);
            assert_eq!(good.parse::<PppoePassword>().unwrap().expose(), good);
        }
        for bad in ["", "a\nplugin x.so", "a\tb", "a\0", "\u{7f}", "利用者", &"x".repeat(256)] {
            assert_eq!(bad.parse::<PppoeText>(), Err(PppoeTextError), "{bad:?}");
            assert_eq!(bad.parse::<PppoePassword>(), Err(PppoeTextError), "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let json = r#"{"user":"u","password":"hunter2hunter2"}"#;
        let pppoe: Pppoe = serde_json::from_str(json).unwrap();
        assert!(!format!("{pppoe:?}").contains("hunter2"), "{pppoe:?}");
        assert_eq!(serde_json::to_string(&pppoe).unwrap(), json, "the center signs it");
    }
}
