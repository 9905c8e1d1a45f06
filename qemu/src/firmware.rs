//! The firmware image of the workspace's own programs, built once for all that boot it.
//!
//! The programs are those of the dev profile, which the tests run anyhow: dynamically linked, with the libraries of
//! the image's own packages. Only `verona-init` is compiled anew, since nothing but a static program can be the
//! first process. So an image costs its packing, not another compilation of everything. A released image has static
//! programs of the release profile (`verona-image build` without `--programs`).

use crate::namespace::checked;
use crate::{Error, Result, vendor, workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Programs of the image's root, as cargo builds them.
const PROGRAMS: [&str; 3] = ["edge-tunnel", "edge-agent", "edgectl"];
/// What the image says of itself; updates of it have higher ones.
pub const VERSION: &str = "1.0.0";
/// Rust's name of the image's machine.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    /// Virtual machines; what the tests boot, since its kernel starts fastest.
    Cloud,
    /// Boxes: the kernel with the drivers of hardware, its watchdogs among them.
    Generic,
}

impl Edition {
    /// As in names of files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
        }
    }
}

/// The files of a built image.
#[derive(Clone, Debug)]
pub struct Image {
    folder: PathBuf,
    edition: Edition,
}

impl Image {
    /// The file of a kind: `img`, `root`, `efi`, `vmlinuz`, `initramfs`, `cmdline`, … (the README of `image/` has them
    /// all).
    #[must_use]
    pub fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("verona-{}.{kind}", self.edition.name()))
    }

    /// The image whose files are in `folder`.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn at(folder: &Path) -> Result<Self> {
        let images =
            [Edition::Cloud, Edition::Generic].map(|edition| Self { folder: folder.to_owned(), edition });
        let found = images.into_iter().find(|image| image.file("sha256").is_file());
        found.ok_or_else(|| Error::Environment(format!("{} holds no firmware image", folder.display())))
    }

    /// What it is for.
    #[must_use]
    pub fn edition(&self) -> Edition {
        self.edition
    }

    /// The folder with all of them.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The kernel's command line, with the root's hash.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn command_line(&self) -> Result<String> {
        let path = self.file("cmdline");
        fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))
    }
}

/// The image, as [`build`] has built it.
///
/// # Errors
///
/// It has not been built.
pub fn image() -> Result<Image> {
    Image::at(&folder()?.join("image"))
        .map_err(|error| Error::Environment(format!("{error}: `cargo lab test` builds it")))
}

/// Builds the image of the workspace's binaries ([`workspace::build`] comes before), unless it is there and newer
/// than all that it is made of.
///
/// # Errors
///
/// A program does not compile, or `verona-image` cannot build an image of them.
pub fn build() -> Result<Image> {
    let folder = folder()?;
    let (programs, output) = (folder.join("programs"), folder.join("image"));
    let init = build_init()?;
    let image = Image { folder: output.clone(), edition: Edition::Cloud };
    if is_current(&image, &init)? {
        return Ok(image);
    }
    eprintln!("lab: building the firmware image; the first time fetches some 100 MB of Debian packages");
    fs::create_dir_all(&programs).map_err(Error::io(format!("create {}", programs.display())))?;
    for program in inputs()?.iter().chain([&init]) {
        let name = program.file_name().unwrap_or_default();
        checked(Command::new("strip").arg("--strip-all").arg("-o").arg(programs.join(name)).arg(program))?;
    }
    let mut command = command(&programs, &folder.join("cache"), &output)?;
    let status =
        command.stdout(std::process::Stdio::null()).status().map_err(Error::io("run verona-image"))?;
    if !status.success() {
        return Err(Error::Environment(format!(
            "verona-image could not build the firmware image ({status})"
        )));
    }
    Ok(image)
}

/// What builds an image of this checkout with the programs in a folder.
///
/// # Errors
///
/// `verona-image` is not built.
pub fn command(programs: &Path, cache: &Path, output: &Path) -> Result<Command> {
    let root = workspace::root();
    let mut command = Command::new(workspace::binary("verona-image")?);
    command.arg("build").arg("--programs").arg(programs).arg("--output").arg(output);
    command.arg("--cache").arg(cache).arg("--sources").arg(root);
    command.arg("--overlay").arg(root.join("buildroot-overlay"));
    command.args(["--firmware-version", VERSION, "--floor", VERSION, "--firmware-root"]);
    command.arg(vendor::trusted_root()?);
    Ok(command)
}

/// Below the target folder.
fn folder() -> Result<PathBuf> {
    Ok(workspace::target_dir()?.join("firmware"))
}

fn inputs() -> Result<Vec<PathBuf>> {
    PROGRAMS.iter().map(|name| workspace::binary(name)).collect()
}

/// The first process, static.
fn build_init() -> Result<PathBuf> {
    let flags = [("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")];
    workspace::cargo_with(
        &["build", "--quiet", "--locked", "--package", "verona-init", "--target", TARGET],
        &flags,
    )?;
    Ok(workspace::target_dir()?.join(TARGET).join("debug/verona-init"))
}

/// Whether the image is newer than all that it is made of.
fn is_current(image: &Image, init: &Path) -> Result<bool> {
    let Some(built) = modified(&image.file("sha256")) else { return Ok(false) };
    let mut newest = vec![workspace::binary("verona-image")?, init.to_owned(), vendor::trusted_root()?];
    newest.extend(inputs()?);
    let mut folders = vec![workspace::root().join("buildroot-overlay")];
    while let Some(folder) = folders.pop() {
        // Its own time, too: a file that was removed leaves no other trace.
        newest.push(folder.clone());
        let entries = fs::read_dir(&folder).map_err(Error::io(format!("read {}", folder.display())))?;
        for entry in entries.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder { folders.push(entry.path()) } else { newest.push(entry.path()) }
        }
    }
    Ok(newest.iter().all(|path| modified(path).is_some_and(|time| time < built)))
}

/// When a file or a link was changed.
fn modified(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path).and_then(|data| data.modified()).ok()
}
