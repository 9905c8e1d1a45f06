//! What goes into a log record: the texts and attributes of everything that the agent reports.
//!
//! A [`Draft`] is a record before it has its place in a chain. Event names are stable; bodies are for people.
//! What comes from outside is checked, what the agent composes itself is cut to size.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use verona_contract::control::{CertificateSource, Cut, CutReason, Event};
use verona_contract::log::{MAX_ATTRIBUTE, MAX_ATTRIBUTES, MAX_BODY, Severity, Stream};

/// A record without its place in a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// Which chain.
    pub stream: Stream,
    /// How grave.
    #[serde(default = "info")]
    pub severity: Severity,
    /// Stable name.
    pub event: String,
    /// For a person to read.
    pub body: String,
    /// Details.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

const fn info() -> Severity {
    Severity::Info
}

/// A draft from outside that breaks a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// The event is empty or too long.
    #[error("event must be 1 to {MAX_ATTRIBUTE} octets")]
    Event,
    /// The body is too long.
    #[error("body must be at most {MAX_BODY} octets")]
    Body,
    /// Too many attributes, one is too long, or its name is reserved.
    #[error(
        "attributes must be at most {MAX_ATTRIBUTES}, of at most {MAX_ATTRIBUTE} octets, not named verona.*"
    )]
    Attributes,
}

impl Draft {
    /// A record of severity info without attributes. Text that is too long is cut.
    #[must_use]
    pub fn new(stream: Stream, event: &str, body: impl Into<String>) -> Self {
        let body = cut(body.into(), MAX_BODY);
        Self { stream, severity: Severity::Info, event: event.into(), body, attributes: BTreeMap::new() }
    }

    /// The same with another severity.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The same with one more attribute. A value that is too long is cut.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.attributes.insert(key.to_owned(), cut(format!("{value}"), MAX_ATTRIBUTE));
        self
    }

    /// Checks a draft from outside.
    ///
    /// # Errors
    ///
    /// The first limit that it breaks.
    pub fn check(&self) -> Result<(), DraftError> {
        if !(1..=MAX_ATTRIBUTE).contains(&self.event.len()) {
            return Err(DraftError::Event);
        }
        if self.body.len() > MAX_BODY {
            return Err(DraftError::Body);
        }
        let fits = |(key, value): (&String, &String)| {
            key.len().max(value.len()) <= MAX_ATTRIBUTE && !key.starts_with("verona.")
        };
        if self.attributes.len() > MAX_ATTRIBUTES || !self.attributes.iter().all(fits) {
            return Err(DraftError::Attributes);
        }
        Ok(())
    }
}

/// Longest text of another program that goes into a line of ours, in octets.
const MAX_QUOTE: usize = 400;

/// What another program said, as part of one line: without control characters, cut to size.
#[must_use]
pub fn quote(text: &str) -> String {
    let words = text.split(|c: char| c.is_control() || c.is_whitespace()).filter(|word| !word.is_empty());
    cut(words.collect::<Vec<_>>().join(" "), MAX_QUOTE)
}

fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}

/// The record of something that happened in the data plane. None for cuts that the answer to a command has
/// told already: those must not be lost, and events may be.
#[must_use]
pub fn of_event(event: &Event) -> Option<Draft> {
    let auth = |name, body: String| Draft::new(Stream::Auth, name, body);
    Some(match event {
        Event::Admitted { key, subject, owner, endpoint, source } => {
            auth("client.admitted", format!("{subject} admitted from {endpoint}"))
                .with("subject", subject)
                .with("key", key)
                .with("owner", owner)
                .with("endpoint", endpoint)
                .with("source", source_name(*source))
        }
        Event::Refused { reason, key, endpoint, suppressed } => {
            let draft = auth("client.refused", format!("refused {endpoint}: {reason}"))
                .severity(Severity::Warn)
                .with("reason", reason_name(reason))
                .with("endpoint", endpoint)
                .with("suppressed", suppressed);
            match key {
                Some(key) => draft.with("claimed_key", key),
                None => draft,
            }
        }
        Event::Cut { reason: CutReason::Revoked | CutReason::Policy, .. } => return None,
        Event::Cut { cut, reason } => of_cut(cut, *reason),
        Event::Roamed { key, old, new } => auth("client.roamed", format!("{key} moved from {old} to {new}"))
            .with("key", key)
            .with("old", old)
            .with("new", new),
        Event::PathMtu { key, path_mtu, .. } => {
            let size = path_mtu.map_or_else(|| "all sizes".to_owned(), |mtu| format!("{mtu} octets"));
            Draft::new(Stream::Flow, "client.path-mtu", format!("the path to {key} carries {size}"))
                .with("key", key)
        }
        Event::Expired { key } => {
            auth("client.expired", format!("session of {key} ended: nothing was heard")).with("key", key)
        }
    })
}

/// The record of a session that a decision ended.
#[must_use]
pub fn of_cut(cut: &Cut, reason: CutReason) -> Draft {
    let reason = match reason {
        CutReason::Revoked => "revoked",
        CutReason::CrlStale => "crl-stale",
        CutReason::CertificateExpired => "certificate-expired",
        CutReason::Policy => "policy",
    };
    Draft::new(Stream::Auth, "client.cut", format!("session of {} cut: {reason}", cut.subject))
        .severity(Severity::Warn)
        .with("subject", &cut.subject)
        .with("serial", cut.serial)
        .with("key", cut.key)
        .with("reason", reason)
}

const fn source_name(source: CertificateSource) -> &'static str {
    match source {
        CertificateSource::Pushed => "pushed",
        CertificateSource::Introduced => "introduced",
    }
}

/// The counter's name, such as `unknown_key`.
fn reason_name(reason: &verona_contract::control::Refusal) -> String {
    match serde_json::to_value(reason) {
        Ok(serde_json::Value::String(name)) => name,
        _ => reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use verona_contract::control::Refusal;
    use verona_contract::key::PublicKey;

    fn key() -> PublicKey {
        let mut octets = [0x11; 32];
        octets[31] = 0;
        PublicKey::new(octets).unwrap()
    }

    #[test]
    fn refusals_carry_the_counter_name() {
        let event = Event::Refused {
            reason: Refusal::UnknownKey,
            key: Some(key()),
            endpoint: "192.0.2.1:5".parse().unwrap(),
            suppressed: 3,
        };
        let draft = of_event(&event).unwrap();
        assert_eq!(draft.event, "client.refused");
        assert_eq!(draft.attributes["reason"], "unknown_key");
        assert_eq!(draft.attributes["suppressed"], "3");
        assert_eq!(draft.check(), Ok(()));
    }

    #[test]
    fn quotes_are_one_short_line() {
        assert_eq!(quote("two\r\n  lines\u{1b}[2J\t."), "two lines [2J .");
        assert!(quote(&"é".repeat(1000)).len() <= MAX_QUOTE);
    }

    #[test]
    fn a_cut_is_told_once() {
        let subject = "urn:verona:client:x".into();
        let cut = Cut { serial: "07".parse().unwrap(), subject, key: key(), addresses: vec![] };
        let event = |reason| Event::Cut { cut: cut.clone(), reason };
        assert_eq!(of_event(&event(CutReason::Revoked)), None, "in the answer to load-crl");
        assert_eq!(of_event(&event(CutReason::Policy)), None, "in the answer to load-policy");
        let draft = of_event(&event(CutReason::CertificateExpired)).unwrap();
        assert_eq!(draft.attributes["reason"], "certificate-expired");
    }

    #[test]
    fn limits() {
        let long = "é".repeat(MAX_BODY);
        let draft = Draft::new(Stream::System, "x", long.clone()).with("k", &long);
        assert_eq!(draft.check(), Ok(()), "what we compose is cut to size, on a character");
        let outside = |change: fn(&mut Draft)| {
            let mut draft = Draft::new(Stream::System, "x", "y");
            change(&mut draft);
            draft.check()
        };
        assert_eq!(outside(|d| d.event.clear()), Err(DraftError::Event));
        assert_eq!(outside(|d| d.event = "x".repeat(MAX_ATTRIBUTE + 1)), Err(DraftError::Event));
        assert_eq!(outside(|d| d.body = "x".repeat(MAX_BODY + 1)), Err(DraftError::Body));
        for change in [
            (|d| d.attributes.extend((0..33).map(|n| (n.to_string(), String::new())))) as fn(&mut Draft),
            |d| d.attributes.extend([("verona.seq".to_owned(), "1".to_owned())]),
            |d| d.attributes.extend([("k".to_owned(), "x".repeat(MAX_ATTRIBUTE + 1))]),
        ] {
            assert_eq!(outside(change), Err(DraftError::Attributes));
        }
    }
}
