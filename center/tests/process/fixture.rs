//! A center in a temporary directory: `init`, `sign`, `serve`, and hands to reach them.

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;
use verona_contract::api::{Challenge, EnrollRequest, Enrolled, Proof, TunnelCertificate, TunnelKeyRequest};
use verona_contract::base64::Octets;
use verona_contract::csr::DeviceKey;
use verona_contract::enrolment::EnrolmentCode;
use verona_contract::key::Secret;
use verona_contract::pop;
use x509_cert::der::pem::{LineEnding, encode_string};

pub const BINARY: &str = env!("CARGO_BIN_EXE_verona-center");

pub struct Center {
    pub directory: tempfile::TempDir,
    pub port: u16,
    pub signer: Child,
    pub server: Child,
}

impl Drop for Center {
    fn drop(&mut self) {
        for child in [&mut self.signer, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Key and certificate for TLS.
#[derive(Clone)]
pub struct Tls {
    pub key: Vec<u8>,
    pub certificate: Vec<u8>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The detail of a problem document, after checking that it is one.
    pub fn problem(&self) -> String {
        assert!(self.head.contains("application/problem+json"), "{}", self.head);
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        problem["detail"].as_str().unwrap().to_owned()
    }

    pub fn field(&self, name: &str) -> Option<String> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }
}

pub fn entropy() -> [u8; 32] {
    let mut octets = [0; 32];
    aws_lc_rs::rand::fill(&mut octets).unwrap();
    octets
}

impl Center {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    pub fn start_with(sign_arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (data, url) = (directory.path().join("c"), format!("https://127.0.0.1:{port}"));
        let made = Command::new(BINARY).args(["init", "--data"]).arg(&data).args(["--url", &url]).output();
        let made = made.unwrap();
        assert!(made.status.success(), "{made:?}");
        let (socket, log) = (data.join("sign.sock"), directory.path().join("serve.log"));
        let mut sign = Command::new(BINARY);
        sign.arg("sign").arg("--data").arg(data.join("signer")).arg("--socket").arg(&socket);
        let signer = ready(sign.args(sign_arguments), "signing on", &directory.path().join("sign.log"));
        let mut serve = Command::new(BINARY);
        serve.arg("serve").arg("--data").arg(data.join("web")).arg("--signer").arg(&socket);
        let server = ready(serve.arg("--listen").arg(format!("127.0.0.1:{port}")), "listening on", &log);
        Self { directory, port, signer, server }
    }

    /// Kills the serving process and starts it again.
    pub fn restart_server(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        let mut serve = Command::new(BINARY);
        serve
            .arg("serve")
            .arg("--data")
            .arg(self.path("c/web"))
            .arg("--signer")
            .arg(self.path("c/sign.sock"));
        serve.arg("--listen").arg(format!("127.0.0.1:{}", self.port));
        self.server = ready(&mut serve, "listening on", &self.path("serve2.log"));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn server_pid(&self) -> u32 {
        self.server.id()
    }

    pub fn wait_for_server(&mut self) -> std::process::ExitStatus {
        self.server.wait().unwrap()
    }

    pub fn identity(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path("c/operator.json")).unwrap()).unwrap()
    }

    pub fn operator(&self) -> Tls {
        identity_tls(&self.identity())
    }

    /// Runs the CLI as the operator.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let identity = self.path("c/operator.json");
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--json").env("VERONA_IDENTITY", identity).output().unwrap()
    }

    /// The same, when it must succeed.
    pub fn ok(&self, arguments: &[&str]) -> Value {
        let output = self.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn owner(&self, name: &str, network: &str) -> String {
        let owner = self.ok(&["owner", "add", "--name", name, "--network", network]);
        owner["code"].as_str().unwrap().to_owned()
    }

    /// Registers an edge and returns its id and token.
    pub fn edge(&self, owner: &str, serial: &str) -> (String, String) {
        let arguments = ["edge", "add", "--owner", owner, "--name", serial, "--serial", serial];
        let more = ["--endpoint", "127.0.0.1:5182", "--lan", "192.168.7.0/24"];
        let created = self.ok(&[arguments.as_slice(), &more].concat());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&created["edge"]["id"]), text(&created["token"]))
    }

    /// Enrols an edge by EST and certifies its tunnel key.
    pub fn enrolled_edge(&self, owner: &str, serial: &str) -> (String, Tls, TunnelCertificate) {
        let (id, token) = self.edge(owner, serial);
        let device = DeviceKey::from_entropy(&entropy()).unwrap();
        let csr = verona_contract::base64::encode(device.request("edge", None).unwrap());
        let basic = verona_contract::base64::encode(format!("{serial}:{token}"));
        let fields = format!("Content-Type: application/pkcs10\r\nAuthorization: Basic {basic}");
        let path = "/.well-known/est/simpleenroll";
        let answer = self.call(None, "POST", path, &fields, |_| csr.into_bytes());
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let tls = Tls { key: device.to_der().unwrap().to_vec(), certificate: pkcs7(&answer.body) };
        let tunnel = Secret::new(entropy());
        let csr = device.request("edge", Some(&tunnel.x25519_public().unwrap())).unwrap();
        let answer = self.prove(Some(&tls), "/v1/edge/tunnel-key", &tunnel, &csr, |csr, proof| {
            serde_json::to_value(TunnelKeyRequest { csr, proof }).unwrap()
        });
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        (id, tls, serde_json::from_slice(&answer.body).unwrap())
    }

    /// Registers a client and returns its id and code.
    pub fn client(&self, owner: &str, name: &str, more: &[&str]) -> (String, String) {
        let created = self.ok(&[&["client", "add", "--owner", owner, "--name", name], more].concat());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&created["client"]["id"]), text(&created["code"]))
    }

    pub fn enroll(&self, code: &str, device: &DeviceKey, tunnel: &Secret) -> Answer {
        let code: EnrolmentCode = code.parse().unwrap();
        let csr = device.request("client", Some(&tunnel.x25519_public().unwrap())).unwrap();
        self.prove(None, "/v1/client/enroll", tunnel, &csr, |csr, proof| {
            let secret = Octets(code.secret.to_vec());
            serde_json::to_value(EnrollRequest { secret, csr, proof }).unwrap()
        })
    }

    pub fn enrolled_client(&self, code: &str) -> (Tls, Enrolled) {
        let (device, tunnel) = (DeviceKey::from_entropy(&entropy()).unwrap(), Secret::new(entropy()));
        let answer = self.enroll(code, &device, &tunnel);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let enrolled: Enrolled = serde_json::from_slice(&answer.body).unwrap();
        let certificate = enrolled.device_certificate.0.clone();
        (Tls { key: device.to_der().unwrap().to_vec(), certificate }, enrolled)
    }

    /// Asks for a challenge and answers it over the connection that carries the proof.
    pub fn prove(
        &self,
        tls: Option<&Tls>,
        path: &str,
        tunnel: &Secret,
        csr: &[u8],
        body: impl FnOnce(Octets, Proof) -> Value,
    ) -> Answer {
        let challenge = self.post(tls, "/v1/pop/challenge", &json!({}));
        let challenge: Challenge = serde_json::from_slice(&challenge.body).unwrap();
        self.call(tls, "POST", path, "Content-Type: application/json", |exporter| {
            let proof = pop::prove(tunnel, &challenge.public_key, exporter, csr).unwrap();
            let proof = Proof { challenge: challenge.id, proof: Octets(proof.to_vec()) };
            serde_json::to_vec(&body(Octets(csr.to_vec()), proof)).unwrap()
        })
    }

    pub fn get(&self, tls: Option<&Tls>, path: &str) -> Answer {
        self.call(tls, "GET", path, "Accept: */*", |_| Vec::new())
    }

    pub fn post(&self, tls: Option<&Tls>, path: &str, body: &Value) -> Answer {
        let body = serde_json::to_vec(body).unwrap();
        self.call(tls, "POST", path, "Content-Type: application/json", |_| body)
    }

    /// One request over a connection of its own; the body may depend on the TLS exporter.
    pub fn call(
        &self,
        tls: Option<&Tls>,
        method: &str,
        path: &str,
        fields: &str,
        body: impl FnOnce(&[u8; 32]) -> Vec<u8>,
    ) -> Answer {
        self.call_over(self.connect(tls), method, path, fields, body)
    }

    /// The same over a connection that is open.
    pub fn call_over(
        &self,
        mut stream: StreamOwned<ClientConnection, TcpStream>,
        method: &str,
        path: &str,
        fields: &str,
        body: impl FnOnce(&[u8; 32]) -> Vec<u8>,
    ) -> Answer {
        let exporter = stream.conn.export_keying_material([0; 32], pop::EXPORTER_LABEL, None).unwrap();
        let body = body(&exporter);
        let head = format!("{method} {path} HTTP/1.1\r\nHost: c\r\nConnection: close\r\n{fields}\r\n");
        let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // The center may answer before it has read all of a body that it refuses.
        let _ = stream.write_all(&body);
        let _ = stream.flush();
        let mut octets = Vec::new();
        let _ = stream.read_to_end(&mut octets);
        let end = octets.windows(4).position(|window| window == b"\r\n\r\n").expect("a response head");
        let head = String::from_utf8(octets[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: octets[end + 4..].to_vec() }
    }

    pub fn connect(&self, tls: Option<&Tls>) -> StreamOwned<ClientConnection, TcpStream> {
        self.connect_by(tls, rustls::crypto::aws_lc_rs::default_provider())
    }

    pub fn connect_by(
        &self,
        tls: Option<&Tls>,
        provider: CryptoProvider,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        let pem = self.identity()["center_ca"].as_str().unwrap().to_owned();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let config = match tls {
            None => config.with_no_client_auth(),
            Some(tls) => {
                let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(tls.key.clone()));
                let chain = vec![CertificateDer::from(tls.certificate.clone())];
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(70))).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).unwrap();
        }
        StreamOwned::new(connection, socket)
    }

    /// One request on the signer's socket, as a breached web tier would send it.
    pub fn ask_signer(&self, request: &Value) -> Value {
        let mut stream = UnixStream::connect(self.path("c/sign.sock")).unwrap();
        stream.write_all(format!("{request}\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Writes DER as PEM and returns the path.
    pub fn pem(&self, name: &str, label: &str, der: &[u8]) -> String {
        let path = self.path(name);
        let text = encode_string(label, LineEnding::LF, der);
        std::fs::write(&path, text.unwrap()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

pub fn identity_tls(identity: &Value) -> Tls {
    let key = PrivateKeyDer::from_pem_slice(identity["key"].as_str().unwrap().as_bytes()).unwrap();
    let certificate = verona_contract::base64::decode(identity["certificate"].as_str().unwrap()).unwrap();
    Tls { key: key.secret_der().to_vec(), certificate }
}

pub fn ready(command: &mut Command, line: &str, log: &Path) -> Child {
    let log = std::fs::File::create(log).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with(line), "{said:?}");
    child
}

/// Runs a foreign tool and returns what it says, whatever its exit status.
pub fn tool(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The one certificate of a certs-only PKCS#7 in base64, taken out by openssl.
fn pkcs7(base64: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p7");
    let text = ["-----BEGIN PKCS7-----\n", std::str::from_utf8(base64).unwrap(), "-----END PKCS7-----\n"];
    std::fs::write(&path, text.concat()).unwrap();
    let (ok, pem) = tool("openssl", &["pkcs7", "-print_certs", "-in", path.to_str().unwrap()]);
    assert!(ok, "{pem}");
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}
