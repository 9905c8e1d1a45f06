//! What `status` tells: to a program as JSON in UTC, to a person as lines in JST.

use jiff::Timestamp;
use jiff::tz::{TimeZone, offset};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use uuid::Uuid;
use verona_contract::ipnet::IpNet;

/// Whether there is a way into the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Not running.
    Down,
    /// Running, and no edge answers.
    Connecting,
    /// A handshake with an edge took place, and it answers.
    Connected,
    /// The center says that this client is disabled or revoked, and no edge answers.
    Disabled,
}

/// The whole state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) state: State,
    /// Our id.
    pub(crate) client: Uuid,
    /// Its URL.
    pub(crate) center: String,
    /// While it is up.
    pub(crate) interface: Option<String>,
    /// In the tunnel.
    pub(crate) addresses: Vec<IpNet>,
    /// When the certificates end.
    pub(crate) certificate_end: Timestamp,
    /// What a person should know.
    pub(crate) notice: Option<String>,
    /// In the order of preference.
    pub(crate) edges: Vec<EdgeStatus>,
}

/// One edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EdgeStatus {
    /// Its id.
    pub(crate) edge: Uuid,
    pub(crate) name: String,
    pub(crate) state: State,
    /// Where it is spoken to.
    pub(crate) endpoint: Option<SocketAddr>,
    /// The last that was confirmed.
    pub(crate) last_handshake: Option<Timestamp>,
    /// Octets received, WireGuard's headers included.
    pub(crate) rx_bytes: u64,
    /// Octets sent, likewise.
    pub(crate) tx_bytes: u64,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disabled => "disabled",
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "state        {}", self.state)?;
        if let Some(notice) = &self.notice {
            writeln!(f, "notice       {notice}")?;
        }
        writeln!(f, "client       {}", self.client)?;
        if !self.center.is_empty() {
            writeln!(f, "center       {}", self.center)?;
        }
        if let Some(interface) = &self.interface {
            let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
            writeln!(f, "interface    {interface}  {}", addresses.join(" "))?;
        }
        writeln!(f, "certificate  ends {}", jst(self.certificate_end))?;
        for edge in &self.edges {
            writeln!(f, "edge         {edge}")?;
        }
        Ok(())
    }
}

impl fmt::Display for EdgeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: String = self.name.chars().filter(|letter| !letter.is_control()).collect();
        write!(f, "{name} {}", self.state)?;
        if let Some(endpoint) = self.endpoint {
            write!(f, " at {endpoint}")?;
        }
        match self.last_handshake {
            Some(at) => write!(f, ", last handshake {}", jst(at))?,
            None => f.write_str(", no handshake yet")?,
        }
        write!(f, ", received {} octets, sent {}", self.rx_bytes, self.tx_bytes)
    }
}

/// As people in Japan write it. The offset is fixed: Japan has no summer time, and no zone data is needed.
pub(crate) fn jst(at: Timestamp) -> impl fmt::Display {
    at.to_zoned(TimeZone::fixed(offset(9))).strftime("%Y-%m-%d %H:%M:%S JST").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            state: State::Connected,
            client: Uuid::from_u128(1),
            center: "https://center.example".into(),
            interface: Some("verona0".into()),
            addresses: vec!["10.8.0.5/24".parse().unwrap()],
            certificate_end: Timestamp::from_second(1_800_000_000).unwrap(),
            notice: None,
            edges: vec![EdgeStatus {
                edge: Uuid::from_u128(2),
                name: "Tokyo\n1".into(),
                state: State::Connected,
                endpoint: Some("192.0.2.1:51820".parse().unwrap()),
                last_handshake: None,
                rx_bytes: 1,
                tx_bytes: 2,
            }],
        }
    }

    #[test]
    fn people_read_jst_and_programs_rfc_3339() {
        let text = status().to_string();
        assert!(text.contains("certificate  ends 2027-01-15 17:00:00 JST\n"), "{text}");
        assert!(
            text.contains("edge         Tokyo1 connected at 192.0.2.1:51820, no handshake yet"),
            "{text}"
        );
        let json = serde_json::to_value(status()).unwrap();
        assert_eq!(json["certificate_end"], "2027-01-15T08:00:00Z");
        assert_eq!(json["state"], "connected");
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status());
    }
}
