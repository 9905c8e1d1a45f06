//! The workspace's own binaries and the foreign ones that only cargo can get.

use crate::{Error, Result};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The boringtun release that the interop tests talk to.
const BORINGTUN_CLI: &str = "0.7.1";

/// The workspace's folder.
#[must_use]
pub fn root() -> &'static Path {
    // The folder above this crate's; a clone is built where it is used.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// The folder that cargo put this program's siblings into (`target/debug`).
///
/// # Errors
///
/// The running program's path is unknown.
pub fn bin_dir() -> Result<PathBuf> {
    let program = env::current_exe().map_err(Error::io("find the running program"))?;
    let folder = program.parent().unwrap_or(Path::new("."));
    // Test programs are one level below.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

/// A binary of the workspace, as built by [`build`].
///
/// # Errors
///
/// It has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = bin_dir()?.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Environment(format!(
        "{} is not built: run `cargo build --workspace` first (`cargo lab test` does)",
        path.display()
    )))
}

/// Builds all binaries of the workspace in the dev profile, with cargo's progress on standard error.
///
/// # Errors
///
/// The build fails.
pub fn build() -> Result<()> {
    eprintln!("lab: building the workspace (cargo build --workspace); the first time takes minutes");
    cargo(&["build", "--workspace", "--locked"])
}

/// boringtun's own program, built once and kept under the target folder.
///
/// # Errors
///
/// crates.io cannot be reached, or the build fails.
pub fn install_boringtun_cli() -> Result<PathBuf> {
    let tools = tools_dir()?;
    let path = tools.join("bin/boringtun-cli");
    if !path.is_file() {
        eprintln!("lab: building boringtun-cli {BORINGTUN_CLI} for the interop tests (once)");
        let root = tools.to_string_lossy().into_owned();
        cargo(&["install", "boringtun-cli", "--locked", "--version", BORINGTUN_CLI, "--root", &root])?;
    }
    Ok(path)
}

/// boringtun's own program, if [`install_boringtun_cli`] has put it there.
///
/// # Errors
///
/// It is not there.
pub fn boringtun_cli() -> Result<PathBuf> {
    let path = tools_dir()?.join("bin/boringtun-cli");
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Environment(format!(
        "{path} is not built: `cargo lab test` builds it, or `cargo install boringtun-cli --locked \
         --version {BORINGTUN_CLI} --root {root}`",
        path = path.display(),
        root = tools_dir()?.display()
    )))
}

/// The release is part of the name, so that a new one is built when the constant changes.
fn tools_dir() -> Result<PathBuf> {
    let target = bin_dir()?;
    let target = target.parent().unwrap_or(&target);
    Ok(target.join(format!("tools/boringtun-cli-{BORINGTUN_CLI}")))
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(arguments)
        .current_dir(root())
        .stdout(std::io::stderr())
        .status()
        .map_err(Error::io("run cargo"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Environment(format!("`cargo {}` failed ({status})", arguments.join(" "))))
}
