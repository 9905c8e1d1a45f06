//! The web tier's side of the signer's socket.

use super::protocol::{Answer, CrlEntry, IssuedCrl, MAX_LINE, OwnerCas, Reply, Request};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use uuid::Uuid;
use verona_contract::base64::Octets;
use verona_contract::config::OwnerCode;
use verona_contract::dsse::Envelope;
use verona_contract::ipnet::IpNet;
use verona_contract::key::KeyId;
use zeroize::{Zeroize as _, Zeroizing};

/// How long the signer may take; a list of a million entries takes about a second.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why the signer gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignerError {
    /// Not there, gone, or too slow.
    #[error("signer at {path} cannot be reached")]
    Away {
        /// Its socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It refused, and says why.
    #[error("signer refused: {0}")]
    Refused(String),
    /// It answered something else than was asked.
    #[error("signer answered with something else than was asked")]
    Protocol,
}

/// Where the signer is. Each request has a connection of its own, so none waits behind another's body.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    path: PathBuf,
}

impl Signer {
    /// The signer at a socket.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The CAs of an owner, made where there are none.
    ///
    /// # Errors
    ///
    /// [`SignerError`].
    pub(crate) async fn create_owner(
        &self,
        owner: OwnerCode,
        network: IpNet,
    ) -> Result<OwnerCas, SignerError> {
        match self.ask(&Request::CreateOwner { owner, network }).await? {
            Reply::Owner(cas) => Ok(cas),
            _ => Err(SignerError::Protocol),
        }
    }

    /// Binds an edge to its owner.
    ///
    /// # Errors
    ///
    /// [`SignerError`].
    pub(crate) async fn register_edge(&self, edge: Uuid, owner: OwnerCode) -> Result<(), SignerError> {
        match self.ask(&Request::RegisterEdge { edge, owner }).await? {
            Reply::Done => Ok(()),
            _ => Err(SignerError::Protocol),
        }
    }

    /// A tunnel leaf, DER.
    ///
    /// # Errors
    ///
    /// [`SignerError`].
    pub(crate) async fn tunnel_leaf(
        &self,
        issuer: KeyId,
        subject: Uuid,
        csr: &[u8],
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<u8>, SignerError> {
        let csr = Octets(csr.to_vec());
        self.certificate(&Request::TunnelLeaf { issuer, subject, csr, addresses }).await
    }

    /// A device leaf, DER.
    ///
    /// # Errors
    ///
    /// [`SignerError`].
    pub(crate) async fn device_leaf(
        &self,
        issuer: KeyId,
        subject: Uuid,
        csr: &[u8],
    ) -> Result<Vec<u8>, SignerError> {
        self.certificate(&Request::DeviceLeaf { issuer, subject, csr: Octets(csr.to_vec()) }).await
    }

    /// The center's server leaf, DER.
    ///
    /// # Errors
    ///
    /// [`SignerError`].
    pub(crate) async fn server_leaf(&self, csr: Vec<u8>) -> Result<Vec<u8>, SignerError> {
        self.certificate(&Request::ServerLeaf { csr: Octets(csr) }).await
    }

    /// The next list of an issuer.
    ///
    /// # Errors
    ///
    /// [`SignerError`].
    pub(crate) async fn crl(&self, issuer: KeyId, entries: Vec<CrlEntry>) -> Result<IssuedCrl, SignerError> {
        match self.ask(&Request::Crl { issuer, entries }).await? {
            Reply::Crl(list) => Ok(list),
            _ => Err(SignerError::Protocol),
        }
    }

    /// A signed configuration.
    ///
    /// # Errors
    ///
    /// [`SignerError`].
    pub(crate) async fn bundle(&self, mut payload: Zeroizing<Vec<u8>>) -> Result<Envelope, SignerError> {
        let mut request = Request::Bundle { payload: Octets(std::mem::take(&mut *payload)) };
        let reply = self.ask(&request).await;
        if let Request::Bundle { payload } = &mut request {
            payload.0.zeroize();
        }
        match reply? {
            Reply::Bundle(envelope) => Ok(envelope),
            _ => Err(SignerError::Protocol),
        }
    }

    async fn certificate(&self, request: &Request) -> Result<Vec<u8>, SignerError> {
        match self.ask(request).await? {
            Reply::Certificate(der) => Ok(der.0),
            _ => Err(SignerError::Protocol),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Reply, SignerError> {
        let away = |source| SignerError::Away { path: self.path.clone(), source };
        let line = tokio::time::timeout(TIMEOUT, self.exchange(request))
            .await
            .map_err(|_| away(io::ErrorKind::TimedOut.into()))?
            .map_err(away)?;
        let answer: Answer = serde_json::from_slice(&line).map_err(|_| SignerError::Protocol)?;
        answer.map_err(SignerError::Refused)
    }

    async fn exchange(&self, request: &Request) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut stream = UnixStream::connect(&self.path).await?;
        // It may hold an owner's PSK root.
        let mut line = Zeroizing::new(serde_json::to_vec(request)?);
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = Zeroizing::new(Vec::new());
        let mut reader = BufReader::new(&mut stream).take(MAX_LINE);
        if reader.read_until(b'\n', &mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer)
    }
}
