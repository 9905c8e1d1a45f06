//! The second form of a client: a certificate of the owner's own PKI, whose key vouches for our WireGuard key.
//!
//! The key signs where it is: in a file of the state directory, or behind PKCS#11. Nothing is imported that does
//! not fit together: certificate and key are tried out on a real binding first. When a binding is renewed is
//! `binder`'s business.

use crate::pkcs11::{TokenError, TokenKey};
use crate::state::{self, StateDir, StateError};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use edge_tunnel::{Introduction, PublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use verona_contract::base64::Octets;
use verona_contract::binding::{Binding, BindingError};
use verona_contract::cert::{IdentityLeaf, Issuer};
use zeroize::Zeroizing;

/// Largest PEM file that is imported, in octets.
const MAX_PEM: u64 = 64 * 1024;

/// Why an identity is not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// A file could not be read.
    #[error("reading {path} failed", path = path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A file does not hold what it should.
    #[error("{path}: {rule}", path = path.display())]
    File { path: PathBuf, rule: String },
    /// The stored identity is damaged.
    #[error("the imported identity is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    State(#[from] StateError),
    /// Not the certified key, or impossible dates.
    #[error("no binding with this certificate and key")]
    Binding(#[from] BindingError),
    /// aws-lc failed.
    #[error("signing with the key in the file failed")]
    Signing,
}

/// Where the signing key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum KeyPlace {
    /// `identity.key` in the state directory.
    File,
    /// The URI of [`TokenKey`].
    Pkcs11(String),
}

/// What the import left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Imported {
    /// The certificate, DER.
    pub(crate) certificate: Octets,
    /// The CA above it, where edges may not know it, DER.
    pub(crate) intermediate: Option<Octets>,
    /// Where the key is.
    pub(crate) key: KeyPlace,
}

impl Imported {
    /// Reads certificate (and its CA, if it follows in the file) and key, tries them out and stores them.
    ///
    /// # Errors
    ///
    /// [`ImportError`]; then nothing was stored.
    pub(crate) fn import(
        state: &StateDir,
        certificate: &Path,
        key: Result<&Path, &str>,
        bound: &PublicKey,
        now_s: i64,
    ) -> Result<Self, ImportError> {
        let (leaf, intermediate) = read_chain(certificate)?;
        let (key, pem) = match key {
            Ok(path) => (KeyPlace::File, Some(read_pem(path)?)),
            Err(uri) => (KeyPlace::Pkcs11(uri.to_owned()), None),
        };
        let imported = Self { certificate: leaf, intermediate, key };
        let binding = imported.binding(*bound, now_s, now_s + 60)?;
        let signer = imported.signer(pem.as_ref().map(|pem| pem.as_slice()))?;
        imported.sign(&binding, &signer)?;
        if let Some(pem) = pem {
            state.write(state::IDENTITY_KEY, &pem)?;
        }
        let json = serde_json::to_vec_pretty(&imported);
        state.write(state::IMPORTED, &json.map_err(|error| ImportError::Damaged(error.to_string()))?)?;
        Ok(imported)
    }

    /// Reads what [`Imported::import`] wrote; `None` when nothing was imported.
    ///
    /// # Errors
    ///
    /// [`ImportError`].
    pub(crate) fn load(state: &StateDir) -> Result<Option<Self>, ImportError> {
        let Some(json) = state.read(state::IMPORTED)? else { return Ok(None) };
        let imported: Self =
            serde_json::from_slice(&json).map_err(|error| ImportError::Damaged(error.to_string()))?;
        imported.leaf()?;
        Ok(Some(imported))
    }

    /// The certificate, read.
    pub(crate) fn leaf(&self) -> Result<IdentityLeaf, ImportError> {
        IdentityLeaf::parse(self.certificate.as_ref())
            .map_err(|error| ImportError::Damaged(error.to_string()))
    }

    /// What we show: certificates, and a binding of `key` for the given time (Unix seconds). Blocks for as long as
    /// the token takes.
    ///
    /// # Errors
    ///
    /// [`ImportError`].
    pub(crate) fn introduction(
        &self,
        state: &StateDir,
        key: PublicKey,
        (from, to): (i64, i64),
    ) -> Result<Introduction, ImportError> {
        let pem = match self.key {
            KeyPlace::File => state.read(state::IDENTITY_KEY)?,
            KeyPlace::Pkcs11(_) => None,
        };
        let signer = self.signer(pem.as_ref().map(|pem| pem.as_slice()))?;
        let binding = self.sign(&self.binding(key, from, to)?, &signer)?;
        Ok(Introduction {
            leaf: self.certificate.0.clone(),
            intermediate: self.intermediate.as_ref().map(|der| der.0.clone()),
            binding: Some(binding),
        })
    }

    fn binding(&self, key: PublicKey, from: i64, to: i64) -> Result<Binding, ImportError> {
        Ok(Binding::new(key, self.leaf()?.digest, from, to)?)
    }

    fn signer(&self, pem: Option<&[u8]>) -> Result<Signer, ImportError> {
        match (&self.key, pem) {
            (KeyPlace::Pkcs11(uri), _) => Ok(Signer::Token(uri.parse()?)),
            (KeyPlace::File, Some(pem)) => Signer::of_pem(pem),
            (KeyPlace::File, None) => {
                Err(ImportError::Damaged(format!("{} is missing", state::IDENTITY_KEY)))
            }
        }
    }

    /// Signs, and checks what came of it: a token's answer is believed no more than a file's.
    fn sign(&self, binding: &Binding, signer: &Signer) -> Result<Vec<u8>, ImportError> {
        let signed = binding.signed(&signer.sign(&binding.message())?);
        Binding::verify(&signed, &self.leaf()?)?;
        Ok(signed)
    }
}

/// What signs.
enum Signer {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Token(TokenKey),
}

impl Signer {
    fn of_pem(pem: &[u8]) -> Result<Self, ImportError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem)
            .map_err(|_| ImportError::Damaged("the key is not PKCS#8 in PEM".to_owned()))?;
        let der = der.secret_pkcs8_der();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map(Self::P256)
            .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self::Ed25519))
            .map_err(|_| ImportError::Damaged("the key is neither P-256 nor Ed25519".to_owned()))
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], ImportError> {
        let signature = match self {
            Self::Token(key) => return Ok(key.sign(message)?),
            Self::P256(key) => key.sign(&SystemRandom::new(), message).map_err(|_| ImportError::Signing)?,
            Self::Ed25519(key) => key.sign(message),
        };
        signature.as_ref().try_into().map_err(|_| ImportError::Signing)
    }
}

fn read_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, ImportError> {
    use std::io::Read as _;
    let fail = |source| ImportError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(fail)?;
    let mut octets = Zeroizing::new(Vec::with_capacity(MAX_PEM as usize + 1));
    file.take(MAX_PEM + 1).read_to_end(&mut octets).map_err(fail)?;
    if octets.len() as u64 > MAX_PEM {
        let rule = format!("longer than {MAX_PEM} octets");
        return Err(ImportError::File { path: path.to_owned(), rule });
    }
    Ok(octets)
}

fn read_chain(path: &Path) -> Result<(Octets, Option<Octets>), ImportError> {
    let fail = |rule: String| ImportError::File { path: path.to_owned(), rule };
    let pem = read_pem(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let mut chain = read.map_err(|error| fail(error.to_string()))?.into_iter();
    let leaf = chain.next().ok_or_else(|| fail("no certificate in PEM".to_owned()))?;
    IdentityLeaf::parse(&leaf).map_err(|error| fail(error.to_string()))?;
    let above = chain.next();
    if let Some(der) = &above {
        Issuer::parse(der).map_err(|error| fail(format!("second certificate: {error}")))?;
    }
    if chain.next().is_some() {
        return Err(fail("a certificate and at most one CA: edges know the others".to_owned()));
    }
    Ok((Octets(leaf.to_vec()), above.map(|der| Octets(der.to_vec()))))
}
