//! A disk of a run's own, ext4 in a file, that can be made to fail as a worn one does.

use crate::namespace::checked;
use crate::{Error, Result, Run};
use nix::mount::{MsFlags, mount};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted disk. Its run unmounts it.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
    image: PathBuf,
}

impl Run {
    /// A new disk of `octets`, mounted at `at`, a path of this run's directory.
    ///
    /// # Errors
    ///
    /// It cannot be made or mounted.
    pub fn mount_disk(&self, at: &Path, octets: u64) -> Result<Disk> {
        let image = at.with_extension("disk");
        let failed = || format!("make the disk {}", image.display());
        std::fs::create_dir_all(at).map_err(Error::io(failed()))?;
        let file = std::fs::File::create(&image).map_err(Error::io(failed()))?;
        file.set_len(octets).map_err(Error::io(failed()))?;
        checked(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let disk = Disk { at: at.to_owned(), image };
        disk.mount()?;
        Ok(disk)
    }
}

impl Disk {
    fn mount(&self) -> Result<()> {
        checked(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.at)).map(drop)
    }

    /// What the kernel does when the disk returns an error for the journal: nothing is written any more, what was
    /// not on it yet is lost, every call that writes fails with EROFS.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn fail(&self) -> Result<()> {
        mount(None::<&str>, &self.at, None::<&str>, MsFlags::MS_REMOUNT, Some("abort"))
            .map_err(Error::os(format!("abort the file system at {}", self.at.display())))
    }

    /// Mounts it anew, as the next start of the machine does. Nobody may have it open.
    ///
    /// # Errors
    ///
    /// It is busy, or does not mount.
    pub fn repair(&self) -> Result<()> {
        checked(Command::new("umount").arg(&self.at))?;
        self.mount()
    }
}
