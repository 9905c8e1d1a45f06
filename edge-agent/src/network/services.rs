//! `dnsmasq` for the local networks: one child, started anew when its configuration changes.
//!
//! The configuration file is `edge_agent_core::network::services`. Leases that it gave survive a restart in a file
//! below `/run`; each one is also a record.

use super::Note;
use super::child::{Child, Lines};
use crate::center::chain;
use crate::store;
use edge_agent_core::journal::Draft;
use edge_agent_core::network::services::given;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use verona_contract::log::Stream;

/// The child, if one is wanted.
pub(crate) struct Services {
    directory: PathBuf,
    note: Arc<Note>,
    running: Option<(String, Child)>,
}

impl Services {
    /// Its files will be in `directory`.
    #[must_use]
    pub(crate) fn new(directory: PathBuf, note: Arc<Note>) -> Self {
        Self { directory, note, running: None }
    }

    /// Runs it with the configuration `text`, or not at all. The error is one line.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(crate) fn run(&mut self, text: Option<String>) -> Result<(), String> {
        if self.running.as_ref().map(|(text, _)| text) == text.as_ref() {
            return Ok(());
        }
        // Two cannot listen at once.
        self.running = None;
        let Some(text) = text else { return Ok(()) };
        let path = self.directory.join("dnsmasq.conf");
        store::replace(&path, text.as_bytes()).map_err(|error| chain(&error))?;
        let argument = |name: &str, value: PathBuf| {
            let mut argument = OsString::from(name);
            argument.push(value);
            argument
        };
        let arguments = vec![
            "--keep-in-foreground".into(),
            "--log-facility=-".into(),
            // It writes one otherwise, where an unprivileged one may not.
            "--pid-file=".into(),
            argument("--conf-file=", path),
            argument("--dhcp-leasefile=", self.directory.join("dnsmasq.leases")),
        ];
        let child =
            Child::keep("dnsmasq".into(), "dnsmasq".into(), arguments, Vec::new(), Some(self.lines()));
        self.running = Some((text, child));
        Ok(())
    }

    fn lines(&self) -> Lines {
        let note = self.note.clone();
        Box::new(move |line| {
            tracing::debug!(line, "dnsmasq");
            if let Some((address, mac, name)) = given(line) {
                let draft = Draft::new(Stream::System, "dhcp.lease", format!("{mac} has {address}"));
                let draft = draft.with("address", address).with("mac", mac);
                (note)(match name {
                    Some(name) => draft.with("name", name),
                    None => draft,
                });
            }
        })
    }
}
