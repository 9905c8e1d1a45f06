//! Our own programs, linked statically so that they run on the box whatever its C library is.
//!
//! Paths of the building machine are kept out of them; with one toolchain and one lock file they are the same
//! bit for bit wherever they are built.

use super::recipe::{OUR_CRATES, TARGET};
use super::{BuildError, io_error};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Compiles the programs of the checkout at `sources` and gives the folder that they are in. The compiler speaks
/// to standard error: it takes minutes the first time.
pub(super) fn compile(sources: &Path, cache: &Path) -> Result<PathBuf, BuildError> {
    let target = cache.join("programs");
    fs::create_dir_all(&target).map_err(io_error("making", &target))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(&cargo);
    command.current_dir(sources).args(["build", "--locked", "--release", "--target", TARGET]);
    command.arg("--target-dir").arg(&target);
    for name in OUR_CRATES {
        command.args(["--package", name]);
    }
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
        .unwrap_or_default();
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        "-Cstrip=symbols".to_owned(),
        format!("--remap-path-prefix={}=/source", sources.display()),
        format!("--remap-path-prefix={}=/cargo", home.display()),
    ];
    // The encoded form: a folder's name may contain a space.
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(io_error("starting", Path::new(&cargo)))?;
    if !status.success() {
        return Err(BuildError::Compiler { status });
    }
    Ok(target.join(TARGET).join("release"))
}
