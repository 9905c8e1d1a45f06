//! A P-256 key that never leaves its token: PKCS#11 (v2.40), named by a URI (RFC 7512).
//!
//! `pkcs11:token=LABEL;object=LABEL?module-path=FILE&pin-source=FILE`. The module is loaded and the token opened for
//! each signature and closed after it: there are two a day, and a token may be pulled out in between. The PIN is
//! in a file of its own, never in the URI, which is stored.

use aws_lc_rs::digest::{SHA256, digest};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use std::path::PathBuf;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Why the token does not sign: mostly for the user to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// The URI is not one that we take.
    #[error("PKCS#11 URI: {0}")]
    Uri(&'static str),
    /// The module said no.
    #[error("PKCS#11 token {token}: {doing} failed")]
    Module { token: String, doing: &'static str, source: cryptoki::error::Error },
    /// Not exactly one.
    #[error("PKCS#11: {found} tokens are called {token}, one is needed")]
    Token { token: String, found: usize },
    /// Not exactly one.
    #[error("PKCS#11 token {token}: {found} P-256 private keys are called {object}, one is needed")]
    Key { token: String, object: String, found: usize },
    /// The PIN's file.
    #[error("reading the PIN from {path} failed", path = path.display())]
    Pin { path: PathBuf, source: std::io::Error },
    /// Not a signature of P-256.
    #[error("PKCS#11 token {0}: the signature is not 64 octets long")]
    Signature(String),
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenKey {
    module: PathBuf,
    token: String,
    object: String,
    pin_source: Option<PathBuf>,
}

impl FromStr for TokenKey {
    type Err = TokenError;

    fn from_str(uri: &str) -> Result<Self, TokenError> {
        let rest = uri.strip_prefix("pkcs11:").ok_or(TokenError::Uri("it begins with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut token, mut object, mut module, mut pin_source) = (None, None, None, None);
        let attributes = path.split(';').chain(query.split('&')).filter(|attribute| !attribute.is_empty());
        for attribute in attributes {
            let (name, value) =
                attribute.split_once('=').ok_or(TokenError::Uri("attributes are name=value"))?;
            let value =
                percent_decoded(value).ok_or(TokenError::Uri("a value is not percent-encoded UTF-8"))?;
            let place = match name {
                "token" => &mut token,
                "object" => &mut object,
                "module-path" => &mut module,
                "pin-source" => &mut pin_source,
                "type" if value == "private" => continue,
                "pin-value" => return Err(TokenError::Uri("it is stored, so no pin-value: use pin-source")),
                _ => return Err(TokenError::Uri("only token, object, type, module-path and pin-source")),
            };
            if place.replace(value).is_some() {
                return Err(TokenError::Uri("an attribute occurs twice"));
            }
        }
        let file = |text: String| PathBuf::from(text.strip_prefix("file:").unwrap_or(&text));
        Ok(Self {
            module: module.map(file).ok_or(TokenError::Uri("module-path is missing"))?,
            token: token.ok_or(TokenError::Uri("token is missing"))?,
            object: object.ok_or(TokenError::Uri("object is missing"))?,
            pin_source: pin_source.map(file),
        })
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => {
                let digit = |octet: Option<u8>| char::from(octet?).to_digit(16);
                u8::try_from(digit(rest.next())? << 4 | digit(rest.next())?).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(octets).ok()
}

impl TokenKey {
    /// Signs `message`: ECDSA with SHA-256, r ‖ s. Blocks for as long as the token takes.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64], TokenError> {
        let context = Pkcs11::new(&self.module).map_err(self.failed("loading the module"))?;
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        context.initialize(arguments).map_err(self.failed("starting the module"))?;
        let session = self.open(&context)?;
        let template = [
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::EC),
            Attribute::Label(self.object.clone().into_bytes()),
        ];
        let keys = session.find_objects(&template).map_err(self.failed("finding the key"))?;
        let [key] = keys.as_slice() else {
            let (token, object) = (self.token.clone(), self.object.clone());
            return Err(TokenError::Key { token, object, found: keys.len() });
        };
        // Hashed here: every token knows the plain mechanism, not every one the one that hashes as well.
        let hash = digest(&SHA256, message);
        let signature =
            session.sign(&Mechanism::Ecdsa, *key, hash.as_ref()).map_err(self.failed("signing"))?;
        signature.try_into().map_err(|_| TokenError::Signature(self.token.clone()))
    }

    fn open(&self, context: &Pkcs11) -> Result<Session, TokenError> {
        let slots = context.get_slots_with_token().map_err(self.failed("listing the tokens"))?;
        let named = |slot: &_| context.get_token_info(*slot).is_ok_and(|info| info.label() == self.token);
        let slots: Vec<_> = slots.into_iter().filter(named).collect();
        let [slot] = slots.as_slice() else {
            return Err(TokenError::Token { token: self.token.clone(), found: slots.len() });
        };
        let session = context.open_ro_session(*slot).map_err(self.failed("opening it"))?;
        if let Some(path) = &self.pin_source {
            let read = std::fs::read_to_string(path).map(Zeroizing::new);
            let text = read.map_err(|source| TokenError::Pin { path: path.clone(), source })?;
            let pin = AuthPin::from(text.trim_end_matches(['\r', '\n']).to_owned());
            session.login(UserType::User, Some(&pin)).map_err(self.failed("logging in"))?;
        }
        Ok(session)
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(cryptoki::error::Error) -> TokenError {
        let token = self.token.clone();
        move |source| TokenError::Module { token, doing, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let uri = "pkcs11:token=My%20token;object=vpn;type=private?module-path=/usr/lib/m.so&pin-source=file:/etc/pin";
        let key: TokenKey = uri.parse().unwrap();
        assert_eq!((key.token.as_str(), key.object.as_str()), ("My token", "vpn"));
        assert_eq!((key.module, key.pin_source), ("/usr/lib/m.so".into(), Some("/etc/pin".into())));
        for (uri, rule) in [
            ("token=a", "begins with pkcs11:"),
            ("pkcs11:token=a;object=b", "module-path is missing"),
            ("pkcs11:object=b?module-path=/m", "token is missing"),
            ("pkcs11:token=a?module-path=/m", "object is missing"),
            ("pkcs11:token=a;token=b;object=c?module-path=/m", "occurs twice"),
            ("pkcs11:token=a;object=b?module-path=/m&pin-value=1234", "no pin-value"),
            ("pkcs11:token=a;object=b;slot-id=3?module-path=/m", "only token, object"),
            ("pkcs11:token=%zz;object=b?module-path=/m", "percent-encoded"),
            ("pkcs11:token=%f;object=b?module-path=/m", "percent-encoded"),
            ("pkcs11:token=%ff;object=b?module-path=/m", "percent-encoded"),
            ("pkcs11:token", "name=value"),
        ] {
            let error = uri.parse::<TokenKey>().unwrap_err().to_string();
            assert!(error.contains(rule) && !error.contains("1234"), "{uri}: {error}");
        }
    }
}
