//! `--perf`: where the processors' time goes, by perf's own clock (virtual machines often have no counters).
//!
//! One recording and one listing for each of our own trials. The recordings stay, for flame graphs.

use anyhow::{Context, bail};
use lab::machine;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Symbols with less of the time than this, per cent, are left out.
const LEAST: &str = "0.8";

/// A recording of the whole machine under way.
#[derive(Debug)]
pub(super) struct Recording {
    perf: Child,
    data: PathBuf,
}

impl Recording {
    /// Starts to record into `folder`, with call chains.
    pub(super) fn start(folder: &Path, trial: &str) -> anyhow::Result<Self> {
        let program = machine::program("perf").context("--perf needs perf (Debian package linux-perf)")?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let data = folder.join(format!("{trial}.perf"));
        let perf = Command::new(program)
            .args(["record", "-q", "-a", "-g", "-e", "cpu-clock", "-F", "997", "-o"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start perf")?;
        Ok(Self { perf, data })
    }

    /// Ends it and gives the listing, the dearest first.
    pub(super) fn listing(mut self) -> anyhow::Result<String> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.perf.id()).context("perf's process id")?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).context("cannot stop perf")?;
        self.perf.wait().context("cannot wait for perf")?;
        let output = Command::new("perf")
            .args(["report", "--stdio", "-q", "--no-children", "-g", "none", "--sort", "comm,dso,symbol"])
            .args(["--percent-limit", LEAST, "-i"])
            .arg(&self.data)
            .output()
            .context("cannot run perf report")?;
        if !output.status.success() {
            bail!("perf report: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.perf.kill();
        let _ = self.perf.wait();
    }
}
