//! The words of a report, in both languages.

use super::{Finding, Item, Language, Remedy, Verdict};

impl Item {
    /// In a few words.
    #[must_use]
    pub const fn title(self, language: Language) -> &'static str {
        let (en, ja) = match self {
            Self::Port => ("cable", "ケーブル"),
            Self::Address => ("address", "IPアドレス"),
            Self::Gateway => ("gateway", "ゲートウェイ"),
            Self::Names => ("DNS", "DNS"),
            Self::Portal => ("portal", "認証ページ"),
            Self::Time => ("time", "時刻"),
            Self::Center => ("center", "センター接続"),
            Self::Udp => ("UDP", "UDP"),
            Self::Nat => ("NAT", "NAT"),
            Self::PathMtu => ("path MTU", "経路MTU"),
            Self::Tunnel => ("tunnel", "トンネル"),
        };
        language.of(en, ja)
    }
}

impl Verdict {
    /// In one word.
    #[must_use]
    pub const fn word(self, language: Language) -> &'static str {
        let (en, ja) = match self {
            Self::Ok => ("OK", "正常"),
            Self::Warning => ("WARN", "注意"),
            Self::Failed => ("FAIL", "異常"),
            Self::Unknown => ("?", "不明"),
        };
        language.of(en, ja)
    }
}

impl Remedy {
    /// One sentence for who stands before the box.
    #[must_use]
    pub const fn text(self, language: Language) -> &'static str {
        let (en, ja) = match self {
            Self::WrongPort => (
                "The configuration names a port that this box does not have: tell the operator.",
                "設定にあるポートが本機にありません。運用担当へ連絡してください。",
            ),
            Self::PlugIn => (
                "Plug the cable in at both ends, and switch the provider's box on.",
                "ケーブルの両端を差し直し、回線終端装置の電源を確認してください。",
            ),
            Self::AskProviderForAddress => (
                "The provider gives no address: restart its box, or set the static address from its papers.",
                "回線からアドレスが割り当てられません。回線終端装置を再起動するか、固定アドレスの設定を確認してください。",
            ),
            Self::NoRoute => (
                "No router is known: restart the provider's box, or correct the gateway in the configuration.",
                "ゲートウェイがありません。回線終端装置を再起動するか、設定のゲートウェイを確認してください。",
            ),
            Self::RestartProvidersBox => (
                "The provider's router does not answer: restart it, then check that the cable is in the right port.",
                "ゲートウェイが応答しません。回線終端装置を再起動し、接続先のポートを確認してください。",
            ),
            Self::CheckNameServers => (
                "No name server answers: allow UDP and TCP 53, or set other servers in the configuration.",
                "DNSサーバーが応答しません。UDP/TCP 53番を許可するか、設定のDNSサーバーを変更してください。",
            ),
            Self::CheckCenterName => (
                "The center's name is unknown here: mend its address in the box, or the name server of the site.",
                "センターの名前を解決できません。本機のセンターアドレスか、拠点のDNSサーバーを確認してください。",
            ),
            Self::LogIn => (
                "Somebody must log in at the page of this network, or the line needs an exception for this box.",
                "このネットワークの認証ページでログインするか、本機を認証の対象外にしてください。",
            ),
            Self::OpenNtp => (
                "Allow UDP 123 to the time servers; until then the center sets the clock, if it is reached.",
                "時刻サーバーへのUDP 123番を許可してください。それまではセンターの時刻を使います。",
            ),
            Self::OpenHttps => (
                "The center does not answer: allow TCP to its address, without a proxy in between.",
                "センターが応答しません。センターへのTCP通信をプロキシなしで許可してください。",
            ),
            Self::AskVendor => (
                "The center does not accept this box: tell the operator its serial number.",
                "センターが本機を受け付けません。シリアル番号を運用担当へ連絡してください。",
            ),
            Self::TlsIntercepted => (
                "Something opens TLS on the way: exempt this box from inspection, and check the date of the box.",
                "途中の機器がTLSを復号しています。本機を検査の対象外にし、本機の日付も確認してください。",
            ),
            Self::OpenUdp => (
                "UDP does not come back: allow UDP out, and its answers, on the firewall of the site.",
                "UDPの応答が戻りません。拠点のファイアウォールでUDPの送信と応答を許可してください。",
            ),
            Self::ForwardPort => (
                "Clients find this box only if the router before it forwards the tunnel's UDP port to it.",
                "上位ルーターで、トンネルのUDPポートを本機へ転送する設定が必要です。",
            ),
            Self::CheckMtu => (
                "The line carries small packets only: check PPPoE and tunnels of the provider's box.",
                "回線の最大パケット長が小さすぎます。回線終端装置のPPPoEやトンネルの設定を確認してください。",
            ),
            Self::RestartBox => (
                "The data plane does not forward: restart the box, and send `edgectl support` if it stays so.",
                "転送処理が動いていません。本機を再起動し、直らなければ edgectl support の出力を送ってください。",
            ),
        };
        language.of(en, ja)
    }
}

impl Language {
    pub(crate) const fn of(self, en: &'static str, ja: &'static str) -> &'static str {
        match self {
            Self::En => en,
            Self::Ja => ja,
        }
    }
}

/// The whole report: a line for each finding, and below it what to do.
#[must_use]
pub fn report(findings: &[Finding], language: Language) -> String {
    let mut text = String::new();
    for finding in findings {
        let (word, title) = (finding.verdict.word(language), finding.item.title(language));
        let uplink = finding.uplink.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        let what: String = finding.what.chars().filter(|one| !one.is_control()).collect();
        text += &format!("{}{}{uplink}{what}\n", padded(word, 6), padded(title, 14));
        if let Some(remedy) = finding.remedy {
            text += &format!("{}→ {}\n", " ".repeat(6), remedy.text(language));
        }
    }
    text
}

/// Japanese letters take two columns.
fn padded(text: &str, width: usize) -> String {
    let columns: usize = text.chars().map(|one| if one.is_ascii() { 1 } else { 2 }).sum();
    format!("{text}{}", " ".repeat(width.saturating_sub(columns).max(1)))
}
