//! Log records of an edge and the hash chain that joins them.
//!
//! Each record of a stream carries a sequence number and the hash of the one before it, so the center sees a
//! gap or an edit. The hash is over a canonical encoding, not over JSON or protobuf: both sides compute it
//! from the fields, whatever the transport did to them.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Longest body, in octets; what is longer is cut by its maker.
pub const MAX_BODY: usize = 8 * 1024;

/// Most attributes of one record, and the longest key or value in octets.
pub const MAX_ATTRIBUTES: usize = 32;
/// See [`MAX_ATTRIBUTES`].
pub const MAX_ATTRIBUTE: usize = 1024;

/// Prefixed to the canonical encoding: the hash is never one of anything else.
const LABEL: &[u8] = b"verona log record v1";

/// The kinds of log, in the order in which they are dropped when the spool is full, first `Flow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Stream {
    /// Connections and refusals on the wire.
    Flow,
    /// The box itself.
    System,
    /// Who came, who was refused a session, who was cut.
    Auth,
    /// Who changed what: configurations, lists, commands.
    Audit,
}

/// The event of a record that declares numbers of its own stream missing, attributes `from` and `to`: what is lost is
/// told, and a chain with nothing but declared gaps is sound.
pub const GAP: &str = "log.gap";

/// The same for records that the center itself refused, and that the edge has set aside.
pub const REFUSED: &str = "log.refused";

impl Stream {
    /// All of them, in drop order.
    pub const ALL: [Self; 4] = [Self::Flow, Self::System, Self::Auth, Self::Audit];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::System => "system",
            Self::Auth => "auth",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that names no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log stream is flow, system, auth or audit")]
pub struct StreamError;

impl FromStr for Stream {
    type Err = StreamError;

    fn from_str(text: &str) -> Result<Self, StreamError> {
        Self::ALL.into_iter().find(|stream| stream.as_str() == text).ok_or(StreamError)
    }
}

/// How grave a record is; the numbers are OpenTelemetry's severity numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[repr(u8)]
pub enum Severity {
    /// For debugging.
    Debug = 5,
    /// Normal.
    Info = 9,
    /// Someone should look.
    Warn = 13,
    /// Something failed.
    Error = 17,
}

impl Severity {
    /// From OpenTelemetry's number: each range of four is one severity.
    #[must_use]
    pub const fn from_number(number: i32) -> Option<Self> {
        match number {
            5..=8 => Some(Self::Debug),
            9..=12 => Some(Self::Info),
            13..=16 => Some(Self::Warn),
            17..=20 => Some(Self::Error),
            _ => None,
        }
    }
}

/// SHA-256 of a record. Text form: lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// What the first record of a stream carries as the hash before it.
    pub const GENESIS: Self = Self([0; 32]);
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::key::to_hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = crate::key::HexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        crate::key::from_hex(text)?.try_into().map(Self).map_err(|_| crate::key::HexError)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One record, as the spool stores it and the center receives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Who wrote it.
    pub edge: Uuid,
    /// Which chain it belongs to.
    pub stream: Stream,
    /// Counts the records of the stream from 1, over restarts, without a gap.
    pub seq: u64,
    /// Changes with each boot of the box.
    pub boot: Uuid,
    /// Wall clock, Unix nanoseconds.
    pub time_ns: i64,
    /// Monotonic clock of this boot, nanoseconds: orders records while the wall clock steps.
    pub monotonic_ns: u64,
    /// Whether the wall clock was synchronised.
    pub clock_synced: bool,
    /// How grave.
    pub severity: Severity,
    /// Stable name of what happened, such as `client.cut`.
    pub event: String,
    /// For a person to read.
    pub body: String,
    /// Details.
    pub attributes: BTreeMap<String, String>,
    /// Hash of the record before it in the stream, or [`Hash::GENESIS`].
    pub previous: Hash,
}

impl Record {
    /// SHA-256 over the canonical encoding: the label, each number big-endian, each text with its length
    /// (u32, big-endian) before it, attributes in the order of their keys with their count before them.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let mut context = Context::new(&SHA256);
        context.update(LABEL);
        context.update(self.edge.as_bytes());
        text(&mut context, self.stream.as_str());
        context.update(&self.seq.to_be_bytes());
        context.update(self.boot.as_bytes());
        context.update(&self.time_ns.to_be_bytes());
        context.update(&self.monotonic_ns.to_be_bytes());
        context.update(&[u8::from(self.clock_synced), self.severity as u8]);
        text(&mut context, &self.event);
        text(&mut context, &self.body);
        // MAX_ATTRIBUTES bounds the count far below u32.
        context.update(&(self.attributes.len() as u32).to_be_bytes());
        for (key, value) in &self.attributes {
            text(&mut context, key);
            text(&mut context, value);
        }
        context.update(&self.previous.0);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Hash(hash)
    }
}

fn text(context: &mut Context, value: &str) {
    // Bodies and attributes are bounded far below u32.
    context.update(&(value.len() as u32).to_be_bytes());
    context.update(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            edge: Uuid::from_u128(1),
            stream: Stream::Audit,
            seq: 1,
            boot: Uuid::from_u128(2),
            time_ns: 1_700_000_000_000_000_000,
            monotonic_ns: 5,
            clock_synced: true,
            severity: Severity::Info,
            event: "config.confirmed".into(),
            body: "configuration 1".into(),
            attributes: BTreeMap::from([("seq".to_owned(), "1".to_owned())]),
            previous: Hash::GENESIS,
        }
    }

    #[test]
    fn every_field_is_in_the_hash() {
        let base = record().hash();
        let changes: [fn(&mut Record); 12] = [
            |r| r.edge = Uuid::from_u128(9),
            |r| r.stream = Stream::Auth,
            |r| r.seq = 2,
            |r| r.boot = Uuid::from_u128(9),
            |r| r.time_ns += 1,
            |r| r.monotonic_ns += 1,
            |r| r.clock_synced = false,
            |r| r.severity = Severity::Warn,
            |r| r.event.push('x'),
            |r| r.body.push('x'),
            |r| {
                r.attributes.insert("k".into(), "v".into());
            },
            |r| r.previous = Hash([1; 32]),
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut changed = record();
            change(&mut changed);
            assert_ne!(changed.hash(), base, "change {index}");
        }
        // Text cannot wander from one field to the next.
        let mut shifted = record();
        shifted.event = "config.confirmedc".into();
        shifted.body = "onfiguration 1".into();
        assert_ne!(shifted.hash(), base);
    }
}
