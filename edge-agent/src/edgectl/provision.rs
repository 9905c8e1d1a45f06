//! The factory record of a box that nobody flashed: a virtual machine gets it from its cloud, as user data.
//!
//! Either from a file (the seed of cloud-init's NoCloud) or from a metadata service as EC2 has it, version 2 with its
//! session token and version 1 where there is no other. Only what is a factory record by every rule of the contract is
//! kept, and never in place of another one. Used at the first start of the software edition; a box of hardware must not
//! believe whoever answers on its line.

use crate::store::{self, StoreError};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use verona_contract::provisioning::{FactoryRecord, RecordError};
use zeroize::Zeroizing;

/// Where EC2 and those like it answer.
pub(super) const METADATA: &str = "169.254.169.254:80";

/// The longest user data, as EC2 has it, with the answer's head.
const MAX_ANSWER: usize = 20 * 1024;

/// For each step of an exchange.
const STEP: Duration = Duration::from_secs(3);
/// For a whole exchange, however slowly it drips.
const WHOLE: Duration = Duration::from_secs(10);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is none.
    #[error("user data of {origin}")]
    Record {
        /// Whose.
        origin: String,
        /// The rule.
        #[source]
        source: RecordError,
    },
    /// The service does not answer, or not so.
    #[error("metadata service {address}: {doing}")]
    Service {
        /// Its address.
        address: SocketAddr,
        /// What was asked, or what was wrong.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Takes the record in the file `seed`, unless there is one.
pub(super) fn from_file(seed: &Path, record: &Path) -> Result<String, ProvisionError> {
    let Some(json) = store::read(seed, MAX_ANSWER)?.map(Zeroizing::new) else {
        return Ok(format!("no user data {}", seed.display()));
    };
    keep(&json, &seed.display().to_string(), record)
}

/// Takes the record that the service at `address` has, however long it takes to have one.
pub(super) fn from_service(address: SocketAddr, record: &Path) -> Result<String, ProvisionError> {
    let mut told = String::new();
    loop {
        let failure = match user_data(address) {
            Ok(json) => match keep(&json, &address.to_string(), record) {
                // The user data may be mended while the machine runs.
                Err(failure @ ProvisionError::Record { .. }) => failure,
                kept => return kept,
            },
            Err(failure) => failure,
        };
        let line = crate::center::chain(&failure);
        if line != told {
            eprintln!("edgectl: no factory record yet: {line}");
            told = line;
        }
        std::thread::sleep(PAUSE);
    }
}

fn keep(json: &[u8], origin: &str, record: &Path) -> Result<String, ProvisionError> {
    if record.exists() {
        return Ok(format!("{} is there already", record.display()));
    }
    let parsed = FactoryRecord::parse(json)
        .map_err(|source| ProvisionError::Record { origin: origin.to_owned(), source })?;
    store::replace(record, json)?;
    Ok(format!("factory record of {} from {origin}", parsed.serial))
}

/// The user data, by a session where the service knows such.
fn user_data(address: SocketAddr) -> Result<Zeroizing<Vec<u8>>, ProvisionError> {
    let token = exchange(
        address,
        "PUT /latest/api/token",
        "asking for a session",
        "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n",
    )?;
    let session = match token.status {
        200 => {
            let token = String::from_utf8_lossy(&token.body).trim().to_owned();
            if token.contains(|one: char| !one.is_ascii_graphic()) {
                return Err(malformed(address));
            }
            format!("X-aws-ec2-metadata-token: {token}\r\n")
        }
        _ => String::new(),
    };
    let answer = exchange(address, "GET /latest/user-data", "asking for the user data", &session)?;
    match answer.status {
        200 => Ok(answer.body),
        status => Err(ProvisionError::Service {
            address,
            doing: "asking for the user data",
            source: io::Error::other(format!("HTTP status {status}")),
        }),
    }
}

struct Answer {
    status: u16,
    body: Zeroizing<Vec<u8>>,
}

/// One request of HTTP/1.0: the answer ends with the connection.
fn exchange(
    address: SocketAddr,
    request: &str,
    doing: &'static str,
    header: &str,
) -> Result<Answer, ProvisionError> {
    let talk = || -> io::Result<Zeroizing<Vec<u8>>> {
        let begin = Instant::now();
        let mut stream = TcpStream::connect_timeout(&address, STEP)?;
        stream.set_read_timeout(Some(STEP))?;
        stream.set_write_timeout(Some(STEP))?;
        let head = format!("{request} HTTP/1.0\r\nHost: {address}\r\nContent-Length: 0\r\n{header}\r\n");
        stream.write_all(head.as_bytes())?;
        let mut answer = Zeroizing::new(Vec::with_capacity(MAX_ANSWER + 1024));
        let mut piece = Zeroizing::new([0; 1024]);
        loop {
            match stream.read(piece.as_mut_slice())? {
                0 => return Ok(answer),
                length => answer.extend_from_slice(piece.get(..length).unwrap_or_default()),
            }
            if answer.len() > MAX_ANSWER || begin.elapsed() > WHOLE {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
    };
    let answer = talk().map_err(|source| ProvisionError::Service { address, doing, source })?;
    parse(&answer).ok_or_else(|| malformed(address))
}

fn malformed(address: SocketAddr) -> ProvisionError {
    ProvisionError::Service {
        address,
        doing: "reading its answer",
        source: io::Error::from(io::ErrorKind::InvalidData),
    }
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut first = head.lines().next()?.splitn(3, ' ');
    let version = first.next()?;
    let status = first.next()?.parse().ok()?;
    let length = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).last();
    let body = answer.get(end + 4..)?;
    // A connection that broke must not pass for a short answer.
    let whole = length.is_none_or(|(_, length)| length.trim().parse() == Ok(body.len()));
    (version.starts_with("HTTP/1.") && whole).then(|| Answer { status, body: Zeroizing::new(body.to_vec()) })
}

/// Whether the system is the software edition, by its os-release.
pub(super) fn is_software_edition(os_release: &Path) -> bool {
    std::fs::read_to_string(os_release).is_ok_and(|text| text.lines().any(|line| line == "VARIANT_ID=cloud"))
}

/// Where the record comes from.
#[derive(Debug, clap::Args)]
pub(super) struct Provision {
    /// Where the record goes.
    #[arg(long, value_name = "FILE")]
    record: PathBuf,
    /// User data in a file; left out: from the metadata service, however long that takes.
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// The metadata service.
    #[arg(long, value_name = "ADDRESS", default_value = METADATA)]
    metadata: SocketAddr,
    /// What tells the edition of this system.
    #[arg(long, value_name = "FILE", default_value = "/etc/os-release")]
    os_release: PathBuf,
}

impl Provision {
    /// Takes the record, unless there is one; says what was done.
    pub(super) fn run(&self) -> Result<String, ProvisionError> {
        if self.record.exists() {
            return Ok(format!("{} is there already", self.record.display()));
        }
        if !is_software_edition(&self.os_release) {
            return Ok("only the software edition takes its factory record from a cloud".to_owned());
        }
        match &self.seed {
            Some(seed) => from_file(seed, &self.record),
            None => from_service(self.metadata, &self.record),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::net::TcpListener;

    const RECORD: &str = r#"{"serial": "VE-7", "center": "https://c.example", "center_ca": "",
        "config_keys": ["11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="], "config_threshold": 1}"#;

    /// Answers one request after the other, and gives what was asked.
    fn service(answers: Vec<String>) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<String> =
                    lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
                asked.push(head.join("\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (address, served)
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn a_record_by_a_session_and_without() {
        for (session, header) in [(ok("t0ken\n"), true), ("HTTP/1.0 404 Not Found\r\n\r\n".to_owned(), false)]
        {
            let folder = tempfile::tempdir().unwrap();
            let record = folder.path().join("factory.json");
            let (address, served) = service(vec![session, ok(RECORD)]);
            let said = from_service(address, &record).unwrap();
            assert!(said.starts_with("factory record of VE-7 from 127.0.0.1"), "{said}");
            assert_eq!(std::fs::read_to_string(&record).unwrap(), RECORD);
            let asked = served.join().unwrap();
            assert!(asked[0].starts_with("PUT /latest/api/token HTTP/1.0\n"), "{asked:?}");
            assert!(asked[1].starts_with("GET /latest/user-data HTTP/1.0\n"), "{asked:?}");
            assert_eq!(asked[1].contains("X-aws-ec2-metadata-token: t0ken"), header, "{asked:?}");
        }
    }

    #[test]
    fn what_is_no_record_is_not_kept_and_a_mended_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("factory.json");
        let cut_off = ok(RECORD).replace("\r\n\r\n", "0\r\n\r\n");
        let answers = [ok("#!/bin/sh\n"), cut_off, ok(&"x".repeat(30_000)), ok("{}"), ok(RECORD)];
        let answers = answers.into_iter().flat_map(|answer| [ok("t"), answer]).collect();
        let (address, served) = service(answers);
        assert!(from_service(address, &record).unwrap().contains("VE-7"));
        drop(served);
        assert_eq!(std::fs::read_to_string(&record).unwrap(), RECORD);
    }

    #[test]
    fn a_seed_is_taken_once_and_by_the_software_edition_only() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let provision = || {
            Provision {
                record: at("factory.json"),
                seed: Some(at("user-data")),
                metadata: METADATA.parse().unwrap(),
                os_release: at("os-release"),
            }
            .run()
        };
        std::fs::write(at("user-data"), RECORD).unwrap();
        std::fs::write(at("os-release"), "ID=verona-edge\nVARIANT_ID=generic\n").unwrap();
        assert!(provision().unwrap().contains("only the software edition"));
        std::fs::write(at("os-release"), "ID=verona-edge\nVARIANT_ID=cloud\n").unwrap();
        assert!(provision().unwrap().contains("VE-7"));
        std::fs::write(at("user-data"), RECORD.replace("VE-7", "VE-8")).unwrap();
        assert!(provision().unwrap().contains("is there already"));
        assert_eq!(std::fs::read_to_string(at("factory.json")).unwrap(), RECORD);
        std::fs::remove_file(at("factory.json")).unwrap();
        std::fs::write(at("user-data"), "{}").unwrap();
        assert!(matches!(provision().unwrap_err(), ProvisionError::Record { .. }));
        assert!(!at("factory.json").exists());
    }
}
