//! HTTP/1.1 to the center, one connection for each activity.
//!
//! Each task that talks to the center has its own [`Channel`], so a slow log upload never stands before a
//! revocation list. What requests mean and when they are repeated is elsewhere.

use crate::endpoint::Endpoint;
use edge_agent_core::backoff::parse_retry_after;
use edge_agent_core::journal::quote;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, ClientConfig};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use verona_contract::problem::Problem;
use zeroize::Zeroizing;

/// For TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a request got no 2xx or 304.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection.
    #[error("connect to {authority}: {source}")]
    Connect {
        /// Host and port.
        authority: String,
        /// Of TCP or TLS.
        #[source]
        source: io::Error,
    },
    /// The connection broke, or the answer was no HTTP.
    #[error("{path}: {source}")]
    Exchange {
        /// The request's.
        path: String,
        /// What was wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{path}: no answer within {limit:?}")]
    Timeout {
        /// The request's.
        path: String,
        /// How long it was waited.
        limit: Duration,
    },
    /// The center answered with an error, or that there is nothing yet.
    #[error("{path}: {status}: {}", detail.as_deref().unwrap_or("no problem document"))]
    Status {
        /// The request's.
        path: String,
        /// 202, or neither 2xx nor 304.
        status: StatusCode,
        /// The problem document's detail; none = there was no such document, so perhaps it is not the center
        /// that answered.
        detail: Option<String>,
        /// How long to stay away.
        retry_after: Option<Duration>,
    },
}

impl HttpError {
    /// How long the center asked to stay away.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the center answered and the same request will never do: a 4xx that is about the content.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let Self::Status { status, .. } = self else { return false };
        // Not signed in (yet), not there yet, too slow, too early, too many: those may pass.
        status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 425 | 429)
    }

    /// Whether the center knows us and has nothing for us yet (RFC 7030 §4.2.3).
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        matches!(self, Self::Status { status: StatusCode::ACCEPTED, .. })
    }

    /// Whether the center does not accept who we say we are (RFC 9110 §15.5.2).
    #[must_use]
    pub fn is_unauthorised(&self) -> bool {
        matches!(self, Self::Status { status: StatusCode::UNAUTHORIZED, .. })
    }

    /// Whether the center does not accept who we say we are, or does not let us (any more).
    #[must_use]
    pub fn refuses_us(&self) -> bool {
        matches!(self, Self::Status { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. })
    }

    /// What the center has against the content of the request, if that is why it refused: not who asks, not
    /// where, not when. A proxy's answer does not count.
    #[must_use]
    pub fn about_content(&self) -> Option<&str> {
        match self {
            Self::Status { status, detail, .. } if matches!(status.as_u16(), 400 | 413 | 422) => {
                detail.as_deref()
            }
            _ => None,
        }
    }

    /// Whether somebody answered who is not the center: its certificate is not under the pinned CA, or not for this
    /// name and time, or it does not speak the TLS that the center speaks.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        let Self::Connect { source, .. } = self else { return false };
        source.get_ref().is_some_and(|inner| {
            matches!(
                inner.downcast_ref::<rustls::Error>(),
                Some(
                    rustls::Error::InvalidCertificate(_)
                        | rustls::Error::InvalidMessage(_)
                        | rustls::Error::PeerIncompatible(_)
                        | rustls::Error::AlertReceived(
                            AlertDescription::HandshakeFailure
                                | AlertDescription::ProtocolVersion
                                | AlertDescription::InsufficientSecurity
                        )
                )
            )
        })
    }

    /// Whether the center answered at all.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Status { status, .. } if !status.is_server_error())
    }
}

/// One request.
#[derive(Clone)]
pub struct Request<'a> {
    /// GET or POST.
    pub method: Method,
    /// From the root, such as `/v1/acks`.
    pub path: &'a str,
    /// Besides Host.
    pub headers: Vec<(header::HeaderName, String)>,
    /// Empty for GET.
    pub body: Bytes,
    /// How long until the whole answer must be there.
    pub limit: Duration,
    /// The longest answer accepted, in octets.
    pub max_answer: usize,
}

impl<'a> Request<'a> {
    /// A POST whose answer is short.
    #[must_use]
    pub fn post(path: &'a str, content_type: &str, body: Vec<u8>) -> Self {
        let headers = vec![(header::CONTENT_TYPE, content_type.to_owned())];
        let limit = Duration::from_secs(30);
        Self { method: Method::POST, path, headers, body: body.into(), limit, max_answer: 256 * 1024 }
    }
}

/// A 2xx or 304.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// As sent, with its quotes.
    pub etag: Option<String>,
    /// The whole body.
    pub body: Bytes,
}

/// One connection, made again when it is gone.
pub struct Channel {
    endpoint: Arc<Endpoint>,
    live: Option<Live>,
}

struct Live {
    sender: SendRequest<Full<Bytes>>,
    tls: Arc<ClientConfig>,
    exporter: Zeroizing<[u8; 32]>,
}

impl Channel {
    /// Connects at the first request.
    #[must_use]
    pub const fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, live: None }
    }

    /// The exporter of the connection that the next request uses ([`verona_contract::pop`]).
    ///
    /// # Errors
    ///
    /// [`HttpError::Connect`].
    pub async fn exporter(&mut self) -> Result<Zeroizing<[u8; 32]>, HttpError> {
        Ok(self.live().await?.exporter.clone())
    }

    /// Sends one request and reads the whole answer. A connection that had served before may have been closed
    /// by the center meanwhile, so its failure is no news: the request then goes over a new one. All requests
    /// of the agent may arrive twice.
    ///
    /// # Errors
    ///
    /// [`HttpError`], also for 202 and every status but 2xx and 304.
    pub async fn send(&mut self, request: Request<'_>) -> Result<Answer, HttpError> {
        let reused = self.live.is_some();
        match self.send_once(request.clone()).await {
            Err(HttpError::Exchange { .. }) if reused => self.send_once(request).await,
            answer => answer,
        }
    }

    async fn send_once(&mut self, request: Request<'_>) -> Result<Answer, HttpError> {
        let (path, limit) = (request.path.to_owned(), request.limit);
        let answer = match timeout(limit, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::Timeout { path, limit }),
        };
        if answer.as_ref().is_err_and(|error| !matches!(error, HttpError::Status { .. })) {
            self.live = None;
        }
        answer
    }

    async fn exchange(&mut self, request: Request<'_>) -> Result<Answer, HttpError> {
        let path = request.path.to_owned();
        let fail = |source| HttpError::Exchange { path: path.clone(), source };
        let mut builder = hyper::Request::builder()
            .method(request.method)
            .uri(request.path)
            .header(header::HOST, self.endpoint.authority())
            .header(header::USER_AGENT, concat!("edge-agent/", env!("CARGO_PKG_VERSION")));
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        let message = builder.body(Full::new(request.body)).map_err(|error| fail(error.into()))?;
        let sender = &mut self.live().await?.sender;
        let answer = sender.send_request(message).await.map_err(|error| fail(error.into()))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, request.max_answer).collect().await.map_err(fail)?.to_bytes();
        let field = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(unix_s) = field(header::DATE).and_then(parse_date) {
            self.endpoint.heard(unix_s);
        }
        let done = head.status.is_success() && head.status != StatusCode::ACCEPTED;
        if done || head.status == StatusCode::NOT_MODIFIED {
            let etag = field(header::ETAG).map(str::to_owned);
            return Ok(Answer { status: head.status, etag, body });
        }
        let problem = serde_json::from_slice::<Problem>(&body);
        let detail = problem.ok().map(|problem| quote(&problem.detail));
        let retry_after = field(header::RETRY_AFTER).and_then(parse_retry_after);
        Err(HttpError::Status { path, status: head.status, detail, retry_after })
    }

    async fn live(&mut self) -> Result<&mut Live, HttpError> {
        let tls = self.endpoint.tls();
        // After a renewal the old connection would go on with the old certificate.
        let usable = |live: &Live| Arc::ptr_eq(&live.tls, &tls) && !live.sender.is_closed();
        let live = match self.live.take().filter(usable) {
            Some(live) => live,
            None => self.connect(tls).await?,
        };
        Ok(self.live.insert(live))
    }

    async fn connect(&self, tls: Arc<ClientConfig>) -> Result<Live, HttpError> {
        let endpoint = &self.endpoint;
        let fail = |source| HttpError::Connect { authority: endpoint.authority().to_owned(), source };
        let stream = timeout(CONNECT_TIMEOUT, endpoint.connect(tls.clone())).await;
        let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(fail)?;
        let exporter = stream
            .get_ref()
            .1
            .export_keying_material([0; 32], verona_contract::pop::EXPORTER_LABEL, None)
            .map_err(|error| fail(io::Error::other(error)))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| fail(io::Error::other(error)))?;
        // Ends when the sender is dropped or the peer closes.
        tokio::spawn(connection);
        Ok(Live { sender, tls, exporter: Zeroizing::new(exporter) })
    }
}

/// `Date` in its one form that is still sent (RFC 9110 §5.6.7), Unix seconds.
fn parse_date(value: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(value).ok().map(|date| date.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_date("yesterday"), None);
    }
}
