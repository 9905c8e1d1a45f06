//! The Verona Client.

use super::ask;
use crate::{Namespace, Process, Result, workspace};
use serde_json::Value;
use std::path::PathBuf;

/// A Verona Client with its state in the run's directory.
#[derive(Debug)]
pub struct VeronaClient {
    place: Namespace,
    name: String,
    state: PathBuf,
    interface: String,
    /// The running tunnel.
    pub process: Option<Process>,
}

impl VeronaClient {
    /// A client called `name` (for logs and its interface), not enrolled yet.
    #[must_use]
    pub fn new(place: &Namespace, name: &str) -> Self {
        Self {
            place: place.clone(),
            name: name.to_owned(),
            state: place.run().dir().join(format!("client-{name}")),
            interface: place.run().interface(name),
            process: None,
        }
    }

    /// Enrols with a one-time code.
    ///
    /// # Errors
    ///
    /// The center refuses; the client's line is in the error.
    pub fn enroll(&self, code: &str) -> Result<()> {
        self.run(&["enroll", code]).map(drop)
    }

    /// Starts the tunnel in the foreground of a process of the run.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn up(&mut self) -> Result<()> {
        // One that still runs holds the interface.
        self.process = None;
        let mut command = self.place.command(workspace::binary("verona-client")?);
        command.arg("--state").arg(&self.state).args(["up", "-f", "--interface", &self.interface]);
        self.process = Some(self.place.run().start_process(&self.name, command)?);
        Ok(())
    }

    /// What the client says of itself.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn status(&self) -> Result<Value> {
        let state = self.state.to_string_lossy();
        ask(&self.place, "verona-client", &["--state", &state, "status", "--json"])
    }

    /// Has the client ask the center for its profile now.
    ///
    /// # Errors
    ///
    /// It is not up.
    pub fn refresh(&self) -> Result<()> {
        self.run(&["refresh"]).map(drop)
    }

    /// The enrolled identity as a configuration for stock WireGuard, in the form of wg-quick.
    ///
    /// # Errors
    ///
    /// It is not enrolled.
    pub fn export(&self) -> Result<String> {
        self.run(&["export-wg"])
    }

    /// The name of the tunnel interface.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The namespace that it runs in.
    #[must_use]
    pub fn place(&self) -> &Namespace {
        &self.place
    }

    /// The folder of its keys and certificates.
    #[must_use]
    pub fn state(&self) -> &std::path::Path {
        &self.state
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let state = self.state.to_string_lossy();
        let mut all = vec!["--state", &state];
        all.extend(arguments);
        self.place.output(workspace::binary("verona-client")?, &all)
    }
}
