//! A machine's disk: a layer over an image.

use crate::namespace::checked;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A layer in qcow2: it holds what a machine wrote, and its snapshots.
#[derive(Clone, Debug)]
pub struct Disk(PathBuf);

impl Disk {
    /// A fresh layer at `path` over the raw image `image`, which must not change from then on. A larger `size` in
    /// MiB is free space at the disk's end.
    ///
    /// # Errors
    ///
    /// qemu-img refuses.
    pub fn over(image: &Path, path: &Path, size: Option<u64>) -> Result<Self> {
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]).arg(image).arg(path);
        command.args(size.map(|mebibytes| format!("{mebibytes}M")));
        checked(&mut command)?;
        Ok(Self(path.to_owned()))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Copies an image with its holes.
///
/// # Errors
///
/// It cannot be read, or there is no room.
pub fn copy_image(from: &Path, to: &Path) -> Result<()> {
    if !from.is_file() {
        return Err(Error::Environment(format!("there is no image {}", from.display())));
    }
    checked(Command::new("cp").arg("--sparse=always").arg(from).arg(to)).map(drop)
}
