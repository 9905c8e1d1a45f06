//! How the box gets its certificates: EST (RFC 7030) for the operational one, a proof of possession for the
//! tunnel key's.

use crate::https::{Channel, HttpError, Request};
use crate::identity::{IdentityError, Keys, Operational};
use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::SignedData;
use der::{Decode as _, Encode as _};
use hyper::header;
use verona_contract::api::{
    Challenge, ChallengeRequest, EDGE_TUNNEL_KEY, EST_ENROLL, EST_REENROLL, POP_CHALLENGE, Proof,
    TunnelCertificate, TunnelKeyRequest,
};
use verona_contract::base64::{Octets, decode, encode};
use verona_contract::cert::Leaf;
use verona_contract::pop;
use verona_contract::provisioning::FactoryRecord;
use zeroize::Zeroizing;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolmentError {
    /// The center refused or is away.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Its answer, or our own key, is unusable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The request could not be made.
    #[error("certification request: {0}")]
    Request(String),
}

/// Enrols with the token of `record`, or by the key of the certificate that `channel` shows when there is no
/// token or its time is over.
///
/// # Errors
///
/// [`EnrolmentError`].
pub async fn enrol(
    channel: &mut Channel,
    record: &FactoryRecord,
    keys: &Keys,
) -> Result<Operational, EnrolmentError> {
    let by_key = est_request(EST_ENROLL, &record.serial, keys)?;
    let answer = match &record.token {
        None => channel.send(by_key).await?,
        Some(token) => {
            let mut by_token = by_key.clone();
            let token = Zeroizing::new(encode(token.expose()));
            let credentials = Zeroizing::new(format!("{}:{}", record.serial, *token));
            let basic = format!("Basic {}", encode(credentials.as_bytes()));
            by_token.headers.push((header::AUTHORIZATION, basic));
            match channel.send(by_token).await {
                // The center may know the key by now. If not, what it said to the token is what helps.
                Err(refused) if refused.is_unauthorised() => {
                    channel.send(by_key).await.map_err(|_| refused)?
                }
                answer => answer?,
            }
        }
    };
    Ok(Operational::new(certs_only(&answer.body)?, &keys.device_spki()?)?)
}

/// Renews the operational certificate, over a channel that shows the present one.
///
/// # Errors
///
/// [`EnrolmentError`].
pub async fn renew(channel: &mut Channel, serial: &str, keys: &Keys) -> Result<Operational, EnrolmentError> {
    let answer = channel.send(est_request(EST_REENROLL, serial, keys)?).await?;
    Ok(Operational::new(certs_only(&answer.body)?, &keys.device_spki()?)?)
}

fn est_request<'a>(path: &'a str, serial: &str, keys: &Keys) -> Result<Request<'a>, EnrolmentError> {
    let csr = keys.device.request(serial, None);
    let csr = csr.map_err(|error| EnrolmentError::Request(error.to_string()))?;
    let mut request = Request::post(path, "application/pkcs10", encode(csr).into_bytes());
    let encoding = header::HeaderName::from_static("content-transfer-encoding");
    request.headers.push((encoding, "base64".to_owned()));
    Ok(request)
}

/// The certificates of a certs-only PKCS#7 in base64, with line breaks or without (RFC 7030 §4.1.3).
fn certs_only(body: &[u8]) -> Result<Vec<Vec<u8>>, IdentityError> {
    let fail = |rule: &str| IdentityError::Certificate(rule.to_owned());
    let text: Vec<u8> = body.iter().copied().filter(|octet| !octet.is_ascii_whitespace()).collect();
    let text = String::from_utf8(text).map_err(|_| fail("answer is not base64"))?;
    let der = decode(&text).map_err(|_| fail("answer is not base64"))?;
    let content = ContentInfo::from_der(&der).map_err(|_| fail("answer is not PKCS#7"))?;
    let signed: SignedData = content.content.decode_as().map_err(|_| fail("answer is not PKCS#7"))?;
    let certificates = signed.certificates.ok_or_else(|| fail("answer holds no certificate"))?;
    let encoded = certificates.0.iter().filter_map(|choice| match choice {
        CertificateChoices::Certificate(certificate) => Some(certificate.to_der()),
        CertificateChoices::Other(_) => None,
    });
    encoded.collect::<Result<_, _>>().map_err(|_| fail("a certificate does not encode"))
}

/// Gets the certificate of the tunnel key: challenge and proof over one connection.
///
/// # Errors
///
/// [`EnrolmentError`].
pub async fn certify_tunnel_key(
    channel: &mut Channel,
    serial: &str,
    keys: &Keys,
) -> Result<TunnelCertificate, EnrolmentError> {
    let made = |error: &dyn std::fmt::Display| EnrolmentError::Request(error.to_string());
    let csr = keys.device.request(serial, Some(&keys.tunnel_public)).map_err(|error| made(&error))?;
    let challenge: Challenge = json(channel, POP_CHALLENGE, &ChallengeRequest {}).await?;
    let exporter = channel.exporter().await?;
    let proof =
        pop::prove(&keys.tunnel, &challenge.public_key, &exporter, &csr).map_err(|error| made(&error))?;
    let proof = Proof { challenge: challenge.id, proof: Octets(proof.to_vec()) };
    let request = TunnelKeyRequest { csr: Octets(csr), proof };
    let certificate: TunnelCertificate = json(channel, EDGE_TUNNEL_KEY, &request).await?;
    let leaf = Leaf::parse(certificate.certificate.as_ref())
        .map_err(|error| IdentityError::Certificate(error.to_string()))?;
    if leaf.key != keys.tunnel_public {
        return Err(IdentityError::Certificate("not over our tunnel key".into()).into());
    }
    Ok(certificate)
}

async fn json<T: serde::de::DeserializeOwned>(
    channel: &mut Channel,
    path: &str,
    body: &impl serde::Serialize,
) -> Result<T, EnrolmentError> {
    let body = serde_json::to_vec(body).map_err(|error| EnrolmentError::Request(error.to_string()))?;
    let answer = channel.send(Request::post(path, "application/json", body)).await?;
    serde_json::from_slice(&answer.body)
        .map_err(|error| HttpError::Exchange { path: path.to_owned(), source: error.into() }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_no_certificates() {
        for (body, rule) in [
            (&b"<html>"[..], "not base64"),
            (b"AAAA", "not PKCS#7"),
            (b"", "not PKCS#7"),
            (b"\xff", "not base64"),
        ] {
            let error = certs_only(body).unwrap_err().to_string();
            assert!(error.contains(rule), "{error}");
        }
    }
}
