//! How answers look to a person. Times are shown in Japan Standard Time.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use serde::Serialize;
use std::path::Path;
use verona_contract::api::{
    ChainReport, Client, ClientAction, ClientCreated, ClientDetail, ClientState, ConfigState, CrlSummary,
    Edge, EdgeCreated, EdgeHealth, EdgeProof, LogAlarm, Nat, Owner, Rejected, StateChanged, StockBox,
    StockBoxCreated, UplinkFacts, Versions,
};
use verona_contract::log::Record;

/// `2026-01-31 09:00:00.123 JST`. JST has had no daylight saving time since 1951: the offset is enough.
pub(super) fn jst(time: Timestamp) -> String {
    let zone = TimeZone::fixed(Offset::constant(9));
    time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S%.3f JST").to_string()
}

fn jst_or_never(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "never".to_owned(), jst)
}

pub(super) fn owner(owner: &Owner) {
    println!("{}  {}  {}", owner.code, owner.network, owner.name);
    println!("  client CA {}  edge CA {}", owner.client_ca, owner.edge_ca);
    let overlap = owner.psk_overlap_ends.map(|end| format!(", and the one before until {}", jst(end)));
    println!("  preshared keys of root {}{}", owner.psk_root, overlap.unwrap_or_default());
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
    if let Some(conditions) = &edge.conditions {
        let wrong = if conditions.is_empty() { "nothing".to_owned() } else { plain(&conditions.join(" ")) };
        let versions = edge.versions.clone().unwrap_or_default();
        let firmware = versions.firmware.map(|firmware| format!("  firmware {firmware}")).unwrap_or_default();
        println!("  wrong: {wrong}  agent {}{}", plain(&versions.agent), plain(&firmware));
    }
    edge.health.as_ref().into_iter().for_each(health);
    if let Some(outcome) = edge.outcome.as_ref().filter(|outcome| outcome.state != ConfigState::Confirmed) {
        let state = if outcome.state == ConfigState::Reverted { "taken back" } else { "refused" };
        for Rejected { path, reason, .. } in &outcome.rejected {
            println!("  configuration {} {state}: {path}: {reason}", outcome.seq);
        }
    }
}

/// The whole of an edge's last heartbeat.
fn health(health: &EdgeHealth) {
    let EdgeHealth { heard, from, heartbeat } = health;
    println!("  heard {} from {from}, up for {}", jst(*heard), duration(heartbeat.uptime_s));
    for condition in &heartbeat.conditions {
        println!("  {}: {}", plain(&condition.code), plain(&condition.detail));
    }
    let Versions { tunnel, kernel, .. } = &heartbeat.versions;
    let or = |text: &Option<String>, other: &str| text.as_deref().map_or_else(|| other.to_owned(), plain);
    println!("  tunnel {}  kernel {}", or(tunnel, "does not answer"), or(kernel, "unknown"));
    let belief = if heartbeat.clock.trusted { "trusted" } else { "not trusted" };
    let servers = heartbeat.clock.servers_ahead_ns;
    let ahead =
        servers.map(|ns| format!(", its servers {:+.3} s ahead", ns as f64 / 1e9)).unwrap_or_default();
    println!("  clock {belief}: {}{ahead}", plain(&heartbeat.clock.reason));
    let sessions = heartbeat.sessions.map_or_else(|| "unknown".to_owned(), |sessions| sessions.to_string());
    let watchdog = match heartbeat.watchdog_fed {
        None => "none",
        Some(true) => "fed",
        Some(false) => "not fed",
    };
    println!("  sessions {sessions}  records to send {}  watchdog {watchdog}", heartbeat.unsent_records);
    heartbeat.uplinks.iter().for_each(uplink);
}

fn uplink(facts: &UplinkFacts) {
    let known = |text: Option<String>| text.unwrap_or_else(|| "unknown".to_owned());
    let nat = facts.nat.map(|nat| match nat {
        Nat::None => "no NAT".to_owned(),
        Nat::EndpointIndependent => "NAT, the same for every destination".to_owned(),
        Nat::EndpointDependent => "NAT by destination".to_owned(),
        Nat::UdpBlocked => "UDP is blocked".to_owned(),
    });
    println!(
        "  uplink {}: address {}, outside {}, {}, path MTU {}",
        plain(&facts.name),
        known(facts.address.map(|address| address.to_string())),
        known(facts.public.map(|address| address.to_string())),
        nat.unwrap_or_else(|| "NAT unknown".to_owned()),
        known(facts.path_mtu.map(|mtu| mtu.to_string())),
    );
    if let Some(said) = &facts.captive {
        println!("    a portal answers in place of the center: {}", plain(said));
    }
}

/// An edge's words: they must not steer the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { char::REPLACEMENT_CHARACTER } else { one }).collect()
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("{days} d {hours} h {minutes} min")
}

pub(super) fn part<T: Serialize>(part: &T) {
    // Plain data always encodes.
    println!("{}", serde_json::to_string_pretty(part).unwrap_or_default());
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

pub(super) fn stock_box(stock_box: &StockBox) {
    println!("{}  last asked for its owner {}", stock_box.serial, jst_or_never(stock_box.last_seen));
}

pub(super) fn stock_box_created(created: &StockBoxCreated, record: Option<&Path>) {
    println!("{}  in stock", created.stock_box.serial);
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
    detail.edges.iter().for_each(edge_proof);
    for earlier in &detail.history {
        state_changed(&earlier.change);
        earlier.edges.iter().for_each(edge_proof);
    }
}

fn edge_proof(edge: &EdgeProof) {
    println!("    {}  {}  {}", edge.edge, edge.name, proof_line(edge));
}

/// What one edge did about one change.
fn proof_line(edge: &EdgeProof) -> String {
    let (Some(heard), Some(at)) = (edge.confirmed_after_ms, edge.applied_at) else {
        let since = jst_or_never(edge.waiting_since);
        return format!("not heard yet, waiting since {since}, last seen {}", jst_or_never(edge.last_seen));
    };
    let after = edge
        .cut_after_ms
        .map_or_else(|| "its clock is off".to_owned(), |after| format!("{after} ms after the order"));
    let list = edge.crl_number.map_or_else(String::new, |number| format!(" by list {number}"));
    let cut = match edge.sessions_cut {
        0 => String::new(),
        1 => ", 1 session cut".to_owned(),
        more => format!(", {more} sessions cut"),
    };
    format!("in force {}, {after}{list}{cut} (heard after {heard} ms)", jst(at))
}

pub(super) fn state_changed(change: &StateChanged) {
    let action = match change.action {
        ClientAction::Disable => "disabled",
        ClientAction::Enable => "enabled",
        ClientAction::Revoke => "revoked",
    };
    println!(
        "  {action} by {} {}, list {} of issuer {}",
        change.by,
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
        None if chain.declared_missing == 0 => "unbroken".to_owned(),
        None => format!("unbroken, {} declared missing by the edge", chain.declared_missing),
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
    fn a_proof_says_what_is_known() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let waiting = EdgeProof {
            edge: uuid::Uuid::nil(),
            name: "Tokyo".into(),
            applied_at: None,
            confirmed_after_ms: None,
            crl_number: None,
            cut_after_ms: None,
            cut: false,
            sessions_cut: 0,
            waiting_since: at("2025-12-31T15:00:00Z"),
            last_seen: None,
        };
        assert_eq!(
            proof_line(&waiting),
            "not heard yet, waiting since 2026-01-01 00:00:00.000 JST, last seen never"
        );
        let heard = EdgeProof {
            applied_at: at("2025-12-31T15:00:00.031Z"),
            confirmed_after_ms: Some(44),
            crl_number: Some(9),
            cut_after_ms: Some(31),
            sessions_cut: 1,
            ..waiting
        };
        assert_eq!(
            proof_line(&heard),
            "in force 2026-01-01 00:00:00.031 JST, 31 ms after the order by list 9, 1 session cut (heard after 44 ms)"
        );
        let off = proof_line(&EdgeProof { cut_after_ms: None, sessions_cut: 0, ..heard });
        assert!(off.contains("its clock is off") && !off.contains("session"), "{off}");
    }

    #[test]
    fn times_are_japanese() {
        let time: Timestamp = "2025-12-31T15:00:00.5Z".parse().unwrap();
        assert_eq!(jst(time), "2026-01-01 00:00:00.500 JST");
    }
}
