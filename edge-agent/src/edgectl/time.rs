//! `edgectl time` for people: the clock in JST and UTC, whether it is believed, and who says what.

use super::table::{jst, jst_ns, printable, table, utc_ns};
use crate::local::TimeState;
use crate::time::ServerInfo;

pub(super) fn show(state: &TimeState) -> String {
    let TimeState { clock, servers, .. } = state;
    let belief = if clock.trusted { "trusted" } else { "not trusted" };
    let mut lines = vec![
        ("clock", jst_ns(clock.now_ns)),
        ("", utc_ns(clock.now_ns)),
        ("belief", format!("{belief}: {}", clock.reason)),
        ("floor", format!("{}: it is certainly later", jst(state.floor_s))),
    ];
    let center = state.center_s.map_or_else(
        || "not heard since the start".to_owned(),
        |center_s| format!("{}, {:+} s", jst(center_s), center_s - clock.now_ns.div_euclid(1_000_000_000)),
    );
    lines.push(("center", center));
    let source = match (servers.offset_ns, servers.servers.len()) {
        (_, 0) => "none".to_owned(),
        (Some(offset_ns), all) => {
            let agreeing = servers.servers.iter().filter(|server| server.agrees).count();
            format!("{agreeing} of {all} agree: {}", seconds(offset_ns))
        }
        (None, all) => format!("{all}"),
    };
    lines.push(("servers", source));
    lines.extend(servers.doubt.as_ref().map(|doubt| ("not taken", doubt.clone())));
    let setter = if servers.sets { "this agent" } else { "somebody else: --set-clock was not given" };
    lines.push(("set by", setter.to_owned()));
    if let Some(last) = &servers.last_set {
        let how = if last.step { "at once" } else { "gently" };
        let (by, source) = (seconds(last.by_ns), &last.source);
        lines.push(("last set", format!("{} by {by} {how}, by the {source}'s word", jst_ns(last.at_ns))));
    }
    lines.extend(servers.failure.as_ref().map(|failure| ("not set", failure.clone())));
    let head = lines
        .iter()
        .fold(String::new(), |text, (name, value)| text + &format!("{name:<12} {}\n", printable(value)));
    if servers.servers.is_empty() {
        return head;
    }
    let rows: Vec<Vec<String>> = servers.servers.iter().map(row).collect();
    head + "\n" + &table(&["SERVER", "ADDRESS", "STRATUM", "AHEAD BY", "DELAY", "AGREES", ""], &rows)
}

fn row(server: &ServerInfo) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        server.name.clone(),
        or_dash(server.address.map(|address| address.to_string())),
        or_dash(server.stratum.map(|stratum| stratum.to_string())),
        or_dash(server.offset_ns.map(seconds)),
        or_dash(server.delay_ns.map(|delay| format!("{:.1} ms", delay as f64 / 1e6))),
        if server.agrees { "yes" } else { "no" }.to_owned(),
        server.failure.clone().unwrap_or_default(),
    ]
}

/// Nanoseconds in a unit that reads.
fn seconds(ns: i64) -> String {
    if ns.unsigned_abs() < 1_000_000_000 {
        format!("{:+.3} ms", ns as f64 / 1e6)
    } else {
        format!("{:+.3} s", ns as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::ClockState;
    use crate::time::TimeInfo;

    #[test]
    fn the_clock_is_shown_in_japan_and_in_utc() {
        let clock =
            ClockState { trusted: false, reason: "nobody vouches".into(), now_ns: 1_767_225_600_000_000_000 };
        let server = ServerInfo {
            name: "ntp.example\u{1b}[2J".into(),
            address: Some([192, 0, 2, 1].into()),
            offset_ns: Some(-3_600_000_000_000),
            delay_ns: Some(1_500_000),
            stratum: Some(2),
            agrees: false,
            failure: None,
        };
        let servers =
            TimeInfo { servers: vec![server], doubt: Some("no majority".into()), ..TimeInfo::default() };
        let text = show(&TimeState { clock, floor_s: 0, center_s: Some(1_767_225_602), servers });
        for part in [
            "2026-01-01 09:00:00.000 JST",
            "2026-01-01 00:00:00.000 UTC",
            "not trusted: nobody vouches",
            "+2 s",
            "-3600.000 s",
            "no majority",
            "--set-clock was not given",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains('\u{1b}'));
    }
}
