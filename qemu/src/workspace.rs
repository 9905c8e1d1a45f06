//! The workspace's own binaries and the foreign ones that only cargo can get.

use crate::{Error, Result};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that only crates.io has.
struct Foreign {
    package: &'static str,
    version: &'static str,
    program: &'static str,
}

/// What the interop tests talk to.
const BORINGTUN: Foreign = Foreign { package: "boringtun-cli", version: "0.7.1", program: "boringtun-cli" };
/// What the benchmark compares with.
const GOTATUN: Foreign = Foreign { package: "gotatun-cli", version: "0.10.2", program: "gotatun" };

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

/// Builds `packages` in the release profile.
///
/// # Errors
///
/// The build fails.
pub fn build_release(packages: &[&str]) -> Result<()> {
    eprintln!("lab: building {} with optimisation; the first time takes minutes", packages.join(", "));
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    cargo(&["build", "--release", "--locked"].into_iter().chain(packages).collect::<Vec<_>>())
}

/// A binary of the workspace, as built by [`build_release`].
///
/// # Errors
///
/// It has not been built.
pub fn release_binary(name: &str) -> Result<PathBuf> {
    let path = target_dir()?.join("release").join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Environment(format!("{} is not built", path.display())))
}

/// boringtun's own program, built once and kept under the target folder.
///
/// # Errors
///
/// crates.io cannot be reached, or the build fails.
pub fn install_boringtun_cli() -> Result<PathBuf> {
    BORINGTUN.install()
}

/// gotatun's own program, built once and kept under the target folder.
///
/// # Errors
///
/// crates.io cannot be reached, or the build fails.
pub fn install_gotatun_cli() -> Result<PathBuf> {
    GOTATUN.install()
}

/// boringtun's own program, if [`install_boringtun_cli`] has put it there.
///
/// # Errors
///
/// It is not there.
pub fn boringtun_cli() -> Result<PathBuf> {
    let (path, root) = (BORINGTUN.path()?, BORINGTUN.root()?);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::Environment(format!(
        "{path} is not built: `cargo lab test` builds it, or `cargo install {package} --locked \
         --version {version} --root {root}`",
        path = path.display(),
        package = BORINGTUN.package,
        version = BORINGTUN.version,
        root = root.display()
    )))
}

impl Foreign {
    fn install(&self) -> Result<PathBuf> {
        let path = self.path()?;
        if !path.is_file() {
            eprintln!("lab: building {} {} (once)", self.package, self.version);
            let root = self.root()?.to_string_lossy().into_owned();
            cargo(&["install", self.package, "--locked", "--version", self.version, "--root", &root])?;
        }
        Ok(path)
    }

    fn path(&self) -> Result<PathBuf> {
        Ok(self.root()?.join("bin").join(self.program))
    }

    /// The release is part of the name, so that a new one is built when the constant changes.
    fn root(&self) -> Result<PathBuf> {
        Ok(target_dir()?.join(format!("tools/{}-{}", self.package, self.version)))
    }
}

pub(crate) fn target_dir() -> Result<PathBuf> {
    let profile = bin_dir()?;
    Ok(profile.parent().unwrap_or(&profile).to_owned())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    cargo_with(arguments, &[])
}

/// Runs cargo with some variables of its environment set.
pub(crate) fn cargo_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(root())
        .stdout(std::io::stderr())
        .status()
        .map_err(Error::io("run cargo"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Environment(format!("`cargo {}` failed ({status})", arguments.join(" "))))
}
