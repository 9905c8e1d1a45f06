//! The agent's answers as text for people.

use super::table::{jst, jst_ns, octets, printable, table};
use crate::bundles::{Fate, Revision};
use crate::local::{ConfigInfo, ConfigState, Difference, ListInfo, Reply, State};
use crate::update::UpdateInfo;
use edge_agent_core::netcheck::{self, Language};
use edge_agent_core::trial::describe;
use edge_agent_core::update::trial::{Attempt, Stage};
use std::collections::BTreeMap;
use verona_contract::control::{CertificateSource, CrlState, OffloadState, PeerInfo};
use verona_contract::log::Record;

pub(super) fn reply(reply: &Reply, language: Language) -> String {
    match reply {
        Reply::Status(state) => status(state),
        Reply::Peers(list) => peers(list),
        Reply::Crl(list) => lists(list),
        Reply::Config(info) => config(info),
        Reply::ConfigHistory(revisions) => history(revisions),
        Reply::ConfigDifference(found) => difference(found),
        Reply::ConfigChosen { seq } => format!("configuration {seq}\n"),
        Reply::Update(info) => update(info),
        Reply::CenterSet => "the center's address is set\n".to_owned(),
        Reply::ResetOrdered { restarts: true } => {
            "the box restarts, and comes back without a configuration\n".to_owned()
        }
        Reply::ResetOrdered { restarts: false } => {
            "the configuration goes at the next start: restart the box\n".to_owned()
        }
        Reply::Support { name, archive } => format!("{name}: {}\n", octets(archive.as_ref().len() as u64)),
        Reply::Netcheck(findings) => netcheck::report(findings, language),
        Reply::Time(state) => super::time::show(state),
        Reply::Logs(records) => logs(records),
        Reply::Appended { stream, seq } => format!("{stream} {seq}\n"),
    }
}

fn status(state: &State) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    let health = if state.conditions.is_empty() { "nothing is wrong" } else { "see conditions" };
    lines.push(("health", health.to_owned()));
    for condition in &state.conditions {
        lines.push(("condition", format!("{}: {}", condition.code, condition.detail)));
    }
    let edge = state.edge.map_or_else(|| "not enrolled".to_owned(), |edge| edge.to_string());
    lines.push(("edge", format!("{edge}, serial {}, agent {}", state.serial, state.agent)));
    if let Some(certificate) = &state.certificate {
        lines.push(("certificate", format!("until {}", jst(certificate.not_after))));
    }
    lines.push(("center", center(state)));
    lines.push(("config", one_line(&state.config)));
    lines.push(("tunnel", tunnel(state)));
    if let Some(status) = &state.tunnel.status {
        lines.push(("offloads", offloads(&status.offloads)));
        lines.push(("losses", losses(&status.counters.totals)));
    }
    let belief = if state.clock.trusted { "trusted" } else { "not trusted" };
    lines.push(("clock", format!("{}, {belief}: {}", jst_ns(state.clock.now_ns), state.clock.reason)));
    if let Some(usage) = &state.spool {
        let unsent: u64 =
            usage.streams.values().map(|one| one.last_seq - one.sent_seq.min(one.last_seq)).sum();
        let (used, quota) = (octets(usage.octets), octets(usage.quota));
        lines.push(("spool", format!("{unsent} records to send, {used} of {quota}")));
    }
    lines.push(("acks", format!("{} to send", state.acks_pending)));
    lines
        .iter()
        .fold(String::new(), |text, (name, value)| text + &format!("{name:<12} {}\n", printable(value)))
}

fn update(info: &UpdateInfo) -> String {
    let mut lines = vec![("firmware", format!("{} {}, slot {}", info.edition, info.running, info.slot))];
    let wanted = info.wanted.map_or_else(|| "as it is".to_owned(), |version| version.to_string());
    lines.push(("wanted", wanted));
    if let Some(attempt) = &info.record.attempt {
        let Attempt { release, slot, stage, .. } = attempt;
        let done = match stage {
            Stage::Writing { root, kernel } => {
                let (done, all) = (root + kernel, release.root.length + release.kernel.length);
                format!("{} of {} written", octets(done), octets(all))
            }
            Stage::Installed => "installed, waits for a restart".to_owned(),
        };
        lines.push(("under way", format!("{} into slot {slot}: {done}", release.version)));
    }
    if let Some(failure) = &info.failure {
        lines.push(("not done", failure.clone()));
    }
    if let Some(last) = &info.record.last {
        let ended =
            last.failure.as_ref().map_or_else(|| "proved itself".to_owned(), |why| format!("failed: {why}"));
        lines.push(("last", format!("{}: {ended}", last.version)));
    }
    for barred in &info.record.barred {
        lines.push(("barred", format!("{}: {}", barred.version, barred.reason)));
    }
    lines
        .iter()
        .fold(String::new(), |text, (name, value)| text + &format!("{name:<12} {}\n", printable(value)))
}

fn center(state: &State) -> String {
    let center = &state.center;
    let contact = center.last_contact_ns.map_or_else(|| "never".to_owned(), jst_ns);
    let state = match &center.failure {
        None if center.reachable => "reachable".to_owned(),
        None => "not heard yet".to_owned(),
        Some(failure) => format!("unreachable ({failure})"),
    };
    format!("{}: {state}, last contact {contact}", center.url)
}

fn one_line(config: &ConfigInfo) -> String {
    let seq = config.seq.map_or_else(|| "none".to_owned(), |seq| seq.to_string());
    let state = match config.state {
        ConfigState::Missing => "missing",
        ConfigState::Staged => "a newer one waits for the tunnel",
        ConfigState::Confirmed => "confirmed",
        ConfigState::OnTrial => "a newer one is on trial",
        ConfigState::Refused => "the newest was refused",
        ConfigState::Reverted => "the newest was taken back",
        ConfigState::RolledBack => "a technician went back to it",
    };
    let issued = config.issued_at.map(|time| format!(", issued {}", jst(time))).unwrap_or_default();
    format!("{seq}, {state}{issued}")
}

/// What is off and why; the tunnel is slower by that, and works the same.
fn offloads(states: &BTreeMap<String, OffloadState>) -> String {
    let off: Vec<String> = states
        .iter()
        .filter(|(_, state)| **state != OffloadState::On)
        .map(|(name, state)| format!("{name} {state}"))
        .collect();
    match (states.is_empty(), off.is_empty()) {
        (true, _) => "not told".to_owned(),
        (_, true) => "all on".to_owned(),
        _ => off.join(", "),
    }
}

/// What was dropped since the tunnel started because a buffer was full, or nobody took it.
fn losses(totals: &BTreeMap<String, u64>) -> String {
    let kinds = [
        ("udp_receive_dropped", "datagrams found the socket full"),
        ("send_dropped", "datagrams found no room to leave"),
        ("send_failed", "datagrams were refused by the network"),
        ("tun_dropped", "packets found the interface's queue full"),
        ("tun_failed", "packets were refused by the interface"),
    ];
    let count = |name| totals.get(name).copied().filter(|&count| count > 0);
    let some: Vec<String> =
        kinds.iter().filter_map(|(name, what)| Some(format!("{} {what}", count(*name)?))).collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

fn tunnel(state: &State) -> String {
    match (&state.tunnel.status, &state.tunnel.failure) {
        (Some(status), _) => {
            let policy = status.policy_seq.map_or_else(|| "none".to_owned(), |seq| seq.to_string());
            format!(
                "{} up, UDP port {}, policy {policy}, {} sessions, {} peers known",
                status.interface, status.listen_port, status.sessions, status.records
            )
        }
        (None, failure) => format!("down: {}", failure.as_deref().unwrap_or("no answer")),
    }
}

fn peers(list: &[PeerInfo]) -> String {
    let row = |peer: &PeerInfo| {
        let addresses: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
        vec![
            peer.subject.clone(),
            addresses.join(","),
            match peer.source {
                CertificateSource::Pushed => "pushed",
                CertificateSource::Introduced => "introduced",
            }
            .to_owned(),
            peer.endpoint.map_or_else(|| "-".to_owned(), |endpoint| endpoint.to_string()),
            peer.last_handshake.map_or_else(|| "never".to_owned(), jst),
            octets(peer.rx_bytes),
            octets(peer.tx_bytes),
            peer.path_mtu.map_or_else(|| "-".to_owned(), |mtu| mtu.to_string()),
            jst(peer.not_after),
        ]
    };
    let head = [
        "SUBJECT",
        "ADDRESSES",
        "SOURCE",
        "ENDPOINT",
        "LAST HANDSHAKE",
        "RX",
        "TX",
        "PATH MTU",
        "CERTIFICATE UNTIL",
    ];
    table(&head, &list.iter().map(row).collect::<Vec<_>>())
}

fn lists(list: &[ListInfo]) -> String {
    let row = |info: &ListInfo| {
        let held = info.held.as_ref();
        let in_force = info.in_force.as_ref();
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let state = in_force.map_or("tunnel does not tell", |info| match info.state {
            CrlState::Missing => "missing",
            CrlState::Fresh => "fresh",
            CrlState::Grace => "grace",
            CrlState::Stale => "stale",
            CrlState::Undated => "undated",
        });
        vec![
            info.issuer.to_string(),
            number(held.map(|held| held.number)),
            number(in_force.and_then(|info| info.number)),
            held.map_or_else(|| "-".to_owned(), |held| held.entries.to_string()),
            state.to_owned(),
            held.map_or_else(|| "-".to_owned(), |held| jst(held.next_update)),
            info.refused.clone().unwrap_or_default(),
        ]
    };
    let head = ["ISSUER", "HELD", "IN FORCE", "ENTRIES", "STATE", "NEXT UPDATE", "REFUSED"];
    table(&head, &list.iter().map(row).collect::<Vec<_>>())
}

fn config(info: &ConfigInfo) -> String {
    let mut text = one_line(info) + "\n";
    if let Some(refused) = &info.refused {
        text += &format!("refused: {}\n", printable(refused));
    }
    if let Some(reverted) = &info.reverted {
        text += &format!("taken back: {}\n", printable(reverted));
    }
    if let (Some(seq), Some(trial)) = (info.staged, &info.trial) {
        text += &format!("on trial: {seq}, back in {} s: {}\n", trial.left_s, describe(&trial.lost));
    }
    if let Some(content) = &info.content {
        // A JSON value always encodes.
        text += &serde_json::to_string_pretty(content).unwrap_or_default();
        text.push('\n');
    }
    text
}

fn history(revisions: &[Revision]) -> String {
    let row = |one: &Revision| {
        let fate = match one.fate {
            Fate::Confirmed => "confirmed",
            Fate::Refused => "refused",
            Fate::Reverted => "taken back",
            Fate::RolledBack => "left by a technician",
        };
        vec![one.seq.to_string(), jst(one.at), fate.to_owned(), one.reason.clone().unwrap_or_default()]
    };
    table(&["CONFIGURATION", "TIME", "FATE", "REASON"], &revisions.iter().map(row).collect::<Vec<_>>())
}

fn difference(found: &Difference) -> String {
    let mut text = format!("from configuration {} to {}\n", found.before, found.after);
    for change in &found.changes {
        let side = |sign: char, side: &Option<String>| {
            side.as_ref()
                .map(|value| format!("{sign} {} = {}\n", change.path, printable(value)))
                .unwrap_or_default()
        };
        text += &(side('-', &change.before) + &side('+', &change.after));
    }
    text
}

fn logs(records: &[Record]) -> String {
    let row = |record: &Record| {
        vec![
            jst_ns(record.time_ns),
            record.stream.to_string(),
            record.seq.to_string(),
            format!("{:?}", record.severity).to_lowercase(),
            record.event.clone(),
            record.body.clone(),
        ]
    };
    table(&["TIME", "STREAM", "SEQ", "SEVERITY", "EVENT", ""], &records.iter().map(row).collect::<Vec<_>>())
}
