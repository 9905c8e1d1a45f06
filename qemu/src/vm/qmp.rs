//! QEMU's machine protocol (docs/interop/qmp-spec.txt): one JSON object a line, answers by id, events between them.

use crate::{Error, Result};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A snapshot of a machine under load on a slow disk takes some of it.
const ANSWER: Duration = Duration::from_secs(60);

/// A connection to one QEMU.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    calls: u64,
    events: Vec<Value>,
}

impl Qmp {
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let doing = || format!("connect to QEMU at {}", socket.display());
        let stream = UnixStream::connect(socket).map_err(Error::io(doing()))?;
        stream.set_read_timeout(Some(ANSWER)).map_err(Error::io(doing()))?;
        let mut qmp = Self { reader: BufReader::new(stream), calls: 0, events: Vec::new() };
        // The greeting.
        qmp.read()?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// One command, with what it returns.
    ///
    /// # Errors
    ///
    /// QEMU refuses or is gone.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        self.calls += 1;
        let id = self.calls;
        let line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string() + "\n";
        let doing = || format!("have QEMU {command}");
        self.reader.get_mut().write_all(line.as_bytes()).map_err(Error::io(doing()))?;
        loop {
            let mut answer = self.read()?;
            if answer.get("event").is_some() {
                self.events.push(answer);
            } else if answer["id"] == id {
                if let Some(error) = answer.get("error") {
                    return Err(Error::Environment(format!("QEMU refuses {command}: {}", error["desc"])));
                }
                return Ok(answer["return"].take());
            }
        }
    }

    /// One command of the human monitor that says nothing when it succeeds, such as `savevm warm`.
    ///
    /// # Errors
    ///
    /// It says something.
    pub fn monitor(&mut self, line: &str) -> Result<()> {
        let said = self.execute("human-monitor-command", &json!({ "command-line": line }))?;
        match said.as_str().map(str::trim) {
            None | Some("") => Ok(()),
            Some(said) => Err(Error::Environment(format!("QEMU refuses {line}: {said}"))),
        }
    }

    /// How often an event such as `RESET` or `WATCHDOG` has come so far.
    ///
    /// # Errors
    ///
    /// QEMU is gone.
    pub fn count(&mut self, event: &str) -> Result<usize> {
        // Whatever came before this answer is read by then.
        self.execute("query-status", &json!({}))?;
        Ok(self.events.iter().filter(|seen| seen["event"] == event).count())
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self.reader.read_line(&mut line).map_err(Error::io("read QEMU's answer"))?;
        if length == 0 {
            return Err(Error::Environment("QEMU has closed its monitor".to_owned()));
        }
        serde_json::from_str(&line).map_err(|error| Error::io("read QEMU's answer")(error.into()))
    }
}
