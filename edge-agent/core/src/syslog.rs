//! A record as a syslog message (RFC 5424), in the frame that TLS carries (RFC 5425 §4.3.1).
//!
//! One record is one message, whatever is in it: no octet of a text ends a line, closes an element or begins another
//! message. A collector finds gaps and repetitions by `stream` and `seq`, as the center does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use verona_contract::log::{Record, Severity, Stream};

/// Longest message, octets: what RFC 5425 §4.3.1 recommends collectors to take.
pub const MAX_MESSAGE: usize = 8192;

/// Structured data of ours. 32473 is the number of RFC 5612 for those who have none of their own.
const ELEMENT: &str = "verona@32473";

/// The attributes of the record.
const ATTRIBUTES: &str = "attributes@32473";

/// Longest name of a parameter, and longest MSGID (RFC 5424 §6).
const MAX_NAME: usize = 32;

/// What no attribute may make impossible: room for the text.
const ROOM_FOR_TEXT: usize = 1024;

/// The byte order mark that says the text is UTF-8 (RFC 5424 §6.4).
const UTF_8: &str = "\u{feff}";

/// The message of `record` in its frame: its length, a space, itself.
#[must_use]
pub fn frame(record: &Record) -> Vec<u8> {
    let message = message(record);
    let mut frame = format!("{} ", message.len()).into_bytes();
    frame.extend_from_slice(message.as_bytes());
    frame
}

/// Says that the collector will not see the records `from` to `to` of `stream`.
#[must_use]
pub fn gap(record: &Record, from: u64, to: u64) -> Vec<u8> {
    let mut told = record.clone();
    told.event = "syslog.gap".to_owned();
    told.severity = Severity::Error;
    told.body = format!(
        "records {from} to {to} of {} do not come: they were kept as long as there was room",
        record.stream
    );
    told.attributes =
        [("from", from), ("to", to)].map(|(key, value)| (key.to_owned(), value.to_string())).into();
    // It has no place in the chain.
    told.seq = 0;
    frame(&told)
}

fn message(record: &Record) -> String {
    let priority = facility(record.stream) * 8 + severity(record.severity);
    let time = jiff::Timestamp::from_nanosecond(record.time_ns.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let mut text = format!("<{priority}>1 {time:.6} {} verona-edge - ", record.edge);
    text.push_str(&name(&record.event));
    // Writing to a string does not fail.
    let synced = u8::from(record.clock_synced);
    let _ = write!(text, " [timeQuality tzKnown=\"1\" isSynced=\"{synced}\"][{ELEMENT}");
    let _ = write!(text, " stream=\"{}\" seq=\"{}\" boot=\"{}\"]", record.stream, record.seq, record.boot);
    if !record.attributes.is_empty() {
        let _ = write!(text, "[{ATTRIBUTES}");
        parameters(&mut text, &record.attributes);
        text.push(']');
    }
    text.push(' ');
    text.push_str(UTF_8);
    let room = MAX_MESSAGE.saturating_sub(text.len());
    let body: String = record.body.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    text.push_str(&body[..body.floor_char_boundary(room)]);
    text
}

/// As many as leave room for the text.
fn parameters(text: &mut String, attributes: &BTreeMap<String, String>) {
    for (key, value) in attributes {
        let parameter = format!(" {}=\"{}\"", name(key), escaped(value));
        if text.len() + parameter.len() + ROOM_FOR_TEXT > MAX_MESSAGE {
            text.push_str(" cut=\"1\"");
            break;
        }
        text.push_str(&parameter);
    }
}

/// RFC 5424 §6.2.1.
const fn facility(stream: Stream) -> u8 {
    match stream {
        // local0
        Stream::Flow => 16,
        // daemon
        Stream::System => 3,
        // authpriv
        Stream::Auth => 10,
        // log audit
        Stream::Audit => 13,
    }
}

const fn severity(severity: Severity) -> u8 {
    match severity {
        Severity::Debug => 7,
        Severity::Info => 6,
        Severity::Warn => 4,
        Severity::Error => 3,
    }
}

/// A MSGID or the name of a parameter: printable ASCII without what ends it.
fn name(text: &str) -> String {
    let allowed = |one: char| one.is_ascii_graphic() && !matches!(one, '=' | ']' | '"');
    let cleaned: String =
        text.chars().take(MAX_NAME).map(|one| if allowed(one) { one } else { '_' }).collect();
    if cleaned.is_empty() { "-".to_owned() } else { cleaned }
}

/// The value of a parameter (RFC 5424 §6.3.3), on one line.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '"' | '\\' | ']' => escaped.extend(['\\', one]),
            _ if one.is_control() => escaped.push(' '),
            _ => escaped.push(one),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;
    use verona_contract::log::{Hash, MAX_ATTRIBUTE, MAX_ATTRIBUTES, MAX_BODY};

    fn record(body: &str, attributes: &[(&str, &str)]) -> Record {
        Record {
            edge: Uuid::from_u128(1),
            stream: Stream::Audit,
            seq: 7,
            boot: Uuid::from_u128(2),
            time_ns: 1_764_000_000_123_456_789,
            monotonic_ns: 5,
            clock_synced: true,
            severity: Severity::Warn,
            event: "config.active".to_owned(),
            body: body.to_owned(),
            attributes: attributes
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            previous: Hash::GENESIS,
        }
    }

    #[test]
    fn a_whole_message() {
        let message = message(&record("configuration 3", &[("seq", "3")]));
        assert_eq!(
            message,
            "<108>1 2025-11-24T16:00:00.123456Z 00000000-0000-0000-0000-000000000001 verona-edge - config.active \
             [timeQuality tzKnown=\"1\" isSynced=\"1\"][verona@32473 stream=\"audit\" seq=\"7\" \
             boot=\"00000000-0000-0000-0000-000000000002\"][attributes@32473 seq=\"3\"] \u{feff}configuration 3"
        );
    }

    #[test]
    fn no_text_forges_a_message() {
        let odd = "x\"] \\ \n<0>1 forged\r\0";
        let text = message(&record(odd, &[("a=b] \"", odd), ("", "")]));
        assert!(!text.chars().any(char::is_control), "{text}");
        assert!(text.contains(" a_b___=\"x\\\"\\] \\\\  <0>1 forged  \""), "{text}");
        assert!(text.contains(" -=\"\""), "{text}");
        let framed = frame(&record(odd, &[]));
        let space = framed.iter().position(|octet| *octet == b' ').unwrap();
        let told: usize = String::from_utf8_lossy(&framed[..space]).parse().unwrap();
        assert_eq!(told, framed.len() - space - 1);
    }

    #[test]
    fn the_longest_record_is_cut_to_size_and_keeps_its_text() {
        let value = "\"".repeat(MAX_ATTRIBUTE);
        let keys: Vec<String> = (0..MAX_ATTRIBUTES).map(|number| format!("key{number}")).collect();
        let attributes: Vec<_> = keys.iter().map(|key| (key.as_str(), value.as_str())).collect();
        let text = message(&record(&"文".repeat(MAX_BODY / 3), &attributes));
        assert!(text.len() <= MAX_MESSAGE && text.len() > MAX_MESSAGE - 4, "{}", text.len());
        assert!(text.contains(" cut=\"1\"]") && text.contains("文文文"));
        let text = message(&record(&"x".repeat(MAX_BODY), &[]));
        assert_eq!(text.len(), MAX_MESSAGE);
    }
}
