//! Programs of others: of the host, or from packages unpacked beside the cache.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// Debian's folder of libraries for the architecture this builder runs on.
const MULTIARCH: &str = concat!("x86_64", "-linux-gnu");

/// One run of a program. Its environment is fixed, so that an image does not depend on who builds it.
pub(crate) struct Tool {
    name: String,
    command: Command,
}

/// A program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    #[error("starting {name}")]
    Start { name: String, source: io::Error },
    #[error("{name} failed ({status}): {message}")]
    Failed { name: String, status: ExitStatus, message: String },
}

/// Where the packages with tools are unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Prefix(pub(crate) PathBuf);

impl Prefix {
    /// A program of the prefix, with the libraries beside it.
    pub(crate) fn tool(&self, name: &str) -> Tool {
        let folders = ["usr/bin", "usr/sbin", "bin", "sbin"];
        let found = folders.iter().map(|folder| self.0.join(folder).join(name)).find(|path| path.is_file());
        let program = found.unwrap_or_else(|| PathBuf::from(name));
        let libraries = ["usr/lib", "lib"].map(|lib| self.0.join(lib).join(MULTIARCH).into_os_string());
        let mut tool = Tool::new(name, program.as_os_str());
        tool.command.env("LD_LIBRARY_PATH", libraries.join(OsStr::new(":")));
        tool
    }
}

impl Tool {
    /// A program of the host.
    pub(crate) fn of_host(name: &str) -> Self {
        Self::new(name, OsStr::new(name))
    }

    /// The cargo that runs us, or the one on the path, for the checkout at `sources`. It keeps the environment of
    /// whoever builds: where its registry and its toolchain are is his affair.
    pub(crate) fn cargo(sources: &Path) -> Self {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(sources).stdin(Stdio::null());
        Self { name: "cargo".to_owned(), command }
    }

    fn new(name: &str, program: &OsStr) -> Self {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").env("TZ", "UTC");
        command.stdin(Stdio::null());
        Self { name: name.to_owned(), command }
    }

    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn arguments<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it; what it says is kept for the error.
    pub(crate) fn run(self) -> Result<(), ToolError> {
        self.output().map(drop)
    }

    /// Runs it and gives its standard output.
    pub(crate) fn output(self) -> Result<String, ToolError> {
        self.output_for(None)
    }

    /// Runs it with `input` on its standard input.
    pub(crate) fn output_for(mut self, input: Option<&[u8]>) -> Result<String, ToolError> {
        let name = self.name;
        let start = |source| ToolError::Start { name: name.clone(), source };
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if input.is_some() {
            self.command.stdin(Stdio::piped());
        }
        let mut child = self.command.spawn().map_err(start)?;
        if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
            // A program that does not read to the end says so by its exit status.
            let _ = pipe.write_all(input);
        }
        let output = child.wait_with_output().map_err(start)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let message =
            said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
        Err(ToolError::Failed { name: name.clone(), status: output.status, message })
    }
}
