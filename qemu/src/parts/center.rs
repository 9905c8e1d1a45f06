//! The center: the signer, the serving process, and its command line as an operator uses it.

use super::{READY, ask, field, text};
use crate::{Error, Namespace, Process, Result, address, wait, workspace};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the center listens, TCP.
pub const PORT: u16 = 8443;
/// On the label of the topology's edge.
const SERIAL: &str = "VE-000001";

/// A center with its data in the run's directory.
#[derive(Debug)]
pub struct Center {
    place: Namespace,
    data: PathBuf,
    /// The serving process.
    pub serving: Process,
    /// The process that holds the keys.
    pub signer: Process,
}

impl Center {
    /// Makes a center's data and starts both processes.
    ///
    /// # Errors
    ///
    /// A process does not come up.
    pub fn start(place: &Namespace) -> Result<Self> {
        let data = place.run().dir().join("center");
        let path = data.to_string_lossy();
        place.output(
            workspace::binary("verona-center")?,
            &["init", "--data", &path, "--url", &format!("https://{}:{PORT}", address::CENTER)],
        )?;
        let signer = start_signer(place, &data)?;
        let serving = start_serving(place, &data)?;
        Ok(Self { place: place.clone(), data, serving, signer })
    }

    /// Starts the serving process again after it was stopped or crashed.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn serve_again(&mut self) -> Result<()> {
        self.serving = start_serving(&self.place, &self.data)?;
        Ok(())
    }

    /// One command of the admin's command line, with its answer.
    ///
    /// # Errors
    ///
    /// The center refuses; its line is in the error.
    pub fn admin(&self, arguments: &[&str]) -> Result<Value> {
        let identity = self.identity();
        let identity = identity.to_string_lossy();
        let mut all = arguments.to_vec();
        all.extend(["--json", "--identity", &identity]);
        ask(&self.place, "verona-center", &all)
    }

    /// The operator's identity file.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.data.join("operator.json")
    }

    /// The folder of the center's data.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The namespace that it runs in.
    #[must_use]
    pub fn place(&self) -> &Namespace {
        &self.place
    }

    /// Registers an owner, whose clients get addresses from `network`. Returns the owner's code.
    ///
    /// # Errors
    ///
    /// The center refuses.
    pub fn add_owner(&self, name: &str, network: &str) -> Result<String> {
        let owner = self.admin(&["owner", "add", "--name", name, "--network", network])?;
        text(&owner, "/code").map(str::to_owned)
    }

    /// Registers the topology's edge and writes its factory record. Returns the edge's id.
    ///
    /// # Errors
    ///
    /// The center refuses.
    pub fn add_edge(&self, owner: &str, record: &Path) -> Result<String> {
        self.register_edge(owner, &["--record", &record.to_string_lossy()])
    }

    /// Registers the topology's edge as a box that nobody owns yet, and writes its factory record.
    ///
    /// # Errors
    ///
    /// The center refuses.
    pub fn stock_edge(&self, record: &Path) -> Result<()> {
        self.admin(&["edge", "stock", "--serial", SERIAL, "--record", &record.to_string_lossy()]).map(drop)
    }

    /// Gives the box of [`Center::stock_edge`] to an owner. Returns the edge's id.
    ///
    /// # Errors
    ///
    /// The center refuses.
    pub fn claim_edge(&self, owner: &str) -> Result<String> {
        self.register_edge(owner, &["--claim"])
    }

    /// Waits until the box of [`Center::stock_edge`] has asked for its owner.
    ///
    /// # Errors
    ///
    /// It has not within `limit`.
    pub fn asked_for_owner(&self, limit: Duration) -> Result<()> {
        wait::for_value("the box to ask for its owner", limit, || {
            let boxes = self.admin(&["edge", "unclaimed"])?;
            Ok(field(&boxes, "last_seen").and_then(Value::as_str).map(drop))
        })
    }

    fn register_edge(&self, owner: &str, more: &[&str]) -> Result<String> {
        let endpoint = format!("{}:{}", address::EDGE, super::LISTEN_PORT);
        let port = super::LISTEN_PORT.to_string();
        let mut arguments = vec!["edge", "add", "--owner", owner, "--name", "Tokyo", "--serial", SERIAL];
        arguments.extend(["--endpoint", &endpoint, "--listen-port", &port, "--lan", "192.168.77.0/24"]);
        arguments.extend(more);
        let edge = self.admin(&arguments)?;
        text(&edge, "/edge/id").map(str::to_owned)
    }

    /// Registers a client. Returns its id and its enrolment code.
    ///
    /// # Errors
    ///
    /// The center refuses.
    pub fn add_client(&self, owner: &str, name: &str, push: bool) -> Result<(String, String)> {
        let mut arguments = vec!["client", "add", "--owner", owner, "--name", name];
        arguments.extend(push.then_some("--push"));
        let created = self.admin(&arguments)?;
        Ok((text(&created, "/client/id")?.to_owned(), text(&created, "/code")?.to_owned()))
    }

    /// Waits until the edge has confirmed its newest configuration, number `least` or later. Returns the number.
    ///
    /// # Errors
    ///
    /// It has not within `limit`.
    pub fn confirmed(&self, edge: &str, least: u64, limit: Duration) -> Result<u64> {
        wait::for_value(&format!("configuration {least} or later to be confirmed"), limit, || {
            let shown = self.admin(&["edge", "show", edge])?;
            let newest = field(&shown, "config_seq").and_then(Value::as_u64);
            let confirmed = field(&shown, "confirmed_seq").and_then(Value::as_u64);
            Ok(confirmed.filter(|seq| confirmed == newest && *seq >= least))
        })
    }

    /// Waits until every edge has acknowledged the client's last change of state. Returns the proof.
    ///
    /// # Errors
    ///
    /// An edge has not within `limit`.
    pub fn proof(&self, client: &str, limit: Duration) -> Result<Value> {
        wait::for_value("every edge's ack at the center", limit, || {
            let shown = self.admin(&["client", "show", client])?;
            let edges = field(&shown, "edges").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let all = !edges.is_empty() && edges.iter().all(|edge| edge["confirmed_after_ms"].is_u64());
            Ok(all.then_some(shown))
        })
    }
}

fn start_signer(place: &Namespace, data: &Path) -> Result<Process> {
    let socket = data.join("sign.sock");
    let mut command = place.command(workspace::binary("verona-center")?);
    command.arg("sign").arg("--data").arg(data.join("signer")).arg("--socket").arg(&socket);
    let mut signer = place.run().start_process("signer", command)?;
    wait::for_value("the signer's socket", READY, || {
        signer.must_run()?;
        Ok(socket.exists().then_some(()))
    })?;
    Ok(signer)
}

fn start_serving(place: &Namespace, data: &Path) -> Result<Process> {
    let mut command = place.command(workspace::binary("verona-center")?);
    command.arg("serve").arg("--data").arg(data.join("web"));
    command.args(["--listen", &format!("{}:{PORT}", address::CENTER)]);
    command.args(["--stun", &address::CENTER.to_string(), "--nothing", &format!("{}:80", address::CENTER)]);
    command.arg("--signer").arg(data.join("sign.sock"));
    let mut serving = place.run().start_process("center", command)?;
    serving.wait_for_log("listening on https://", READY).map_err(|error| match error {
        Error::Deadline { waited, .. } => {
            Error::Deadline { what: format!("the center to listen; its log: {}", serving.log()), waited }
        }
        other => other,
    })?;
    Ok(serving)
}
