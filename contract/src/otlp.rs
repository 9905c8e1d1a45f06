//! Log records as OTLP (OpenTelemetry protocol, `opentelemetry.proto.logs.v1`), both ways without loss.
//!
//! Any OTLP collector can read them; the center's ingest also demands our attributes, by which it
//! deduplicates and checks the chain.

use crate::log::{MAX_ATTRIBUTE, MAX_ATTRIBUTES, MAX_BODY, Record, Severity};
pub use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Most records of one request.
pub const MAX_RECORDS: usize = 10_000;

/// Largest request body, in octets, before and after gzip.
pub const MAX_REQUEST: usize = 16 * 1024 * 1024;

/// The prefix of the attributes that are ours.
const OURS: &str = "verona.";
const EDGE: &str = "verona.edge";
const STREAM: &str = "verona.stream";
const SEQ: &str = "verona.seq";
const BOOT: &str = "verona.boot";
const MONOTONIC: &str = "verona.monotonic_ns";
const SYNCED: &str = "verona.clock_synced";
const PREVIOUS: &str = "verona.previous";

/// A record that is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log record {index}: {rule}")]
pub struct OtlpError {
    /// Position in the request, from 0.
    pub index: usize,
    /// The rule that it breaks.
    pub rule: String,
}

/// One request with `records` of one edge, in their order.
#[must_use]
pub fn to_request(edge: Uuid, records: &[Record]) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource {
                attributes: vec![
                    attribute("service.name", Value::StringValue("verona-edge".into())),
                    attribute(EDGE, Value::StringValue(edge.to_string())),
                ],
                ..Resource::default()
            }),
            scope_logs: vec![ScopeLogs {
                scope: Some(InstrumentationScope {
                    name: "edge-agent".into(),
                    ..InstrumentationScope::default()
                }),
                log_records: records.iter().map(to_log_record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
}

/// The records of a request, in their order. The edge is the one that each resource names: the receiver
/// compares it with the certificate of the connection.
///
/// # Errors
///
/// The first record that breaks a rule, and which.
pub fn from_request(request: ExportLogsServiceRequest) -> Result<Vec<Record>, OtlpError> {
    let mut records = Vec::new();
    for resource_logs in request.resource_logs {
        let attributes = resource_logs.resource.map(|resource| resource.attributes).unwrap_or_default();
        let edge = attributes.iter().find(|attribute| attribute.key == EDGE).and_then(string);
        for record in resource_logs.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
            let index = records.len();
            let fail = |rule: String| OtlpError { index, rule };
            if index == MAX_RECORDS {
                return Err(fail(format!("a request holds at most {MAX_RECORDS} records")));
            }
            let edge = edge.and_then(|text| Uuid::try_parse(text).ok());
            let edge = edge.ok_or_else(|| fail(format!("resource attribute {EDGE} must be a UUID")))?;
            records.push(from_log_record(edge, &record).map_err(fail)?);
        }
    }
    Ok(records)
}

fn to_log_record(record: &Record) -> LogRecord {
    let ours = [
        attribute(STREAM, Value::StringValue(record.stream.to_string())),
        attribute(SEQ, Value::IntValue(record.seq.cast_signed())),
        attribute(BOOT, Value::StringValue(record.boot.to_string())),
        attribute(MONOTONIC, Value::IntValue(record.monotonic_ns.cast_signed())),
        attribute(SYNCED, Value::BoolValue(record.clock_synced)),
        attribute(PREVIOUS, Value::StringValue(record.previous.to_string())),
    ];
    let theirs =
        record.attributes.iter().map(|(key, value)| attribute(key, Value::StringValue(value.clone())));
    LogRecord {
        time_unix_nano: record.time_ns.cast_unsigned(),
        observed_time_unix_nano: record.time_ns.cast_unsigned(),
        severity_number: record.severity as i32,
        severity_text: format!("{:?}", record.severity).to_uppercase(),
        event_name: record.event.clone(),
        body: Some(AnyValue { value: Some(Value::StringValue(record.body.clone())) }),
        attributes: ours.into_iter().chain(theirs).collect(),
        ..LogRecord::default()
    }
}

fn from_log_record(edge: Uuid, record: &LogRecord) -> Result<Record, String> {
    if record.attributes.len() > MAX_ATTRIBUTES + 6 {
        return Err(format!("at most {MAX_ATTRIBUTES} attributes besides ours"));
    }
    let find = |key: &str| record.attributes.iter().find(|attribute| attribute.key == key);
    let text = |key: &'static str| {
        find(key).and_then(string).ok_or_else(|| format!("attribute {key} must be a string"))
    };
    let number = |key: &'static str| match find(key).and_then(value) {
        Some(Value::IntValue(number)) => Ok(number.cast_unsigned()),
        _ => Err(format!("attribute {key} must be an integer")),
    };
    let body = match record.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(Value::StringValue(body)) if body.len() <= MAX_BODY => body.clone(),
        _ => return Err(format!("body must be a string of at most {MAX_BODY} octets")),
    };
    if record.event_name.len() > MAX_ATTRIBUTE {
        return Err(format!("event_name must be at most {MAX_ATTRIBUTE} octets"));
    }
    Ok(Record {
        edge,
        stream: text(STREAM)?.parse().map_err(|error| format!("{STREAM}: {error}"))?,
        seq: number(SEQ)?,
        boot: Uuid::try_parse(text(BOOT)?).map_err(|_| format!("attribute {BOOT} must be a UUID"))?,
        time_ns: record.time_unix_nano.cast_signed(),
        monotonic_ns: number(MONOTONIC)?,
        clock_synced: match find(SYNCED).and_then(value) {
            Some(Value::BoolValue(synced)) => *synced,
            _ => return Err(format!("attribute {SYNCED} must be a boolean")),
        },
        severity: Severity::from_number(record.severity_number)
            .ok_or_else(|| "severity_number must be 5 to 20".to_owned())?,
        event: record.event_name.clone(),
        body,
        attributes: their_attributes(record)?,
        previous: text(PREVIOUS)?.parse().map_err(|error| format!("{PREVIOUS}: {error}"))?,
    })
}

fn their_attributes(record: &LogRecord) -> Result<BTreeMap<String, String>, String> {
    let mut attributes = BTreeMap::new();
    for attribute in record.attributes.iter().filter(|attribute| !attribute.key.starts_with(OURS)) {
        let text = string(attribute).filter(|text| text.len().max(attribute.key.len()) <= MAX_ATTRIBUTE);
        let text = text.ok_or_else(|| {
            format!("attribute {} must be a string of at most {MAX_ATTRIBUTE} octets", attribute.key)
        })?;
        attributes.insert(attribute.key.clone(), text.to_owned());
    }
    Ok(attributes)
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn value(attribute: &KeyValue) -> Option<&Value> {
    attribute.value.as_ref()?.value.as_ref()
}

fn string(attribute: &KeyValue) -> Option<&str> {
    match value(attribute)? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Hash, Stream};
    use prost::Message as _;

    #[test]
    fn both_encodings_keep_the_hash() {
        let edge = Uuid::from_u128(7);
        let record = Record {
            edge,
            stream: Stream::Auth,
            seq: u64::MAX,
            boot: Uuid::from_u128(8),
            time_ns: 1_700_000_000_123_456_789,
            monotonic_ns: 42,
            clock_synced: false,
            severity: Severity::Error,
            event: "client.refused".into(),
            body: "日本語 \u{0} \"quotes\"".into(),
            attributes: BTreeMap::from([("reason".into(), "revoked".into())]),
            previous: Hash([3; 32]),
        };
        let request = to_request(edge, std::slice::from_ref(&record));
        let protobuf = ExportLogsServiceRequest::decode(request.encode_to_vec().as_slice()).unwrap();
        assert_eq!(from_request(protobuf).unwrap()[0].hash(), record.hash());
        let json = serde_json::to_vec(&request).unwrap();
        let request: ExportLogsServiceRequest = serde_json::from_slice(&json).unwrap();
        assert_eq!(from_request(request).unwrap(), [record]);
    }

    #[test]
    fn foreign_records_are_named() {
        let mut request = to_request(Uuid::from_u128(7), &[]);
        request.resource_logs[0].scope_logs[0].log_records.push(LogRecord::default());
        let error = from_request(request).unwrap_err();
        assert_eq!(error.to_string(), "log record 0: body must be a string of at most 8192 octets");
    }
}
