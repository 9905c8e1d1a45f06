//! Loads the modules that the root needs, in the order in which the image builder wrote them down:
//! dependencies first. A module that the machine has no use for costs a few milliseconds and does no harm.

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A module could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("loading {}", .path.display())]
pub(crate) struct ModuleError {
    path: PathBuf,
    source: io::Error,
}

/// Loads each file that `order` in `folder` names, one a line.
///
/// # Errors
///
/// The list or a module cannot be read, or the kernel refuses a module for any reason but that it is loaded
/// already or has no hardware here.
pub(crate) fn load_all(folder: &Path) -> Result<(), ModuleError> {
    let order = folder.join("order");
    let list = fs::read_to_string(&order).map_err(|source| ModuleError { path: order, source })?;
    for name in list.lines().filter(|name| !name.is_empty()) {
        let path = folder.join(name);
        load(&path).map_err(|source| ModuleError { path, source })?;
    }
    Ok(())
}

fn load(path: &Path) -> io::Result<()> {
    match finit_module(&File::open(path)?, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
