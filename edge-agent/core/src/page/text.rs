//! Conditions in words for a technician.

use crate::condition::Code;
use crate::netcheck::Language;

impl Code {
    /// In a few words.
    #[must_use]
    pub const fn title(self, language: Language) -> &'static str {
        let (en, ja) = match self {
            Self::NotEnrolled => ("Not registered yet", "まだ登録されていません"),
            Self::CertificateExpired => ("The certificate has ended", "証明書の有効期限が切れています"),
            Self::CenterUnreachable => ("The center does not answer", "センターが応答しません"),
            Self::UplinkDown => ("A line does not carry", "回線がつながっていません"),
            Self::UplinkCaptive => ("The network wants a login", "回線の認証ページでログインが必要です"),
            Self::TunnelDown => ("The tunnel does not run", "トンネルが動作していません"),
            Self::ConfigMissing => ("There is no configuration yet", "設定がまだありません"),
            Self::ConfigRefused => ("The newest configuration was refused", "最新の設定を適用できません"),
            Self::ConfigReverted => ("The newest configuration was taken back", "最新の設定を元に戻しました"),
            Self::CrlMissing => ("A revocation list is missing", "失効リストがありません"),
            Self::CrlStale => ("A revocation list is old", "失効リストの期限が切れています"),
            Self::CrlRefused => ("A revocation list was refused", "失効リストを受け付けられません"),
            Self::ClockUnsynced => ("The clock is not trusted", "時刻が同期していません"),
            Self::TimeServersLost => ("Time servers tell no time", "時刻サーバーから時刻を取得できません"),
            Self::Spool80 => ("The log store is almost full", "ログの保存領域が残りわずかです"),
            Self::StorageFailed => ("The disk cannot be written", "ディスクに書き込めません"),
            Self::SpoolDamaged => ("A part of the log is damaged", "ログの一部が壊れています"),
            Self::LogRefused => ("The center refused log records", "センターがログの一部を拒否しました"),
            Self::SyslogUnreachable => ("The log collector is not reached", "ログの転送先に接続できません"),
            Self::CenterRefuses => ("The center does not accept this box", "センターが本機を受け付けません"),
            Self::TunnelUnfilled => {
                ("The tunnel has not taken the configuration", "トンネルに設定が反映されていません")
            }
            Self::TunnelStuck => ("The tunnel does not forward", "トンネルが転送していません"),
        };
        language.of(en, ja)
    }
}
