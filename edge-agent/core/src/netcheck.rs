//! What a technician should know about the box's lines: what was observed becomes findings, in the order in which one
//! thing needs the one before, each with what to do about it.
//!
//! Texts are in English and Japanese. What a finding says of addresses, numbers and errors is the same in both.

mod text;

pub use text::report;

use crate::line::{is_carriers, nat};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use verona_contract::api::Nat;
use verona_contract::ipnet::IpNet;

/// For people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Japanese.
    Ja,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// The cable.
    Port,
    /// The box's address on the line.
    Address,
    /// The provider's router.
    Gateway,
    /// Name service.
    Names,
    /// Whether a portal stands in the way.
    Portal,
    /// Time servers.
    Time,
    /// The center, over TLS.
    Center,
    /// Whether UDP comes back.
    Udp,
    /// What is between the line and the center.
    Nat,
    /// How large packets may be.
    PathMtu,
    /// The data plane.
    Tunnel,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and something else will not.
    Warning,
    /// It does not work.
    Failed,
    /// It cannot be told, because of something else.
    Unknown,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// The port is not there.
    WrongPort,
    /// No carrier.
    PlugIn,
    /// No address.
    AskProviderForAddress,
    /// No router in the configuration or the lease.
    NoRoute,
    /// The router is silent.
    RestartProvidersBox,
    /// No name server answers.
    CheckNameServers,
    /// The center's name does not resolve.
    CheckCenterName,
    /// A portal.
    LogIn,
    /// Time servers are silent.
    OpenNtp,
    /// The center does not answer.
    OpenHttps,
    /// The center answers and says no.
    AskVendor,
    /// Somebody else answers.
    TlsIntercepted,
    /// UDP is blocked.
    OpenUdp,
    /// NAT by destination.
    ForwardPort,
    /// The path is too narrow.
    CheckMtu,
    /// The data plane does not run.
    RestartBox,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at.
    pub item: Item,
    /// On which uplink; none = it is about the box.
    pub uplink: Option<String>,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub what: String,
    /// What to do.
    pub remedy: Option<Remedy>,
}

/// What was seen of the box.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its uplinks.
    pub uplinks: Vec<ObservedUplink>,
    /// Whether a name server answers.
    pub names: bool,
    /// What the center's name stands for, or why it does not resolve.
    pub center_addresses: Option<Result<Vec<IpAddr>, String>>,
    /// What a portal said, none = it was the center; or why nobody answered. None = it could not be asked.
    pub portal: Option<Result<Option<String>, String>>,
    /// How many time servers were asked, and how many told the time.
    pub time_servers: (usize, usize),
    /// Whether the clock is believed, and why or why not.
    pub clock: (bool, String),
    /// How the center answered.
    pub center: CenterAnswer,
    /// Why the data plane does not forward; none = it does.
    pub tunnel_failure: Option<String>,
}

/// How the center answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CenterAnswer {
    /// As to an enrolled box.
    Accepts,
    /// It answers, and does not accept this box.
    Refuses(String),
    /// What answers is not the center.
    Foreign(String),
    /// Not at all.
    Silent(String),
    /// It was not asked.
    #[default]
    NotAsked,
}

/// What was seen of one uplink.
#[derive(Clone, Debug, Default)]
pub struct ObservedUplink {
    /// As in the configuration.
    pub name: String,
    /// Its port; none = no route leads out.
    pub port: Option<ObservedPort>,
    /// The box's addresses on it that others know.
    pub addresses: Vec<IpNet>,
    /// The provider's router, and whether it is there.
    pub gateway: Option<(IpAddr, bool)>,
    /// The link of its session of PPPoE, while that is up: it needs no router.
    pub session: Option<String>,
    /// What the center's reflectors said.
    pub reflection: Option<ObservedReflection>,
}

/// A port.
#[derive(Clone, Debug, Default)]
pub struct ObservedPort {
    /// As the kernel names it.
    pub name: String,
    /// Whether it exists.
    pub exists: bool,
    /// Whether there is a carrier.
    pub carrier: bool,
    /// Octets.
    pub mtu: u32,
}

/// What the center's reflectors said over one uplink.
#[derive(Clone, Debug)]
pub struct ObservedReflection {
    /// The box's own address.
    pub own: IpAddr,
    /// As two places see it.
    pub mapped: (Option<SocketAddr>, Option<SocketAddr>),
    /// Octets.
    pub path_mtu: Option<u16>,
}

/// Packets of the tunnel and its headers pass a path of this width without being cut, octets.
const WIDE_ENOUGH: u16 = 1360;

/// What follows from what was seen.
#[must_use]
pub fn findings(seen: &Observed) -> Vec<Finding> {
    let mut found = Vec::new();
    for uplink in &seen.uplinks {
        local(uplink, &mut found);
    }
    found.extend([names(seen), portal(seen), time(seen), center(seen)]);
    for uplink in &seen.uplinks {
        outside(uplink, &seen.center, &mut found);
    }
    found.push(match &seen.tunnel_failure {
        None => ok(Item::Tunnel, "forwards".to_owned()),
        Some(why) => failed(Item::Tunnel, why.clone(), Remedy::RestartBox),
    });
    found
}

fn ok(item: Item, what: String) -> Finding {
    Finding { item, uplink: None, verdict: Verdict::Ok, what, remedy: None }
}

fn failed(item: Item, what: String, remedy: Remedy) -> Finding {
    Finding { item, uplink: None, verdict: Verdict::Failed, what, remedy: Some(remedy) }
}

fn unknown(item: Item, what: &str) -> Finding {
    Finding { item, uplink: None, verdict: Verdict::Unknown, what: what.to_owned(), remedy: None }
}

/// Cable, address, router: each needs the one before.
fn local(uplink: &ObservedUplink, found: &mut Vec<Finding>) {
    let mut add = |finding: Finding| found.push(Finding { uplink: Some(uplink.name.clone()), ..finding });
    let Some(port) = &uplink.port else {
        return add(failed(Item::Gateway, "no route leads out of the box".to_owned(), Remedy::NoRoute));
    };
    if !port.exists {
        return add(failed(Item::Port, format!("{}: no such port", port.name), Remedy::WrongPort));
    }
    if !port.carrier {
        return add(failed(Item::Port, format!("{}: no carrier", port.name), Remedy::PlugIn));
    }
    add(ok(Item::Port, format!("{}, MTU {}", port.name, port.mtu)));
    if uplink.addresses.is_empty() {
        let what = format!("{}: none", port.name);
        return add(failed(Item::Address, what, Remedy::AskProviderForAddress));
    }
    let addresses: Vec<String> = uplink.addresses.iter().map(ToString::to_string).collect();
    add(ok(Item::Address, addresses.join(", ")));
    add(match uplink.gateway {
        None => match &uplink.session {
            Some(link) => ok(Item::Gateway, format!("PPPoE session {link}")),
            None => failed(Item::Gateway, "none".to_owned(), Remedy::NoRoute),
        },
        Some((router, true)) => ok(Item::Gateway, router.to_string()),
        Some((router, false)) => {
            failed(Item::Gateway, format!("{router} does not answer"), Remedy::RestartProvidersBox)
        }
    });
}

fn names(seen: &Observed) -> Finding {
    match (&seen.center_addresses, seen.names) {
        // It may be an address, which needs no name server.
        (Some(Ok(addresses)), true) => {
            let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            ok(Item::Names, format!("center = {}", all.join(", ")))
        }
        (_, false) => failed(Item::Names, "no name server answers".to_owned(), Remedy::CheckNameServers),
        (Some(Err(why)), true) => failed(Item::Names, format!("center: {why}"), Remedy::CheckCenterName),
        (None, true) => unknown(Item::Names, "the center's name was not asked for"),
    }
}

fn portal(seen: &Observed) -> Finding {
    match (&seen.portal, &seen.center) {
        (Some(Ok(Some(said))), _) => failed(Item::Portal, said.clone(), Remedy::LogIn),
        // Only the center itself has its key.
        (Some(Ok(None)), _) | (_, CenterAnswer::Accepts | CenterAnswer::Refuses(_)) => {
            ok(Item::Portal, "none".to_owned())
        }
        (Some(Err(why)), _) => unknown(Item::Portal, why),
        (None, _) => unknown(Item::Portal, "the center has no address"),
    }
}

fn time(seen: &Observed) -> Finding {
    let ((asked, told), (trusted, reason)) = (seen.time_servers, &seen.clock);
    let what = if asked == 0 { reason.clone() } else { format!("{told}/{asked}, {reason}") };
    match (asked, told, trusted) {
        (0, _, true) | (1.., 1.., true) => ok(Item::Time, what),
        (_, _, true) => {
            let finding = failed(Item::Time, what, Remedy::OpenNtp);
            Finding { verdict: Verdict::Warning, ..finding }
        }
        (_, _, false) => failed(Item::Time, what, Remedy::OpenNtp),
    }
}

fn center(seen: &Observed) -> Finding {
    match &seen.center {
        CenterAnswer::Accepts => ok(Item::Center, "accepts this box".to_owned()),
        CenterAnswer::Refuses(why) => failed(Item::Center, why.clone(), Remedy::AskVendor),
        CenterAnswer::Foreign(why) => failed(Item::Center, why.clone(), Remedy::TlsIntercepted),
        CenterAnswer::Silent(why) => failed(Item::Center, why.clone(), Remedy::OpenHttps),
        CenterAnswer::NotAsked => unknown(Item::Center, "not asked"),
    }
}

/// UDP, NAT, width: as seen from the center.
fn outside(uplink: &ObservedUplink, center: &CenterAnswer, found: &mut Vec<Finding>) {
    let mut add = |finding: Finding| found.push(Finding { uplink: Some(uplink.name.clone()), ..finding });
    let Some(seen) = &uplink.reflection else {
        return add(unknown(Item::Udp, "nothing could be sent"));
    };
    let public = seen.mapped.0.or(seen.mapped.1).map(|mapped| mapped.ip().to_string()).unwrap_or_default();
    let carriers = if is_carriers(seen.own) { " (CGNAT)" } else { "" };
    match nat(seen.own, seen.mapped) {
        Nat::UdpBlocked if matches!(center, CenterAnswer::Silent(_) | CenterAnswer::NotAsked) => {
            return add(unknown(Item::Udp, "the center does not answer at all"));
        }
        Nat::UdpBlocked => {
            return add(failed(Item::Udp, "no answer to UDP 3478".to_owned(), Remedy::OpenUdp));
        }
        Nat::None => {
            add(ok(Item::Udp, "passes".to_owned()));
            add(ok(Item::Nat, format!("none, {public}")));
        }
        Nat::EndpointIndependent => {
            add(ok(Item::Udp, "passes".to_owned()));
            add(ok(Item::Nat, format!("{} → {public}{carriers}", seen.own)));
        }
        Nat::EndpointDependent => {
            add(ok(Item::Udp, "passes".to_owned()));
            let what = format!("{} → {public}{carriers}, another port for each destination", seen.own);
            let finding = failed(Item::Nat, what, Remedy::ForwardPort);
            add(Finding { verdict: Verdict::Warning, ..finding });
        }
    }
    match seen.path_mtu {
        Some(width) if width >= WIDE_ENOUGH => add(ok(Item::PathMtu, width.to_string())),
        Some(width) => {
            let finding = failed(Item::PathMtu, width.to_string(), Remedy::CheckMtu);
            add(Finding { verdict: Verdict::Warning, ..finding });
        }
        None => add(failed(Item::PathMtu, "< 1280".to_owned(), Remedy::CheckMtu)),
    }
}

#[cfg(test)]
mod tests;
