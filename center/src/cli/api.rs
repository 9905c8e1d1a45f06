//! Calls the center's HTTP API with an identity: TLS 1.3, the center's CA and no other.

use crate::identity::Identity;
use anyhow::{Context as _, anyhow, bail};
use reqwest::{Client, Method, Response, StatusCode};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use verona_contract::problem::Problem;
use zeroize::Zeroizing;

/// For one call. A check of all chains reads every record.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Where an admin's password is read from.
const PASSWORD: &str = "VERONA_PASSWORD";

/// A center as one identity calls it.
pub(super) struct Api {
    identity: Identity,
    client: Client,
    password: Option<Zeroizing<String>>,
}

impl Api {
    pub(super) fn new(identity: Identity) -> anyhow::Result<Self> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls(&identity)?)
            .https_only(true)
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .context("HTTPS client")?;
        let password = match &identity.login {
            None => None,
            Some(login) => Some(Zeroizing::new(
                std::env::var(PASSWORD)
                    .map_err(|_| anyhow!("{PASSWORD} must hold the password of {login}"))?,
            )),
        };
        Ok(Self { identity, client, password })
    }

    /// Whose calls these are.
    pub(super) const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.identity.center))
            .with_context(|| format!("center URL {}", self.identity.center))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.call(self.client.request(Method::GET, url)).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.identity.center);
        self.call(self.client.request(Method::POST, url).json(body)).await
    }

    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.identity.center);
        self.call(self.client.request(Method::DELETE, url)).await
    }

    async fn call<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> anyhow::Result<T> {
        let request = match (&self.identity.login, &self.password) {
            (Some(login), Some(password)) => request.basic_auth(login, Some(password.as_str())),
            _ => request,
        };
        let response = request
            .send()
            .await
            .with_context(|| format!("cannot reach the center at {}", self.identity.center))?;
        let status = response.status();
        if !status.is_success() {
            bail!(refusal(status, response).await);
        }
        response.json().await.context("the center's answer cannot be read")
    }
}

async fn refusal(status: StatusCode, response: Response) -> String {
    match response.json::<Problem>().await {
        Ok(problem) => problem.detail,
        Err(_) => format!("the center answered {status}"),
    }
}

fn tls(identity: &Identity) -> anyhow::Result<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(identity.center_ca.as_bytes())
        .map_err(|error| anyhow!("identity, center_ca: {error}"))?;
    roots.add(ca).context("identity, center_ca")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
        .map_err(|error| anyhow!("identity, key: {error}"))?;
    let chain = vec![CertificateDer::from(identity.certificate.0.clone())];
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("TLS")?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .context("identity, certificate")
}
