//! Every parser of octets that a stranger can send, as a function of those octets alone.
//!
//! `tests/fuzz` runs them under libFuzzer; `tests/tests/corpus.rs` replays the committed corpus in the
//! ordinary test run. A target does more than survive: what was accepted must come out again as it was,
//! or must not be accepted in a second spelling.

pub(crate) mod data_plane;

use edge_agent_core::spool::segment;
use prost::Message as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::LazyLock;
use verona_contract::cert::{IdentityLeaf, Issuer, Leaf};
use verona_contract::config::{self, EdgeConfig};
use verona_contract::crl::VerifiedCrl;
use verona_contract::csr::VerifiedCsr;
use verona_contract::dsse::{Envelope, VerifyingKey};
use verona_contract::enrolment::EnrolmentCode;
use verona_contract::otlp::{self, ExportLogsServiceRequest};
use verona_contract::provisioning::FactoryRecord;
use verona_contract::{api, control, log};

use crate::seeds;

/// A fuzz target's name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. A file of the same name in `tests/fuzz/fuzz_targets` runs each under libFuzzer.
pub const TARGETS: &[Target] = &[
    ("api_body", api_body),
    ("binding", data_plane::binding),
    ("certificate", certificate),
    ("control_line", control_line),
    ("crl", crl),
    ("csr", csr),
    ("datagram", data_plane::datagram),
    ("dsse", dsse),
    ("edge_config", edge_config),
    ("enrolment_code", enrolment_code),
    ("factory_record", factory_record),
    ("inner_packet", data_plane::inner_packet),
    ("introduction_payload", data_plane::introduction_payload),
    ("otlp_json", otlp_json),
    ("otlp_protobuf", otlp_protobuf),
    ("spool_segment", spool_segment),
    ("uapi", uapi),
];

/// Runs the target called `name`.
///
/// # Panics
///
/// There is no such target, or the target found a fault.
pub fn run(name: &str, data: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target of fuzz::TARGETS");
    body(data);
}

/// Bodies of the center's API, and of its answers as a client or an edge reads them.
fn api_body(data: &[u8]) {
    round_trip::<api::ChallengeRequest>(data);
    round_trip::<api::TunnelKeyRequest>(data);
    round_trip::<api::EnrollRequest>(data);
    round_trip::<api::RenewRequest>(data);
    round_trip::<api::Ack>(data);
    round_trip::<api::NewOwner>(data);
    round_trip::<api::NewEdge>(data);
    round_trip::<api::NewClient>(data);
    round_trip::<api::Enrolled>(data);
    round_trip::<api::ClientProfile>(data);
}

/// What reads as a `T` is written as something that reads as the same.
fn round_trip<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(data) else { return };
    let text = serde_json::to_vec(&value).expect("what was parsed can be written");
    let again = serde_json::from_slice::<T>(&text).expect("what was written can be parsed");
    assert_eq!(serde_json::to_vec(&again).expect("what was parsed can be written"), text);
}

/// Certificates come from clients (introduction), from the center and from TLS peers.
fn certificate(data: &[u8]) {
    if let Ok(leaf) = Leaf::parse(data) {
        assert!(!leaf.addresses.is_empty());
        // What is trusted afterwards must not depend on octets behind the certificate.
        assert!(Leaf::parse(&[data, b"\0"].concat()).is_err());
    }
    if let Ok(identity) = IdentityLeaf::parse(data) {
        assert!(IdentityLeaf::parse(&[data, b"\0"].concat()).is_err());
        assert!(Leaf::parse(data).is_err(), "a key either agrees or signs");
        assert!(!identity.key.signed(b"", &[0; 64]));
    }
    if let Ok(issuer) = Issuer::parse(data) {
        assert_eq!(issuer.der, data);
        // One certificate is never both.
        assert!(Leaf::parse(data).is_err() && IdentityLeaf::parse(data).is_err());
    }
}

/// Lists come over HTTPS; the signature is checked late, so the parser meets anything.
fn crl(data: &[u8]) {
    static ISSUER: LazyLock<Issuer> = LazyLock::new(seeds::issuer);
    let issuer = &*ISSUER;
    if let Ok(list) = VerifiedCrl::verify(data, [issuer]) {
        assert_eq!(*list.issuer(), issuer.key_id);
        assert!(list.check_follows(&list.mark()).is_ok());
        assert!(VerifiedCrl::verify(&[data, b"\0"].concat(), [issuer]).is_err());
    }
}

/// Certification requests come from whoever reaches the center's enrolment.
fn csr(data: &[u8]) {
    if let Ok(request) = VerifiedCsr::parse(data) {
        assert!(!request.spki().is_empty());
        assert!(VerifiedCsr::parse(&[data, b"\0"].concat()).is_err());
    }
}

/// The envelope around a configuration.
fn dsse(data: &[u8]) {
    let Ok(envelope) = Envelope::parse(data) else { return };
    let again = Envelope::parse(&serde_json::to_vec(&envelope).expect("an envelope is JSON"));
    assert!(again.is_ok_and(|again| again.payload.0 == envelope.payload.0));
    // No key but the seeds' own may ever verify; under theirs only their own payload does.
    assert!(envelope.verify(config::PAYLOAD_TYPE, &[VerifyingKey::new([7; 32])], 1).is_err());
    static SIGNED: LazyLock<(VerifyingKey, Vec<u8>)> =
        LazyLock::new(|| (seeds::config_key(), seeds::edge_config()));
    if let Ok(payload) = envelope.verify(config::PAYLOAD_TYPE, std::slice::from_ref(&SIGNED.0), 1) {
        assert_eq!(payload, SIGNED.1);
    }
}

/// The configuration in a verified envelope: a signer's mistake must not take the box down either.
fn edge_config(data: &[u8]) {
    match EdgeConfig::parse(data) {
        Ok(config) => {
            let text = serde_json::to_vec(&config).expect("a configuration is JSON");
            assert_eq!(EdgeConfig::parse(&text).expect("what was parsed can be parsed again"), config);
        }
        Err(error) => one_line(&error.to_string()),
    }
}

/// Lines of the control socket, both ways.
fn control_line(data: &[u8]) {
    round_trip::<control::Request>(data);
    round_trip::<control::Line>(data);
}

/// The code that a person types or scans.
fn enrolment_code(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(code) = text.parse::<EnrolmentCode>() {
        assert!(code.to_text().parse::<EnrolmentCode>().is_ok_and(|again| again == code));
    }
}

/// The file that flashing leaves on the box.
fn factory_record(data: &[u8]) {
    if let Err(error) = FactoryRecord::parse(data) {
        one_line(&error.to_string());
    }
}

/// Logs as the agent sends them.
fn otlp_protobuf(data: &[u8]) {
    if let Ok(request) = ExportLogsServiceRequest::decode(data) {
        records(request);
    }
}

/// Logs as other OTLP senders may send them.
fn otlp_json(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<ExportLogsServiceRequest>(data) {
        records(request);
    }
}

/// A spool segment after a power cut, a failing disk, or somebody's editor.
fn spool_segment(data: &[u8]) {
    let Ok(recovered) = segment::recover(data) else { return };
    let length = recovered.length;
    assert!(length <= data.len());
    // The part that was recovered is whole: it recovers to the same, and cleanly.
    let again = segment::recover(&data[..length]).expect("the header is unchanged");
    assert_eq!((again.records.len(), again.end), (recovered.records.len(), segment::End::Clean));
    let mut head = recovered.header.head;
    for record in &recovered.records {
        assert!(head.continues(recovered.header.stream, recovered.header.edge, record));
        head.advance(record);
    }
}

/// The body of a UAPI `set=1` operation: root's own programs write it, and make mistakes.
fn uapi(data: &[u8]) {
    match edge_tunnel::parse_set(data) {
        Ok(transaction) => {
            // Each peer begins with its key, so there are no more of them than such lines.
            let lines = data.split(|octet| *octet == b'\n').filter(|line| line.starts_with(b"public_key="));
            assert_eq!(transaction.update.peers.len(), lines.count());
        }
        Err(error) => one_line(&error.to_string()),
    }
}

/// What the center accepted as a record must hash the same after another transport.
fn records(request: ExportLogsServiceRequest) {
    let Ok(records) = otlp::from_request(request) else { return };
    let hashes: Vec<log::Hash> = records.iter().map(log::Record::hash).collect();
    for (record, hash) in records.iter().zip(hashes) {
        let sent = otlp::to_request(record.edge, std::slice::from_ref(record));
        let again = otlp::from_request(sent).expect("an accepted record can be sent again");
        assert_eq!(again.first().map(log::Record::hash), Some(hash));
    }
}

/// Errors go into one line of a log or of an answer.
fn one_line(message: &str) {
    assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
}
