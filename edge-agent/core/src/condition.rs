//! Conditions: what is wrong with the box now, under codes that monitoring may rely on.
//!
//! A condition is computed from facts at the moment of asking, never stored, so it cannot outlive its cause.

use serde::{Deserialize, Serialize};
use std::fmt;
use verona_contract::control::CrlState;
use verona_contract::key::KeyId;

/// A stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Code {
    /// The box has no operational certificate.
    NotEnrolled,
    /// The operational certificate has ended: the center will not answer.
    CertificateExpired,
    /// The last requests to the center failed.
    CenterUnreachable,
    /// An uplink does not carry: no cable, no address, no session, or nobody behind it answers.
    UplinkDown,
    /// A portal answers in place of the center: somebody must log in, or the line is not the one that was ordered.
    UplinkCaptive,
    /// `edge-tunnel` does not answer.
    TunnelDown,
    /// No configuration is in force.
    ConfigMissing,
    /// The newest bundle was refused; an older one is in force.
    ConfigRefused,
    /// The newest configuration was in force and taken back; an older one is in force.
    ConfigReverted,
    /// An issuer has no list, so its clients are denied.
    CrlMissing,
    /// A list is past nextUpdate.
    CrlStale,
    /// The newest list offered by the center was refused.
    CrlRefused,
    /// The wall clock is not believed.
    ClockUnsynced,
    /// Time servers are configured and their word is not taken: silent, of different minds, or against the center.
    TimeServersLost,
    /// The spool is over 80 % of its quota.
    #[serde(rename = "spool-80")]
    Spool80,
    /// The disk refuses what is to be kept: log records are not taken.
    StorageFailed,
    /// A damaged part of the spool was set aside.
    SpoolDamaged,
    /// The center refused log records, which were set aside.
    LogRefused,
    /// The customer's collector does not get its records.
    SyslogUnreachable,
    /// The center answers and does not accept this box as an enrolled edge.
    CenterRefuses,
    /// The tunnel answers and carries out something else than the configuration in force.
    TunnelUnfilled,
    /// The tunnel answers, and its workers do not take their turns: nothing passes.
    TunnelStuck,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::NotEnrolled,
        Self::CertificateExpired,
        Self::CenterUnreachable,
        Self::UplinkDown,
        Self::UplinkCaptive,
        Self::TunnelDown,
        Self::ConfigMissing,
        Self::ConfigRefused,
        Self::ConfigReverted,
        Self::CrlMissing,
        Self::CrlStale,
        Self::CrlRefused,
        Self::ClockUnsynced,
        Self::TimeServersLost,
        Self::Spool80,
        Self::StorageFailed,
        Self::SpoolDamaged,
        Self::LogRefused,
        Self::SyslogUnreachable,
        Self::CenterRefuses,
        Self::TunnelUnfilled,
        Self::TunnelStuck,
    ];

    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotEnrolled => "not-enrolled",
            Self::CertificateExpired => "certificate-expired",
            Self::CenterUnreachable => "center-unreachable",
            Self::UplinkDown => "uplink-down",
            Self::UplinkCaptive => "uplink-captive",
            Self::TunnelDown => "tunnel-down",
            Self::ConfigMissing => "config-missing",
            Self::ConfigRefused => "config-refused",
            Self::ConfigReverted => "config-reverted",
            Self::CrlMissing => "crl-missing",
            Self::CrlStale => "crl-stale",
            Self::CrlRefused => "crl-refused",
            Self::ClockUnsynced => "clock-unsynced",
            Self::TimeServersLost => "time-servers-lost",
            Self::Spool80 => "spool-80",
            Self::StorageFailed => "storage-failed",
            Self::SpoolDamaged => "spool-damaged",
            Self::LogRefused => "log-refused",
            Self::SyslogUnreachable => "syslog-unreachable",
            Self::CenterRefuses => "center-refuses",
            Self::TunnelUnfilled => "tunnel-unfilled",
            Self::TunnelStuck => "tunnel-stuck",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A question of those who watch over processes, with yes or no for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The agent runs and answers.
    Live,
    /// The box has come so far that it can do its work: it is enrolled, and a configuration is in force.
    Startup,
    /// Clients that may come in come in. The center is not needed for that.
    Ready,
}

impl Check {
    /// The condition that makes the answer no; none = yes.
    #[must_use]
    pub fn failing(self, conditions: &[Condition]) -> Option<&Condition> {
        let stands_against: &[Code] = match self {
            Self::Live => &[],
            Self::Startup => &[Code::NotEnrolled, Code::ConfigMissing],
            Self::Ready => &[
                Code::NotEnrolled,
                Code::ConfigMissing,
                Code::TunnelDown,
                Code::TunnelUnfilled,
                Code::TunnelStuck,
                Code::CrlMissing,
            ],
        };
        conditions.iter().find(|condition| stands_against.contains(&condition.code))
    }
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// For programs.
    pub code: Code,
    /// For people: which thing, and why.
    pub detail: String,
}

/// The facts that conditions follow from.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whether there is an operational certificate.
    pub enrolled: bool,
    /// Whether it has ended, by a clock that is believed.
    pub certificate_expired: bool,
    /// Why the last request to the center failed; none = it did not.
    pub center_failure: Option<String>,
    /// Why the center does not accept this box; none = it does, or was not heard.
    pub center_refusal: Option<String>,
    /// Each uplink that does not carry, and why.
    pub uplinks_down: Vec<(String, String)>,
    /// What a portal in place of the center says; none = there is none.
    pub uplink_captive: Option<String>,
    /// Why the tunnel does not answer; none = it does.
    pub tunnel_failure: Option<String>,
    /// Why the data plane shows no pulse although it answers; none = it does.
    pub tunnel_stuck: Option<String>,
    /// Sequence number of the policy that the tunnel carries out; none = it has none.
    pub tunnel_seq: Option<u64>,
    /// Sequence number of the configuration in force.
    pub config_seq: Option<u64>,
    /// Why the newest bundle was refused.
    pub config_refused: Option<String>,
    /// Why the newest configuration was taken back.
    pub config_reverted: Option<String>,
    /// Each issuer's list and what it allows, as the data plane sees it.
    pub lists: Vec<(KeyId, CrlState)>,
    /// Why an issuer's newest list was refused.
    pub crl_refused: Vec<(KeyId, String)>,
    /// Why the clock is not believed; none = it is.
    pub clock_doubt: Option<String>,
    /// Why the time servers' word is not taken; none = it is, or there are none.
    pub time_servers_doubt: Option<String>,
    /// Octets of the spool in use, and its quota.
    pub spool: (u64, u64),
    /// Why the last record was not written; none = it was.
    pub storage_failure: Option<String>,
    /// Segments set aside.
    pub spool_damaged: usize,
    /// Log records that the center refused.
    pub log_refused: u64,
    /// Why the customer's collector does not get its records; none = it does, or there is none.
    pub syslog_failure: Option<String>,
}

/// What is wrong, in a fixed order: first what explains the rest.
#[must_use]
pub fn conditions(facts: &Facts) -> Vec<Condition> {
    let mut found = Vec::new();
    let mut add =
        |code, detail: &dyn fmt::Display| found.push(Condition { code, detail: detail.to_string() });
    if !facts.enrolled {
        add(Code::NotEnrolled, &"no operational certificate yet");
    }
    if facts.certificate_expired {
        add(Code::CertificateExpired, &"the operational certificate has ended");
    }
    for (name, reason) in &facts.uplinks_down {
        add(Code::UplinkDown, &format!("{name}: {reason}"));
    }
    if let Some(reason) = &facts.center_failure {
        add(Code::CenterUnreachable, reason);
    }
    if let Some(reason) = &facts.center_refusal {
        add(Code::CenterRefuses, reason);
    }
    if let Some(reason) = &facts.uplink_captive {
        add(Code::UplinkCaptive, reason);
    }
    match (&facts.tunnel_failure, facts.config_seq, facts.tunnel_seq) {
        (Some(reason), _, _) => add(Code::TunnelDown, reason),
        (None, Some(config), None) => {
            add(
                Code::TunnelUnfilled,
                &format!("the tunnel has no policy, configuration {config} is in force"),
            );
        }
        (None, Some(config), Some(policy)) if policy != config => {
            let detail = format!("the tunnel has policy {policy}, configuration {config} is in force");
            add(Code::TunnelUnfilled, &detail);
        }
        _ => {}
    }
    if let Some(reason) = &facts.tunnel_stuck {
        add(Code::TunnelStuck, reason);
    }
    if facts.config_seq.is_none() {
        add(Code::ConfigMissing, &"no configuration is in force: no client is admitted");
    }
    if let Some(reason) = &facts.config_refused {
        add(Code::ConfigRefused, reason);
    }
    if let Some(reason) = &facts.config_reverted {
        add(Code::ConfigReverted, reason);
    }
    for (issuer, state) in &facts.lists {
        match state {
            CrlState::Missing => add(Code::CrlMissing, &format!("no list of issuer {issuer}")),
            CrlState::Grace => {
                add(Code::CrlStale, &format!("list of issuer {issuer} is past nextUpdate, in grace"));
            }
            CrlState::Stale => add(Code::CrlStale, &format!("list of issuer {issuer} is past its grace")),
            CrlState::Fresh | CrlState::Undated => {}
        }
    }
    for (issuer, reason) in &facts.crl_refused {
        add(Code::CrlRefused, &format!("issuer {issuer}: {reason}"));
    }
    if let Some(reason) = &facts.clock_doubt {
        add(Code::ClockUnsynced, reason);
    }
    if let Some(reason) = &facts.time_servers_doubt {
        add(Code::TimeServersLost, reason);
    }
    let (used, quota) = facts.spool;
    if used.saturating_mul(5) >= quota.saturating_mul(4) && quota > 0 {
        add(Code::Spool80, &format!("{used} of {quota} octets in use"));
    }
    if let Some(reason) = &facts.storage_failure {
        add(Code::StorageFailed, reason);
    }
    if facts.spool_damaged > 0 {
        add(Code::SpoolDamaged, &format!("{} segments set aside", facts.spool_damaged));
    }
    if facts.log_refused > 0 {
        let count = facts.log_refused;
        add(
            Code::LogRefused,
            &format!("{count} records refused by the center, kept in spool/refused*.jsonl"),
        );
    }
    if let Some(reason) = &facts.syslog_failure {
        add(Code::SyslogUnreachable, reason);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> Facts {
        Facts {
            enrolled: true,
            config_seq: Some(1),
            tunnel_seq: Some(1),
            spool: (79, 100),
            ..Facts::default()
        }
    }

    #[test]
    fn each_fact_has_its_code() {
        type Change = fn(&mut Facts, KeyId);
        let issuer: KeyId = "0a".parse().unwrap();
        let changes: [(&str, Change); 24] = [
            ("not-enrolled", |f, _| f.enrolled = false),
            ("certificate-expired", |f, _| f.certificate_expired = true),
            ("center-unreachable", |f, _| f.center_failure = Some("connection refused".into())),
            ("uplink-down", |f, _| f.uplinks_down.push(("fiber".into(), "no cable in eth0".into()))),
            ("uplink-captive", |f, _| f.uplink_captive = Some("302".into())),
            ("tunnel-down", |f, _| f.tunnel_failure = Some("no socket".into())),
            ("config-missing", |f, _| f.config_seq = None),
            ("config-refused", |f, _| f.config_refused = Some("older".into())),
            ("config-reverted", |f, _| f.config_reverted = Some("center".into())),
            ("crl-missing", |f, i| f.lists.push((i, CrlState::Missing))),
            ("crl-stale", |f, i| f.lists.push((i, CrlState::Grace))),
            ("crl-stale", |f, i| f.lists.push((i, CrlState::Stale))),
            ("crl-refused", |f, i| f.crl_refused.push((i, "older".into()))),
            ("clock-unsynced", |f, _| f.clock_doubt = Some("1970".into())),
            ("time-servers-lost", |f, _| f.time_servers_doubt = Some("silent".into())),
            ("spool-80", |f, _| f.spool = (80, 100)),
            ("storage-failed", |f, _| f.storage_failure = Some("read-only".into())),
            ("spool-damaged", |f, _| f.spool_damaged = 1),
            ("log-refused", |f, _| f.log_refused = 1),
            ("syslog-unreachable", |f, _| f.syslog_failure = Some("refused".into())),
            ("center-refuses", |f, _| f.center_refusal = Some("this certificate is revoked".into())),
            ("tunnel-stuck", |f, _| f.tunnel_stuck = Some("no turn".into())),
            ("tunnel-unfilled", |f, _| f.tunnel_seq = None),
            ("tunnel-unfilled", |f, _| f.tunnel_seq = Some(2)),
        ];
        assert_eq!(conditions(&healthy()), []);
        for (code, change) in changes {
            let mut facts = healthy();
            change(&mut facts, issuer.clone());
            let found = conditions(&facts);
            assert_eq!(found.iter().map(|one| one.code.as_str()).collect::<Vec<_>>(), [code]);
            // The text form and the JSON form are the same word.
            assert_eq!(serde_json::to_value(found[0].code).unwrap(), code);
        }
    }

    #[test]
    fn checks_ask_for_what_they_need() {
        use Check::{Live, Ready, Startup};
        let with = |code| vec![Condition { code, detail: String::new() }];
        for code in Code::ALL {
            let fails = |check: Check| check.failing(&with(code)).is_some();
            let (startup, ready) = match code {
                Code::NotEnrolled | Code::ConfigMissing => (true, true),
                Code::TunnelDown | Code::TunnelUnfilled | Code::TunnelStuck | Code::CrlMissing => {
                    (false, true)
                }
                _ => (false, false),
            };
            assert_eq!((fails(Live), fails(Startup), fails(Ready)), (false, startup, ready), "{code}");
        }
    }

    #[test]
    fn every_code_is_in_the_list_once() {
        let texts: std::collections::BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        let last = Code::ALL.iter().map(|code| *code as usize).max();
        assert_eq!(last, Some(Code::ALL.len() - 1), "a new code goes into the list");
    }

    #[test]
    fn every_code_is_in_the_readme() {
        let readme = include_str!("../../README.md");
        let rows: Vec<&str> =
            readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        for code in &codes {
            assert!(rows.contains(code), "{code} is not explained");
        }
        assert!(rows.iter().all(|row| codes.contains(row)), "{rows:?}");
    }

    #[test]
    fn lists_that_allow_are_no_condition() {
        let issuer: KeyId = "0a".parse().unwrap();
        let lists = vec![(issuer.clone(), CrlState::Fresh), (issuer, CrlState::Undated)];
        assert_eq!(conditions(&Facts { lists, ..healthy() }), []);
    }
}
