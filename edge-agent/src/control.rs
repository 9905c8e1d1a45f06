//! One connection to the control socket of `edge-tunnel`: requests and answers in order, events between them.
//!
//! When to connect and what to load belongs to [`crate::apply`] and [`crate::lists`].

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use verona_contract::control::{Command, Event, Line, MAX_LINE, Reply, Request, Response, VERSION};

/// Most events kept while an answer is awaited; beyond that they are dropped, as the contract allows.
const MAX_EVENTS: usize = 4096;

/// Why a call did not give what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No connection, or it broke.
    #[error("tunnel control socket {path}: {action}")]
    Connection {
        /// The socket.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The tunnel understood and said no.
    #[error("the tunnel refused: {0}")]
    Refused(String),
    /// The tunnel answered something else than the contract says.
    #[error("tunnel control socket {path}: {rule}")]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What was wrong.
        rule: String,
    },
}

/// A connection on which [`Command::Hello`] succeeded.
pub struct Connection {
    path: PathBuf,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    /// What was read of a line that is not complete. Kept here so that a cancelled read loses nothing.
    partial: Vec<u8>,
    events: VecDeque<Event>,
    last_id: u64,
    software: String,
}

impl Connection {
    /// Connects and agrees on the version.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn open(path: &Path) -> Result<Self, ControlError> {
        let stream = UnixStream::connect(path).await.map_err(|source| ControlError::Connection {
            path: path.to_owned(),
            action: "connect",
            source,
        })?;
        let (reader, writer) = stream.into_split();
        let mut connection = Self {
            path: path.to_owned(),
            reader: BufReader::new(reader),
            writer,
            partial: Vec::new(),
            events: VecDeque::new(),
            last_id: 0,
            software: String::new(),
        };
        match connection.call(Command::Hello { version: VERSION }).await? {
            Reply::Hello { software, .. } => connection.software = software,
            other => return Err(connection.unexpected(&other)),
        }
        Ok(connection)
    }

    /// The tunnel's package version.
    #[must_use]
    pub fn software(&self) -> &str {
        &self.software
    }

    /// Asks for something and waits for the answer. Not to be cancelled: the answer would be taken for that of
    /// the next call.
    ///
    /// # Errors
    ///
    /// [`ControlError`]; after anything but a refusal the connection is of no more use.
    pub async fn call(&mut self, command: Command) -> Result<Reply, ControlError> {
        self.last_id += 1;
        let request = Request { id: self.last_id, command };
        // Encoding and decoding of a long list take a moment; other tasks of the runtime go on meanwhile.
        let line = tokio::task::spawn_blocking(move || {
            // A policy line holds secrets: it is wiped when it was sent.
            let mut line = zeroize::Zeroizing::new(serde_json::to_vec(&request)?);
            line.push(b'\n');
            Ok::<_, serde_json::Error>(line)
        });
        let line = match line.await {
            Ok(Ok(line)) => line,
            Ok(Err(error)) => return Err(self.protocol(error.to_string())),
            Err(error) => return Err(self.protocol(error.to_string())),
        };
        self.writer.write_all(&line).await.map_err(|source| self.broken("write", source))?;
        loop {
            match self.line().await? {
                Line::Response(Response { id, result }) if id == self.last_id => {
                    return result.map_err(ControlError::Refused);
                }
                Line::Response(Response { id, result }) => {
                    let told = result.err().unwrap_or_default();
                    return Err(self.protocol(format!("answer to request {id} out of order {told}")));
                }
                Line::Event(event) if self.events.len() < MAX_EVENTS => self.events.push_back(event),
                Line::Event(_) => {}
            }
        }
    }

    /// The next event, after [`Command::Subscribe`]. May be cancelled.
    ///
    /// # Errors
    ///
    /// [`ControlError`] when the connection broke.
    pub async fn event(&mut self) -> Result<Event, ControlError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        match self.line().await? {
            Line::Event(event) => Ok(event),
            Line::Response(response) => Err(self.protocol(format!("unasked answer {}", response.id))),
        }
    }

    /// An answer of another kind than the question's.
    pub fn unexpected(&self, reply: &Reply) -> ControlError {
        let kind = match reply {
            Reply::Done => "done",
            Reply::Hello { .. } => "hello",
            Reply::PolicyLoaded(_) => "policy-loaded",
            Reply::CrlLoaded(_) => "crl-loaded",
            Reply::Floors(_) => "floors",
            Reply::Status(_) => "status",
            Reply::Peers(_) => "peers",
            Reply::Crls(_) => "crls",
        };
        self.protocol(format!("unexpected answer {kind}"))
    }

    async fn line(&mut self) -> Result<Line, ControlError> {
        loop {
            let buffer = self.reader.fill_buf().await;
            let buffer = match buffer {
                Ok([]) => {
                    let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(self.broken("read", source));
                }
                Ok(buffer) => buffer,
                Err(source) => return Err(self.broken("read", source)),
            };
            let end = buffer.iter().position(|octet| *octet == b'\n');
            let taken = end.map_or(buffer.len(), |end| end + 1);
            self.partial.extend_from_slice(&buffer[..taken]);
            self.reader.consume(taken);
            if self.partial.len() > MAX_LINE {
                return Err(self.protocol(format!("line longer than {MAX_LINE} octets")));
            }
            if end.is_some() {
                let line = std::mem::take(&mut self.partial);
                return serde_json::from_slice(&line)
                    .map_err(|error| self.protocol(format!("line does not read: {error}")));
            }
        }
    }

    fn broken(&self, action: &'static str, source: io::Error) -> ControlError {
        ControlError::Connection { path: self.path.clone(), action, source }
    }

    fn protocol(&self, rule: String) -> ControlError {
        ControlError::Protocol { path: self.path.clone(), rule }
    }
}

/// One question on a connection of its own: for status requests, which must not wait behind a policy.
///
/// # Errors
///
/// [`ControlError`].
pub async fn ask(path: &Path, command: Command) -> Result<Reply, ControlError> {
    Connection::open(path).await?.call(command).await
}
