//! Where records go besides the center: a customer's own collector (SIEM), by syslog (RFC 5424) over TLS (RFC 5425).

use super::ConfigError;
use crate::base64::Octets;
use crate::log::Stream;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Most CA certificates of a collector.
const MAX_CA: usize = 8;

/// The part of the configuration about logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogsConfig {
    /// The customer's collector; none = there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog: Option<SyslogConfig>,
}

/// A collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogConfig {
    /// Its name or address, which its certificate must have.
    pub host: String,
    /// Its TCP port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Who may have issued its certificate, DER, 1 to 8. Public CAs are not trusted.
    pub ca: Vec<Octets>,
    /// What it gets, at least one.
    #[serde(default = "all")]
    pub streams: Vec<Stream>,
}

/// IANA's port of syslog over TLS.
const fn default_port() -> u16 {
    6514
}

fn all() -> Vec<Stream> {
    Stream::ALL.to_vec()
}

impl LogsConfig {
    /// Whether nothing is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.syslog.is_none()
    }

    /// What cannot be.
    ///
    /// # Errors
    ///
    /// The first field that breaks a rule.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Some(syslog) = &self.syslog else { return Ok(()) };
        let fail = |path: &str, rule: &str| {
            Err(ConfigError { path: format!("logs.syslog.{path}"), rule: rule.to_owned() })
        };
        if !is_host(&syslog.host) {
            return fail("host", "a name of 1 to 253 characters, or an address");
        }
        if syslog.port == 0 {
            return fail("port", "1 to 65535");
        }
        if !(1..=MAX_CA).contains(&syslog.ca.len()) {
            return fail("ca", "1 to 8 certificates");
        }
        for (index, certificate) in syslog.ca.iter().enumerate() {
            if !X509Certificate::from_der(&certificate.0).is_ok_and(|(rest, _)| rest.is_empty()) {
                return fail(&format!("ca[{index}]"), "a certificate in DER");
            }
        }
        if syslog.streams.is_empty() {
            return fail("streams", "at least one of flow, system, auth, audit");
        }
        Ok(())
    }
}

/// Labels of RFC 1123.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        for good in ["siem", "siem.example.com", "192.0.2.1", "2001:db8::1", "a-b.c1"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a-", "a b", "siem.example.com:6514", "[2001:db8::1]", "siem/x"] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_names_its_field() {
        let syslog = |host: &str, port, ca: &[u8]| SyslogConfig {
            host: host.to_owned(),
            port,
            ca: vec![Octets(ca.to_vec())],
            streams: all(),
        };
        let path = |syslog| LogsConfig { syslog: Some(syslog) }.check().unwrap_err().path;
        assert_eq!(path(syslog("a b", 1, b"")), "logs.syslog.host");
        assert_eq!(path(syslog("a", 0, b"")), "logs.syslog.port");
        assert_eq!(path(SyslogConfig { ca: Vec::new(), ..syslog("a", 1, b"") }), "logs.syslog.ca");
        assert_eq!(path(syslog("a", 1, b"none")), "logs.syslog.ca[0]");
        assert_eq!(LogsConfig::default().check(), Ok(()));
    }
}
