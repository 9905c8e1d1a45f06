//! How answers look to a person. Times are shown in Japan Standard Time.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use std::path::Path;
use verona_contract::api::{
    ChainReport, Client, ClientCreated, ClientDetail, ClientState, CrlSummary, Edge, EdgeCreated, LogAlarm,
    Owner, StateChanged,
};
use verona_contract::log::Record;

/// `2026-01-31 09:00:00.123 JST`. JST has had no daylight saving time since 1951: the offset is enough.
fn jst(time: Timestamp) -> String {
    let zone = TimeZone::fixed(Offset::constant(9));
    time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S%.3f JST").to_string()
}

fn jst_or_never(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "never".to_owned(), jst)
}

pub(super) fn owner(owner: &Owner) {
    println!("{}  {}  {}", owner.code, owner.network, owner.name);
    println!("  client CA {}  edge CA {}", owner.client_ca, owner.edge_ca);
}

pub(super) fn edge(edge: &Edge) {
    let confirmed = edge.confirmed_seq.map_or_else(|| "none".to_owned(), |seq| seq.to_string());
    let state = if edge.enrolled { "enrolled" } else { "registered" };
    println!("{}  {}  {}  {state}", edge.id, edge.serial, edge.name);
    println!(
        "  configuration {} (confirmed {confirmed})  last seen {}",
        edge.config_seq,
        jst_or_never(edge.last_seen)
    );
}

pub(super) fn edge_created(created: &EdgeCreated, record: Option<&Path>) {
    edge(&created.edge);
    if let Some(token) = &created.token {
        println!("  token {}", verona_contract::base64::encode(token.expose()));
    }
    if let Some(path) = record {
        println!("  factory record {}", path.display());
    }
}

const fn state_name(state: ClientState) -> &'static str {
    match state {
        ClientState::Invited => "invited",
        ClientState::Enabled => "enabled",
        ClientState::Disabled => "disabled",
        ClientState::Revoked => "revoked",
    }
}

pub(super) fn client(client: &Client) {
    let addresses: Vec<String> = client.addresses.iter().map(ToString::to_string).collect();
    let push = if client.push { "  pushed" } else { "" };
    println!("{}  {}  {}{push}  {}", client.id, state_name(client.state), addresses.join(" "), client.name);
    if let (Some(serial), Some(end)) = (client.serial, client.not_after) {
        println!("  certificate {serial} until {}", jst(end));
    }
}

pub(super) fn client_created(created: &ClientCreated) {
    client(&created.client);
    println!("  code {}", created.code);
    println!("  once, until {}", jst(created.expires));
}

pub(super) fn client_detail(detail: &ClientDetail) {
    client(&detail.client);
    let Some(change) = &detail.change else { return };
    state_changed(change);
    for edge in &detail.edges {
        let proof = match (edge.confirmed_after_ms, edge.applied_at) {
            (Some(after), Some(at)) => {
                let cut = if edge.cut { ", session cut" } else { "" };
                format!("in force {} (heard after {after} ms{cut})", jst(at))
            }
            _ => format!("not heard yet, last seen {}", jst_or_never(edge.last_seen)),
        };
        println!("  {}  {}  {proof}", edge.edge, edge.name);
    }
}

pub(super) fn state_changed(change: &StateChanged) {
    println!(
        "  {} {}, list {} of issuer {}",
        state_name(change.state),
        jst(change.changed_at),
        change.crl_number,
        change.issuer
    );
}

pub(super) fn crl(list: &CrlSummary) {
    println!("{}  {}  number {}  {} entries", list.issuer, list.kind, list.number, list.entries);
    println!("  {} to {}", jst(list.this_update), jst(list.next_update));
}

pub(super) fn record(record: &Record) {
    let time = crate::clock::timestamp_ns(record.time_ns);
    // A body is an edge's: it must not steer the terminal.
    let body: String =
        record.body.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    let event: String = record.event.chars().filter(|c| !c.is_control()).collect();
    println!("{}  {}  {} {}  {event}  {body}", jst(time), record.edge, record.stream, record.seq);
}

pub(super) fn chain(chain: &ChainReport) {
    let state = match chain.first_break {
        None => "unbroken".to_owned(),
        Some(seq) => format!("broken at {seq}"),
    };
    println!("{}  {}  {} records to {}  {state}", chain.edge, chain.stream, chain.records, chain.last_seq);
}

pub(super) fn alarm(alarm: &LogAlarm) {
    println!("{}  {}  {} {}  {}", jst(alarm.at), alarm.edge, alarm.stream, alarm.seq, alarm.detail);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_japanese() {
        let time: Timestamp = "2025-12-31T15:00:00.5Z".parse().unwrap();
        assert_eq!(jst(time), "2026-01-01 00:00:00.500 JST");
    }
}
