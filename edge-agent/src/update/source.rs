//! Where firmware comes from: the center, or any static web server.
//!
//! Neither is believed: what is fetched is checked against signed metadata ([`super::repository`]). A server must
//! answer range requests (RFC 9110 §14), so that a download goes on where it was cut.

use crate::https::{Channel, HttpError, Request};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::io;
use std::ops::Range;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use verona_contract::api::FIRMWARE;

/// For TCP.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// For one answer: a piece over 64 kbit/s.
const ANSWER_LIMIT: Duration = Duration::from_secs(300);

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The server does not have it.
    #[error("{0}: not in the repository")]
    Missing(String),
    /// The center.
    #[error(transparent)]
    Center(#[from] HttpError),
    /// A web server.
    #[error("{url}: {source}")]
    Web {
        /// What was asked for.
        url: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server sent all of it, or another part.
    #[error("{0}: the server does not answer range requests")]
    NoRanges(String),
}

type Exchanged = Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>>;

/// A connection to a repository.
pub enum Source {
    /// The center's.
    Center(Box<Channel>),
    /// A static web server's.
    Web(Web),
}

impl Source {
    /// Fetches a metadata file of at most `most` octets.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub async fn metadata(&mut self, name: &str, most: usize) -> Result<Bytes, SourceError> {
        let (status, body) = self.get(&format!("metadata/{name}"), None, most).await?;
        if status == StatusCode::OK { Ok(body) } else { Err(SourceError::Missing(name.to_owned())) }
    }

    /// Fetches octets of a target.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub async fn piece(&mut self, name: &str, range: Range<u64>) -> Result<Bytes, SourceError> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let field = format!("bytes={}-{}", range.start, range.end - 1);
        let (status, body) = self.get(&format!("targets/{name}"), Some(field), length).await?;
        if status == StatusCode::PARTIAL_CONTENT && body.len() == length {
            return Ok(body);
        }
        Err(SourceError::NoRanges(name.to_owned()))
    }

    async fn get(
        &mut self,
        path: &str,
        range: Option<String>,
        most: usize,
    ) -> Result<(StatusCode, Bytes), SourceError> {
        match self {
            Self::Center(channel) => {
                let full = format!("{FIRMWARE}{path}");
                let headers = range.into_iter().map(|range| (header::RANGE, range)).collect();
                let (method, body) = (Method::GET, Bytes::new());
                let request =
                    Request { method, path: &full, headers, body, limit: ANSWER_LIMIT, max_answer: most };
                match channel.send(request).await {
                    Ok(answer) => Ok((answer.status, answer.body)),
                    Err(HttpError::Status { status: StatusCode::NOT_FOUND, .. }) => {
                        Err(SourceError::Missing(path.to_owned()))
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Self::Web(web) => web.get(path, range, most).await,
        }
    }
}

/// A static web server, over plain HTTP: what comes is signed.
pub struct Web {
    authority: String,
    /// Ends with a slash.
    prefix: String,
    live: Option<SendRequest<Empty<Bytes>>>,
}

impl Web {
    /// `http://host[:port]/path`; connects at the first request.
    ///
    /// # Errors
    ///
    /// The URL is another.
    pub fn new(url: &str) -> Result<Self, SourceError> {
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| SourceError::Web {
            url: url.to_owned(),
            source,
        };
        let uri: hyper::Uri =
            url.parse().map_err(|error: hyper::http::uri::InvalidUri| fail(error.into()))?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(fail("must be http://host[:port]/path".into()));
        };
        let prefix = format!("{}/", uri.path().trim_end_matches('/'));
        Ok(Self { authority: authority.to_string(), prefix, live: None })
    }

    async fn get(
        &mut self,
        path: &str,
        range: Option<String>,
        most: usize,
    ) -> Result<(StatusCode, Bytes), SourceError> {
        let url = format!("http://{}{}{path}", self.authority, self.prefix);
        // A connection that served before may have been closed meanwhile: no news.
        let reused = self.live.is_some();
        let mut answer = self.in_time(path, range.clone(), most).await;
        if answer.is_err() && reused {
            answer = self.in_time(path, range, most).await;
        }
        let (status, body) = answer.map_err(|source| SourceError::Web { url: url.clone(), source })?;
        match status {
            status if status.is_success() => Ok((status, body)),
            StatusCode::NOT_FOUND => Err(SourceError::Missing(path.to_owned())),
            status => Err(SourceError::Web { url, source: format!("the server answered {status}").into() }),
        }
    }

    async fn in_time(&mut self, path: &str, range: Option<String>, most: usize) -> Exchanged {
        let answer = match timeout(ANSWER_LIMIT, self.exchange(path, range, most)).await {
            Ok(answer) => answer,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        };
        if answer.is_err() {
            self.live = None;
        }
        answer
    }

    async fn exchange(&mut self, path: &str, range: Option<String>, most: usize) -> Exchanged {
        let mut builder = hyper::Request::get(format!("{}{path}", self.prefix))
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("edge-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(range) = range {
            builder = builder.header(header::RANGE, range);
        }
        let request = builder.body(Empty::new())?;
        let sender = match self.live.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let sender = self.live.insert(sender);
        sender.ready().await?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, most).collect().await?.to_bytes();
        Ok((head.status, body))
    }

    async fn connect(&self) -> io::Result<SendRequest<Empty<Bytes>>> {
        let with_port = |authority: &str| {
            let ported = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            if ported { authority.to_owned() } else { format!("{authority}:80") }
        };
        let tcp = timeout(CONNECT_LIMIT, TcpStream::connect(with_port(&self.authority))).await;
        let tcp = tcp.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let (sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(io::Error::other)?;
        // Ends when the sender is dropped or the server closes.
        tokio::spawn(connection);
        Ok(sender)
    }
}
