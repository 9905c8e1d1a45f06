//! A wall clock of one's own for some processes, which can be set while they run (libfaketime).
//!
//! Linux gives a namespace its own monotonic clock, but not its own CLOCK_REALTIME. The library stands between a
//! process and the C library's clock calls; the monotonic clock is left alone.

use crate::{Error, Result, Run};
use std::path::PathBuf;
use std::process::Command;

/// The wall clock of a box, as far as its processes were started with it.
#[derive(Clone, Debug)]
pub struct WallClock {
    library: PathBuf,
    /// How far the clock is off, in the library's notation; read again each second.
    offset: PathBuf,
}

impl WallClock {
    /// A clock that is `seconds` ahead of the machine's, or behind it when negative.
    ///
    /// # Errors
    ///
    /// The library is missing, or the run's directory cannot be written to.
    pub fn new(run: &Run, seconds: i64) -> Result<Self> {
        let clock = Self { library: library()?, offset: run.dir().join("wall-clock") };
        clock.set(seconds)?;
        Ok(clock)
    }

    /// Steps the clock; the processes notice within about a second.
    ///
    /// # Errors
    ///
    /// The run's directory cannot be written to.
    pub fn set(&self, seconds: i64) -> Result<()> {
        let path = &self.offset;
        let fresh = path.with_extension("new");
        let doing = || format!("write {}", path.display());
        std::fs::write(&fresh, format!("{seconds:+}\n")).map_err(Error::io(doing()))?;
        // A reader sees the old content or the new one.
        std::fs::rename(&fresh, path).map_err(Error::io(doing()))
    }

    /// Has `command` start with this clock.
    pub(crate) fn give(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
        command.env("FAKETIME_TIMESTAMP_FILE", &self.offset);
        command.env("FAKETIME_CACHE_DURATION", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        // Times of files stay the machine's.
        command.env("NO_FAKE_STAT", "1");
    }
}

/// Debian keeps it in the folder of the architecture.
fn library() -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").map_err(Error::io("read /usr/lib".to_owned()))?;
    let paths = folders.flatten().map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let found = { paths }.find(|path| path.is_file());
    found.ok_or_else(|| Error::Environment("libfaketime is missing: install the package faketime".to_owned()))
}
