//! A certificate authority made of the `openssl` command, in a temporary folder.

#![allow(clippy::unwrap_used, reason = "test code: a failure is the test's failure")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A CA with a P-256 key.
pub(crate) struct Authority {
    folder: TempDir,
    name: String,
    /// The CA certificate, DER.
    pub(crate) certificate: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let usual = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
                     subjectKeyIdentifier=hash\n";
        Self::with_extensions(name, usual)
    }

    /// A CA whose own certificate, valid for 30 days, has these extensions.
    pub(crate) fn with_extensions(name: &str, extensions: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let at = folder.path();
        run(at, "openssl ecparam -name prime256v1 -genkey -noout -out ca.key");
        fs::write(
            at.join("ca.cnf"),
            format!("[req]\ndistinguished_name=dn\nx509_extensions=ca\n[dn]\n[ca]\n{extensions}\n"),
        )
        .unwrap();
        run(
            at,
            &format!(
                "openssl req -x509 -new -key ca.key -config ca.cnf -subj /CN={name} -days 30 -out ca.pem"
            ),
        );
        run(at, "openssl x509 -in ca.pem -outform DER -out ca.der");
        run(at, "openssl genpkey -algorithm X25519 -out leaf.key");
        run(at, "openssl pkey -in leaf.key -pubout -out leaf.pub");
        let certificate = fs::read(at.join("ca.der")).unwrap();
        Self { folder, name: name.to_owned(), certificate }
    }

    /// A leaf over an X25519 key, with `extensions` in openssl's configuration syntax.
    pub(crate) fn leaf(&self, extensions: &str) -> Vec<u8> {
        self.leaf_over(&fs::read_to_string(self.folder.path().join("leaf.pub")).unwrap(), extensions)
    }

    /// The same over any public key in PEM.
    pub(crate) fn leaf_over(&self, public_pem: &str, extensions: &str) -> Vec<u8> {
        self.issue(public_pem, "client", extensions, 7)
    }

    /// The same for another life than a week.
    pub(crate) fn leaf_for_days(&self, public_pem: &str, extensions: &str, days: u32) -> Vec<u8> {
        self.issue(public_pem, "client", extensions, days)
    }

    /// Signs another CA's key and name with these extensions.
    pub(crate) fn certify(&self, other: &Self, extensions: &str) -> Vec<u8> {
        self.issue(&other.public_pem(), &other.name, extensions, 20)
    }

    fn issue(&self, public_pem: &str, name: &str, extensions: &str, days: u32) -> Vec<u8> {
        let at = self.folder.path();
        fs::write(at.join("subject.pub"), public_pem).unwrap();
        fs::write(at.join("leaf.cnf"), format!("[leaf]\n{extensions}\n")).unwrap();
        run(
            at,
            &format!(
                "openssl x509 -new -force_pubkey subject.pub -subj /CN={name} -CA ca.pem -CAkey ca.key \
                 -days {days} -extfile leaf.cnf -extensions leaf -outform DER -out leaf.der"
            ),
        );
        fs::read(at.join("leaf.der")).unwrap()
    }

    /// The CA's own public key in PEM: a key that is not X25519.
    pub(crate) fn public_pem(&self) -> String {
        run(self.folder.path(), "openssl pkey -in ca.key -pubout -out ca.pub");
        fs::read_to_string(self.folder.path().join("ca.pub")).unwrap()
    }

    /// The public key in PEM of what `command` makes, as `encode` writes it.
    pub(crate) fn other_public_pem(&self, command: &str, encode: &str) -> String {
        let at = self.folder.path();
        run(at, &format!("{command} -out other.key"));
        run(at, &format!("{encode} -in other.key -out other.pub"));
        fs::read_to_string(at.join("other.pub")).unwrap()
    }

    /// A list of `number` with `serials` (hex, and openssl's word for a reason behind a comma) and further
    /// extensions.
    pub(crate) fn crl(&self, number: u64, serials: &[&str], extensions: &str) -> Vec<u8> {
        let at = self.folder.path();
        let entry = |serial: &&str| {
            let (serial, reason) = serial.split_at(serial.find(',').unwrap_or(serial.len()));
            format!("R\t301231235959Z\t260101000000Z{reason}\t{serial}\tunknown\t/CN=client\n")
        };
        fs::write(at.join("index.txt"), serials.iter().map(entry).collect::<String>()).unwrap();
        fs::write(at.join("index.txt.attr"), "unique_subject = no\n").unwrap();
        fs::write(at.join("number"), format!("{number:04x}\n")).unwrap();
        fs::write(
            at.join("crl.cnf"),
            format!(
                "[ca]\ndefault_ca=this\n[this]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\n\
                 default_crl_days=1\ncrl_extensions=ext\n[ext]\nauthorityKeyIdentifier=keyid\n{extensions}"
            ),
        )
        .unwrap();
        run(at, "openssl ca -gencrl -config crl.cnf -cert ca.pem -keyfile ca.key -out crl.pem");
        run(at, "openssl crl -in crl.pem -outform DER -out crl.der");
        fs::read(at.join("crl.der")).unwrap()
    }
}

/// A `SubjectPublicKeyInfo` in PEM over any 32 octets, good or bad.
pub(crate) fn x25519_public_pem(key: &[u8; 32]) -> String {
    let der = [verona_contract::cert::X25519_SPKI_PREFIX.as_slice(), key].concat();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        verona_contract::base64::encode(der)
    )
}

fn run(folder: &Path, command: &str) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}
