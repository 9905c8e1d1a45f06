//! `verona-center init`: the keys of a new center, its directories, and the operator's identity.

use crate::clock;
use crate::db::Db;
use crate::db::certificates::{self, Use};
use crate::db::issuers;
use crate::enrolment::stored;
use crate::entropy;
use crate::identity::Identity;
use crate::private_file;
use crate::signer::protocol::{Reply, Request};
use crate::signer::service::{Lives, Service};
use crate::signer::state::{IssuerKind, State};
use anyhow::{Context as _, anyhow, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;
use uuid::Uuid;
use verona_contract::base64::Octets;
use verona_contract::csr::DeviceKey;
use verona_contract::dsse::VerifyingKey;
use x509_cert::der::pem::{LineEnding, encode_string};
use zeroize::Zeroizing;

/// What the serving process knows of itself, in `DIR/web/center.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// `https://host[:port]`.
    pub(crate) url: String,
}

/// What `init` tells.
#[derive(Debug, Serialize)]
pub(crate) struct Made {
    /// SHA-256 of the center CA's `SubjectPublicKeyInfo`, hex.
    pub(crate) pin: String,
    /// Who signs configurations.
    pub(crate) config_key: VerifyingKey,
    /// The operator's identity file.
    pub(crate) identity: std::path::PathBuf,
}

/// Makes a center in `data`.
///
/// # Errors
///
/// When the directory holds one already, or the file system refuses.
pub(crate) async fn init(data: &Path, url: &str) -> anyhow::Result<Made> {
    let host = host_of(url)?;
    let (web, signer) = (data.join("web"), data.join("signer"));
    ensure!(!signer.join("signer.db").exists(), "{} holds a center already", data.display());
    private_file::directory(data)?;
    private_file::directory(&web)?;
    let state = State::create(&signer, host, clock::now_s())?;
    let service = Service::new(state, Lives::default());
    let center_ca = own_ca(&service, IssuerKind::Center)?;
    let operator_ca = own_ca(&service, IssuerKind::Operator)?;

    let settings = serde_json::to_vec_pretty(&Settings { url: url.to_owned() })?;
    private_file::create(&web.join("center.json"), &settings)?;
    private_file::create(&web.join("ca.der"), &center_ca.der)?;
    let tls = new_key()?;
    let leaf =
        certificate(service.answer(Request::ServerLeaf { csr: Octets(tls.request("center", None)?) }))?;
    private_file::create(&web.join("tls.pem"), tls.to_pem()?.as_bytes())?;
    private_file::create(&web.join("tls.der"), &leaf)?;

    let id = Uuid::from_bytes(entropy::octets::<16>()?);
    let key = new_key()?;
    let reply = service.operator_leaf(id, &Octets(key.request("operator", None)?))?;
    let operator = certificate(Ok(reply))?;
    let row = stored(&operator_ca.key_id, id, Use::Device, &operator)
        .map_err(|_| anyhow!("the operator's certificate cannot be read back"))?;
    let db = Db::open(&web.join("center.db"))?;
    db.write(move |transaction| {
        issuers::insert(transaction, &operator_ca.key_id, None, IssuerKind::Operator, &operator_ca.der)?;
        certificates::insert(transaction, &row)
    })
    .await?;

    let config_key = service.state().config_verifying_key();
    let identity = Identity {
        center: url.to_owned(),
        center_ca: pem(&center_ca.der)?,
        config_keys: vec![config_key],
        login: None,
        key: Zeroizing::new(key.to_pem()?.to_string()),
        certificate: Octets(operator),
    };
    let path = data.join("operator.json");
    identity.create(&path)?;
    Ok(Made { pin: verona_contract::csr::fingerprint(&center_ca.spki), config_key, identity: path })
}

fn own_ca(service: &Service, kind: IssuerKind) -> anyhow::Result<verona_contract::cert::Issuer> {
    let own = service.state().issuers_of(None)?;
    let found = own.into_iter().find(|issuer| issuer.kind == kind).map(|issuer| issuer.issuer);
    found.with_context(|| format!("the signer has no {} CA", kind.as_str()))
}

fn certificate(answer: Result<Reply, String>) -> anyhow::Result<Vec<u8>> {
    match answer {
        Ok(Reply::Certificate(der)) => Ok(der.0),
        Ok(_) => Err(anyhow!("the signer answered something else than was asked")),
        Err(detail) => Err(anyhow!("signer: {detail}")),
    }
}

/// A new P-256 key.
///
/// # Errors
///
/// When there is no randomness.
pub(crate) fn new_key() -> anyhow::Result<DeviceKey> {
    loop {
        let seed = Zeroizing::new(entropy::octets::<32>()?);
        // Drawn again once in 2^32.
        if let Ok(key) = DeviceKey::from_entropy(&seed) {
            return Ok(key);
        }
    }
}

fn pem(der: &[u8]) -> anyhow::Result<String> {
    encode_string("CERTIFICATE", LineEnding::LF, der).map_err(|error| anyhow!("PEM: {error}"))
}

/// The host of `https://host[:port]`.
fn host_of(url: &str) -> anyhow::Result<&str> {
    let rule = "--url must be https://host[:port] without a path";
    let authority = url.strip_prefix("https://").context(rule)?;
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let host_fits = host.parse::<std::net::IpAddr>().is_ok()
        || ((1..=253).contains(&host.len())
            && host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b".-".contains(&octet)));
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    ensure!(host_fits && port_fits && url.len() <= 255, "{rule}: {url}");
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_table() {
        for (url, host) in [
            ("https://center.example:8443", Some("center.example")),
            ("https://192.0.2.1", Some("192.0.2.1")),
            ("https://[2001:db8::1]:8443", Some("2001:db8::1")),
            ("http://center.example", None),
            ("https://center.example/", None),
            ("https://center.example:0", None),
            ("https://", None),
        ] {
            assert_eq!(host_of(url).ok(), host, "{url}");
        }
    }
}
