//! A machine's serial console: everything it shows is in a file of the run, and a person's keys can be sent.

use crate::{Error, Result};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// How many lines of it an error quotes.
const TAIL: usize = 25;

/// The console of one machine.
#[derive(Debug)]
pub struct Console {
    stream: UnixStream,
    log: PathBuf,
    /// Where in the log this machine began: before it are others of the same name.
    begin: usize,
}

impl Console {
    /// Of a machine whose output is in `log` from the octet `begin` on.
    pub(super) fn open(socket: &Path, log: PathBuf, begin: usize) -> Result<Self> {
        let doing = || format!("connect to the console {}", socket.display());
        let stream = UnixStream::connect(socket).map_err(Error::io(doing()))?;
        // QEMU waits for a reader that has fallen behind. Nothing is read here: the log has it all.
        let reader = stream.try_clone().map_err(Error::io(doing()))?;
        std::thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()))
            .map_err(Error::io("start a thread for the console"))?;
        Ok(Self { stream, log, begin })
    }

    /// What it has shown so far. Control sequences are in it as they came.
    #[must_use]
    pub fn text(&self) -> String {
        let octets = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(octets.get(self.begin..).unwrap_or_default()).into_owned()
    }

    /// Forgets what it has shown so far, so that the next wait is for something new.
    pub fn forget(&mut self) {
        self.begin = length(&self.log);
    }

    /// Where it is written to.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Sends keys.
    ///
    /// # Errors
    ///
    /// The machine is gone.
    pub fn send(&mut self, keys: &str) -> Result<()> {
        self.stream.write_all(keys.as_bytes()).map_err(Error::io("send keys to the console"))
    }

    pub(super) fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

/// Octets of a log; none when there is none yet.
pub(super) fn length(log: &Path) -> usize {
    std::fs::metadata(log).map_or(0, |log| usize::try_from(log.len()).unwrap_or(0))
}

impl Drop for Console {
    fn drop(&mut self) {
        // Ends the thread that reads.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}
