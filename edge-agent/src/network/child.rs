//! A program that runs beside the agent: started again when it ends, ended when it is no longer wanted.
//!
//! It dies with the agent, also when that is killed: nobody else would end it, and two of a kind disturb each other.

use crate::sys::end_with_parent;
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::task::JoinHandle;

/// Until it is started again: the first time, and at most. A program that ran for a while begins anew.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
const A_WHILE: Duration = Duration::from_secs(60);

/// Takes the lines that the program writes.
pub(crate) type Lines = Box<dyn Fn(&str) + Send + Sync>;

/// A program that is kept running for as long as this value lives.
pub(crate) struct Child(JoinHandle<()>);

impl Drop for Child {
    fn drop(&mut self) {
        // With the task goes the process: see `kill_on_drop`.
        self.0.abort();
    }
}

impl Child {
    /// Starts `program` and keeps it running. What it writes goes to `lines`, or to the trace.
    #[must_use]
    pub(crate) fn keep(
        name: String,
        program: PathBuf,
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
        lines: Option<Lines>,
    ) -> Self {
        Self(tokio::spawn(async move {
            let mut pause = FIRST;
            loop {
                let begun = tokio::time::Instant::now();
                let mut command = Command::new(&program);
                command.args(&arguments).envs(environment.iter().map(|(name, value)| (name, value)));
                let ended = run(&mut command, &name, lines.as_ref()).await;
                if begun.elapsed() >= A_WHILE {
                    pause = FIRST;
                }
                tracing::warn!(name, program = %program.display(), ended, again_in = ?pause, "program ended");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
        }))
    }
}

/// Returns how it ended, in words.
async fn run(command: &mut Command, name: &str, lines: Option<&Lines>) -> String {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    end_with_parent(command.as_std_mut(), Signal::SIGKILL);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return format!("cannot start: {error}"),
    };
    if let Some(stderr) = child.stderr.take() {
        let mut said = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = said.next_line().await {
            match lines {
                Some(take) => take(&line),
                None => tracing::debug!(name, line, "program"),
            }
        }
    }
    match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => format!("cannot wait for it: {error}"),
    }
}
