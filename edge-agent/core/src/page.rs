//! The technician's page: the state of the box on one screen, in Japanese and English, without a script.
//!
//! What is in it is chosen here: nothing that a guest of the local network should not know. Whoever asks, and from where,
//! is the shell's.

mod text;

use crate::condition::Condition;
use crate::netcheck::Language;
use std::fmt::Write as _;
use verona_contract::api::{Nat, UplinkFacts};

/// What the page shows. Times are civil, as text.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// On the box's label.
    pub serial: String,
    /// The agent's version, or the firmware's.
    pub version: String,
    /// What is wrong now.
    pub conditions: Vec<Condition>,
    /// Whether the box is enrolled.
    pub enrolled: bool,
    /// Whether the center answers.
    pub center_reachable: bool,
    /// The center's last answer.
    pub last_contact: Option<String>,
    /// The lines.
    pub uplinks: Vec<UplinkFacts>,
    /// Sessions alive; none = the data plane does not answer.
    pub sessions: Option<usize>,
    /// The tunnel's UDP port.
    pub tunnel_port: Option<u16>,
    /// Number of the configuration in force.
    pub config_seq: Option<u64>,
    /// What the clock shows, and whether it is believed.
    pub clock: (String, bool),
}

/// The style, a file of its own so that the page needs no exception for it.
pub const STYLE: &str = include_str!("page/style.css");

/// Seconds until a browser asks again.
const REFRESH: u32 = 10;

/// The language that a browser asks for (RFC 9110 §12.5.4): Japanese unless English comes first.
#[must_use]
pub fn language(query: Option<&str>, accept: Option<&str>) -> Language {
    let wanted =
        query.into_iter().flat_map(|query| query.split('&')).find_map(|part| part.strip_prefix("lang="));
    if let Some(wanted) = wanted {
        return if wanted == "en" { Language::En } else { Language::Ja };
    }
    let first = accept.unwrap_or_default().split(',').map(str::trim).find_map(|one| match one.get(..2) {
        Some("ja") => Some(Language::Ja),
        Some("en") => Some(Language::En),
        _ => None,
    });
    first.unwrap_or(Language::Ja)
}

/// The page.
#[must_use]
pub fn render(facts: &Facts, language: Language) -> String {
    let say = |en: &'static str, ja: &'static str| language.of(en, ja);
    let (code, other, other_name) = match language {
        Language::En => ("en", "ja", "日本語"),
        Language::Ja => ("ja", "en", "English"),
    };
    let mut page = String::new();
    let mut add = |text: &str| page.push_str(text);
    add(&format!(
        "<!DOCTYPE html>\n<html lang=\"{code}\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH}\">\
         <title>Verona Edge {serial}</title><link rel=\"stylesheet\" href=\"/style.css\"></head><body>\n\
         <header><h1>Verona Edge</h1><a href=\"/?lang={other}\" lang=\"{other}\">{other_name}</a></header>\n",
        serial = escape(&facts.serial),
    ));
    let (class, headline) = headline(facts, language);
    add(&format!("<p id=\"health\" class=\"health {class}\">{headline}</p>\n"));
    if !facts.conditions.is_empty() {
        add("<ul id=\"conditions\">");
        for condition in &facts.conditions {
            let (title, code) = (condition.code.title(language), condition.code);
            let detail = escape(&condition.detail);
            add(&format!("<li><b>{title}</b> <code>{code}</code><br><small>{detail}</small></li>"));
        }
        add("</ul>\n");
    }
    let unknown = say("unknown", "不明");
    let none = say("none", "なし");
    let mut table = Table::default();
    table.row("serial", say("Serial number", "シリアル番号"), &facts.serial);
    table.row("version", say("Version", "バージョン"), &facts.version);
    let center = match (facts.enrolled, facts.center_reachable) {
        (_, true) => say("connected", "接続済み"),
        (true, false) => say("no answer", "応答なし"),
        (false, false) => say("not registered yet", "未登録"),
    };
    table.row("center", say("Center", "センター"), center);
    let contact = facts.last_contact.as_deref().unwrap_or(none);
    table.row("contact", say("Last contact", "最終通信"), contact);
    let tunnel = match (facts.sessions, facts.tunnel_port) {
        (Some(sessions), Some(port)) => match language {
            Language::En => format!("running, {sessions} connected, UDP {port}"),
            Language::Ja => format!("動作中、接続 {sessions} 件、UDP {port}"),
        },
        _ => say("not running", "停止").to_owned(),
    };
    table.row("tunnel", say("Tunnel", "トンネル"), &tunnel);
    let config = facts.config_seq.map_or_else(|| none.to_owned(), |seq| seq.to_string());
    table.row("config", say("Configuration", "設定番号"), &config);
    let (clock, believed) = &facts.clock;
    let belief = if *believed { "" } else { say(" (not trusted)", "（未同期）") };
    table.row("clock", say("Clock", "時刻"), &format!("{clock}{belief}"));
    for uplink in &facts.uplinks {
        let name = format!("{} {}", say("Uplink", "回線"), uplink.name);
        table.row("uplink", &name, &line(uplink, language, unknown));
    }
    add(&table.0);
    add("</tbody></table>\n</body></html>\n");
    page
}

/// Green only when nothing is wrong: red when clients stay out, yellow otherwise.
fn headline(facts: &Facts, language: Language) -> (&'static str, &'static str) {
    if facts.conditions.is_empty() {
        return ("good", language.of("Everything works", "正常に動作しています"));
    }
    match crate::condition::Check::Ready.failing(&facts.conditions) {
        Some(_) => ("bad", language.of("Clients cannot connect", "クライアントは接続できません")),
        None => ("fair", language.of("Works, with trouble", "動作していますが、問題があります")),
    }
}

fn line(facts: &UplinkFacts, language: Language, unknown: &str) -> String {
    if let Some(said) = &facts.captive {
        return format!("{}: {said}", language.of("a portal wants a login", "認証ページが必要です"));
    }
    let known = |address: Option<std::net::IpAddr>| {
        address.map_or_else(|| unknown.to_owned(), |address| address.to_string())
    };
    let nat = match facts.nat {
        Some(Nat::None) => language.of("no NAT", "NATなし"),
        Some(Nat::EndpointIndependent) => language.of("NAT", "NAT"),
        Some(Nat::EndpointDependent) => language.of("NAT by destination", "宛先別NAT"),
        Some(Nat::UdpBlocked) => language.of("UDP is blocked", "UDP不通"),
        None => unknown,
    };
    let width = facts.path_mtu.map_or_else(|| unknown.to_owned(), |width| width.to_string());
    format!("{} → {}, {nat}, MTU {width}", known(facts.address), known(facts.public))
}

#[derive(Default)]
struct Table(String);

impl Table {
    fn row(&mut self, id: &str, name: &str, value: &str) {
        if self.0.is_empty() {
            self.0.push_str("<table><tbody>\n");
        }
        let (name, value) = (escape(name), escape(value));
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "<tr class=\"{id}\"><th>{name}</th><td>{value}</td></tr>");
    }
}

/// Text that is nothing but text in HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for one in text.chars() {
        match one {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            one if one.is_control() => out.push('\u{fffd}'),
            one => out.push(one),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Code;

    fn facts() -> Facts {
        Facts {
            serial: "VE-000001".into(),
            clock: ("2026-01-01 09:00:00 JST".into(), true),
            ..Facts::default()
        }
    }

    #[test]
    fn green_only_when_nothing_is_wrong() {
        let with = |code| Facts { conditions: vec![Condition { code, detail: "x".into() }], ..facts() };
        assert!(render(&facts(), Language::En).contains("health good"));
        assert!(render(&with(Code::Spool80), Language::En).contains("health fair"));
        assert!(render(&with(Code::TunnelDown), Language::Ja).contains("health bad"));
    }

    #[test]
    fn text_from_elsewhere_is_text() {
        let hostile = "<script>alert('1')</script>\u{1b}\"&";
        let uplinks = vec![UplinkFacts {
            captive: Some(hostile.into()),
            name: hostile.into(),
            ..UplinkFacts::default()
        }];
        let conditions = vec![Condition { code: Code::UplinkCaptive, detail: hostile.into() }];
        let page = render(&Facts { uplinks, conditions, serial: hostile.into(), ..facts() }, Language::Ja);
        assert!(!page.contains("<script") && !page.contains('\u{1b}'), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)"));
    }

    #[test]
    fn every_condition_has_words_in_both_languages() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let (en, ja) = (code.title(Language::En), code.title(Language::Ja));
            assert!(en.is_ascii() && !ja.is_ascii(), "{code}");
            assert!(seen.insert(en) && seen.insert(ja), "{code}");
        }
    }

    #[test]
    fn the_browser_chooses_and_the_link_overrules() {
        for (query, accept, wanted) in [
            (None, None, Language::Ja),
            (None, Some("en-US,en;q=0.9,ja;q=0.8"), Language::En),
            (None, Some("fr, ja;q=0.5"), Language::Ja),
            (Some("lang=ja"), Some("en"), Language::Ja),
            (Some("x=1&lang=en"), Some("ja"), Language::En),
            (Some("lang="), Some("en"), Language::Ja),
        ] {
            assert_eq!(language(query, accept), wanted, "{query:?} {accept:?}");
        }
    }
}
