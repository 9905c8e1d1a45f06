//! A customer's collector: Debian's rsyslog behind TLS, with a certificate of its own CA. At first by GnuTLS, with which
//! it speaks TLS 1.2; when it comes back, by OpenSSL and TLS 1.3.

use lab::{Namespace, Process, wait};
use serde_json::Value;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For a start, or a message.
const PATIENCE: Duration = Duration::from_secs(20);

/// A collector; its certificates and what it was told are in a folder of the run.
#[derive(Debug)]
pub struct Collector {
    place: Namespace,
    folder: PathBuf,
    address: IpAddr,
    /// rsyslog.
    pub process: Process,
}

impl Collector {
    /// Listens on the port of syslog over TLS at `address`.
    ///
    /// # Panics
    ///
    /// It does not come up.
    #[must_use]
    pub fn start(place: &Namespace, address: IpAddr) -> Self {
        let folder = place.run().dir().join("collector");
        std::fs::create_dir_all(&folder).unwrap();
        certify(place, &folder, address);
        let process = listen(place, &folder, "gtls");
        let collector = Self { place: place.clone(), folder, address, process };
        collector.wait();
        collector
    }

    /// Starts it again after it was stopped or crashed.
    ///
    /// # Panics
    ///
    /// It does not come up.
    pub fn again(&mut self) {
        self.process = listen(&self.place, &self.folder, "ossl");
        self.wait();
    }

    fn wait(&self) {
        let to = (self.address, PORT).into();
        let connect = || {
            let tried = self.place.enter(|| std::net::TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
            tried.is_ok()
        };
        wait::until("rsyslog", PATIENCE, connect).unwrap();
    }

    /// The DER of its CA.
    ///
    /// # Panics
    ///
    /// openssl fails.
    #[must_use]
    pub fn ca(&self) -> Vec<u8> {
        let (pem, der) = (self.folder.join("ca.pem"), self.folder.join("ca.der"));
        let arguments = ["x509", "-in", path(&pem), "-outform", "DER", "-out", path(&der)];
        self.place.output("openssl", &arguments).unwrap();
        std::fs::read(der).unwrap()
    }

    /// What it was told, each message as rsyslog understood it.
    ///
    /// # Panics
    ///
    /// A line is no JSON.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("told")).unwrap_or_default();
        // The last line may be half-written.
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// IANA's port of syslog over TLS.
pub const PORT: u16 = 6514;

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A CA and a server certificate, by openssl.
fn certify(place: &Namespace, folder: &Path, address: IpAddr) {
    let config = folder.join("openssl.cnf");
    let text = format!(
        "[req]\ndistinguished_name = dn\n[dn]\n[ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\n\
         subjectKeyIdentifier = hash\n[server]\nbasicConstraints = CA:FALSE\nsubjectAltName = IP:{address}\n\
         extendedKeyUsage = serverAuth\n"
    );
    std::fs::write(&config, text).unwrap();
    let make = |name: &str, extensions: &str, subject: &str, issuer: &[&str]| {
        let (key, certificate) = (folder.join(format!("{name}.key")), folder.join(format!("{name}.pem")));
        let mut arguments = vec!["req", "-x509", "-config", path(&config), "-extensions", extensions];
        arguments.extend(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "30"]);
        arguments.extend(["-subj", subject, "-keyout", path(&key), "-out", path(&certificate)]);
        arguments.extend(issuer);
        place.output("openssl", &arguments).unwrap();
    };
    make("ca", "ca", "/CN=Collector CA", &[]);
    let (ca, key) = (folder.join("ca.pem"), folder.join("ca.key"));
    make("server", "server", "/CN=collector", &["-CA", path(&ca), "-CAkey", path(&key)]);
}

fn listen(place: &Namespace, folder: &Path, driver: &str) -> Process {
    let file = |name: &str| folder.join(name).display().to_string();
    let config = format!(
        r#"global(workDirectory="{}" maxMessageSize="64k" DefaultNetstreamDriver="{driver}"
    DefaultNetstreamDriverCAFile="{}" DefaultNetstreamDriverCertFile="{}" DefaultNetstreamDriverKeyFile="{}")
module(load="imtcp" StreamDriver.Name="{driver}" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
input(type="imtcp" port="{PORT}")
template(name="whole" type="string" string="%jsonmesg%\n")
action(type="omfile" file="{}" template="whole")
"#,
        folder.display(),
        file("ca.pem"),
        file("server.pem"),
        file("server.key"),
        file("told"),
    );
    let at = folder.join("rsyslog.conf");
    std::fs::write(&at, config).unwrap();
    let mut command = place.command("rsyslogd");
    command.args(["-n", "-f", path(&at), "-i", &file("pid")]);
    place.run().start_process("rsyslogd", command).unwrap()
}
