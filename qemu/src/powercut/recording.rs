//! A disk in a file whose writes are recorded: `qemu-storage-daemon` exports it by FUSE, so that any program writes it
//! as it would a disk, with the same flushes.

use super::Log;
use crate::{Error, Result, wait};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Room for what is recorded; sparse.
const LOG_LENGTH: u64 = 4 << 30;

const PATIENCE: Duration = Duration::from_secs(20);

/// A recording that is running. Dropping it ends it.
#[derive(Debug)]
pub struct Recording {
    daemon: Child,
    disk: PathBuf,
    log: PathBuf,
}

impl Recording {
    /// Whether this machine has FUSE.
    #[must_use]
    pub fn is_possible() -> bool {
        Path::new("/dev/fuse").exists()
    }

    /// Begins to record writes to [`Self::disk`], which holds what `base` does. Its files go into `folder`.
    ///
    /// # Errors
    ///
    /// There is no FUSE, or no `qemu-storage-daemon`.
    pub fn start(folder: &Path, base: &Path) -> Result<Self> {
        let (below, disk, log) = (folder.join("recorded.img"), folder.join("disk"), folder.join("log"));
        fs::copy(base, &below).map_err(Error::io(format!("copy {}", base.display())))?;
        for (path, length) in [(&disk, 0), (&log, LOG_LENGTH)] {
            let made = File::create(path).and_then(|file| file.set_len(length));
            made.map_err(Error::io(format!("create {}", path.display())))?;
        }
        let file =
            |name: &str, path: &Path| format!("driver=file,node-name={name},filename={}", path.display());
        let daemon = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-storage-daemon"])
            .args(["--blockdev", &file("below", &below), "--blockdev", &file("log", &log)])
            .args(["--blockdev", "driver=blklogwrites,node-name=recorded,file=below,log=log"])
            .arg("--export")
            .arg(format!("fuse,id=disk,node-name=recorded,mountpoint={},writable=on", disk.display()))
            .stdin(Stdio::null())
            .spawn()
            .map_err(Error::io("start qemu-storage-daemon"))?;
        let mut recording = Self { daemon, disk, log };
        let length = fs::metadata(&below).map_err(Error::io("measure the disk"))?.len();
        wait::for_value("the recorded disk", PATIENCE, || {
            if let Ok(Some(status)) = recording.daemon.try_wait() {
                return Err(Error::Environment(format!("qemu-storage-daemon ended ({status})")));
            }
            let there = fs::metadata(&recording.disk).is_ok_and(|found| found.len() == length);
            Ok(there.then_some(()))
        })?;
        Ok(recording)
    }

    /// The disk to be written.
    #[must_use]
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// How many entries the log has as of the last flush.
    ///
    /// # Errors
    ///
    /// The log does not read.
    pub fn entries(&self) -> Result<u64> {
        Log::entries_of(&self.log)
    }

    /// Ends the recording.
    ///
    /// # Errors
    ///
    /// The log does not read.
    pub fn finish(mut self) -> Result<Log> {
        self.end();
        Log::read(&self.log)
    }

    fn end(&mut self) {
        if matches!(self.daemon.try_wait(), Ok(None)) {
            // Politely, so that it writes how many entries there are, and takes its mount away.
            let pid = nix::unistd::Pid::from_raw(self.daemon.id().cast_signed());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let ended = wait::until("qemu-storage-daemon to end", PATIENCE, || {
                matches!(self.daemon.try_wait(), Ok(Some(_)))
            });
            if ended.is_err() {
                let _ = self.daemon.kill();
                let _ = self.daemon.wait();
            }
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end();
    }
}
