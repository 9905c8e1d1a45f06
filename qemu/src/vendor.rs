//! The vendor of the firmware: its repository, and images of further versions for boxes to be updated to.
//!
//! Keys and the first root of trust are made once and kept below the target folder, so that images that trust them
//! are built once, too; each run has a repository of its own. What a box makes of a release, and of one that was
//! broken on purpose, is for the tests.

use crate::firmware::{Edition, Image};
use crate::namespace::checked;
use crate::parts::Center;
use crate::{Error, Result, workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A change to a file of the overlay: its path below `buildroot-overlay/`, a text that it has once, and what comes in
/// its place.
pub type Edit = (&'static str, &'static str, &'static str);

/// The vendor in one run.
#[derive(Debug)]
pub struct Vendor {
    /// What lasts over runs.
    kept: PathBuf,
    /// Keys and repository of this run.
    folder: PathBuf,
}

impl Vendor {
    /// With an empty repository in `folder`, which is made.
    ///
    /// # Errors
    ///
    /// The disk, or `verona-image` refuses.
    pub fn new(folder: &Path) -> Result<Self> {
        trusted_root()?;
        let vendor = Self { kept: kept()?, folder: folder.to_owned() };
        fs::create_dir_all(folder).map_err(Error::io(format!("create {}", folder.display())))?;
        for name in ["keys", "repository"] {
            checked(Command::new("cp").arg("-r").arg(vendor.kept.join(name)).arg(folder))?;
        }
        // The metadata may be from long ago.
        vendor.sign(&["renew"])?;
        Ok(vendor)
    }

    /// Somebody else, with keys that no image knows.
    ///
    /// # Errors
    ///
    /// The disk, or `verona-image` refuses.
    pub fn stranger(folder: &Path) -> Result<Self> {
        let vendor = Self { kept: folder.to_owned(), folder: folder.to_owned() };
        fs::create_dir_all(folder).map_err(Error::io(format!("create {}", folder.display())))?;
        vendor.sign(&["create"])?;
        Ok(vendor)
    }

    /// Builds the image of `version` of the edition `cloud` from the workspace's programs
    /// ([`firmware::build`](crate::firmware::build) comes before) and the overlay with `edits`, unless it is there.
    ///
    /// # Errors
    ///
    /// An edit does not fit its file, or `verona-image` refuses.
    pub fn build(&self, version: &str, edits: &[Edit]) -> Result<Image> {
        self.build_for(Edition::Cloud, version, edits)
    }

    /// As [`Vendor::build`], of any edition.
    ///
    /// # Errors
    ///
    /// As for [`Vendor::build`].
    pub fn build_for(&self, edition: Edition, version: &str, edits: &[Edit]) -> Result<Image> {
        let programs = workspace::target_dir()?.join("firmware/programs");
        let folder = self.kept.join(format!("{}-{version}", edition.name()));
        let overlay = folder.join("overlay");
        let parts =
            [&programs, &workspace::root().join("buildroot-overlay"), &workspace::binary("verona-image")?];
        // Whatever it was built of, in one text: another one, another image.
        let made_of = format!("{edits:?}\n{}", fingerprint(&parts)?);
        let note = folder.join("made-of");
        if fs::read_to_string(&note).is_ok_and(|before| before == made_of) {
            return Image::at(&folder);
        }
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
        checked(Command::new("cp").arg("-a").arg(workspace::root().join("buildroot-overlay")).arg(&overlay))?;
        edits.iter().try_for_each(|edit| apply(&overlay, *edit))?;
        let mut command = Command::new(workspace::binary("verona-image")?);
        command.args([
            "build",
            "--edition",
            edition.name(),
            "--firmware-version",
            version,
            "--floor",
            "1.0.0",
            "--firmware-root",
        ]);
        command.arg(trusted_root()?);
        command.arg("--programs").arg(&programs).arg("--output").arg(&folder).arg("--overlay").arg(&overlay);
        command.arg("--cache").arg(workspace::target_dir()?.join("firmware/cache"));
        command.arg("--sources").arg(workspace::root());
        checked(&mut command)?;
        fs::write(&note, made_of).map_err(Error::io(format!("write {}", note.display())))?;
        Image::at(&folder)
    }

    /// Adds a release for boxes of `edition` to the repository.
    ///
    /// # Errors
    ///
    /// `verona-image` refuses.
    pub fn add(&self, edition: Edition, version: &str, root: &Path, kernel: &Path) -> Result<()> {
        let (root, kernel) = (root.to_string_lossy(), kernel.to_string_lossy());
        self.sign(&[
            "add",
            "--edition",
            edition.name(),
            "--version",
            version,
            "--root",
            &root,
            "--kernel",
            &kernel,
        ])
    }

    /// `verona-image repository …` with this run's keys and repository.
    ///
    /// # Errors
    ///
    /// It refuses.
    pub fn sign(&self, arguments: &[&str]) -> Result<()> {
        checked(&mut repository_command(&self.folder, arguments)?).map(drop)
    }

    /// Hands the repository to `center`, which checks it as a box would, and wants `version` on every edge.
    ///
    /// # Errors
    ///
    /// The center refuses.
    pub fn publish(&self, center: &Center, version: &str) -> Result<()> {
        let mut command = center.place().command(workspace::binary("verona-center")?);
        command.args(["firmware", "publish", "--from"]).arg(self.repository());
        checked(command.arg("--data").arg(center.data().join("web")))?;
        want(center, version)
    }

    /// The folder of the repository.
    #[must_use]
    pub fn repository(&self) -> PathBuf {
        self.folder.join("repository")
    }

    /// The folder of the keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.folder.join("keys")
    }
}

/// The root of trust of all images, `1.root.json`; made, with its keys, where there is none.
///
/// # Errors
///
/// The disk, or `verona-image` refuses.
pub fn trusted_root() -> Result<PathBuf> {
    let kept = kept()?;
    let root = kept.join("repository/metadata/1.root.json");
    if !root.is_file() {
        fs::create_dir_all(&kept).map_err(Error::io("make the vendor's folder"))?;
        checked(&mut repository_command(&kept, &["create"])?)?;
    }
    Ok(root)
}

/// What lasts over runs.
fn kept() -> Result<PathBuf> {
    Ok(workspace::target_dir()?.join("firmware/vendor"))
}

fn repository_command(folder: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(workspace::binary("verona-image")?);
    command.arg("repository").args(arguments);
    command.arg("--keys").arg(folder.join("keys")).arg("--repository").arg(folder.join("repository"));
    Ok(command)
}

/// Wants `version` on every edge of the center, at once.
///
/// # Errors
///
/// The center refuses.
pub fn want(center: &Center, version: &str) -> Result<()> {
    center.admin(&["firmware", "ring", "stable", "--version", version, "--spread", "0s"]).map(drop)
}

/// A copy of the kernel image at `kernel` in `folder`, with `to` in place of `from`, which has the same length and
/// is there once. So its command line can be changed without the tools that build one.
///
/// # Errors
///
/// It is not there once, or the disk.
pub fn altered_kernel(kernel: &Path, folder: &Path, (from, to): (&str, &str)) -> Result<PathBuf> {
    let fail = |rule: &str| Error::Environment(format!("{}: {from:?} {rule}", kernel.display()));
    let mut octets = fs::read(kernel).map_err(Error::io(format!("read {}", kernel.display())))?;
    let mut places = octets.windows(from.len()).enumerate().filter(|(_, window)| *window == from.as_bytes());
    let (Some((at, _)), None) = (places.next(), places.next()) else {
        return Err(fail("must be there once"));
    };
    if from.len() != to.len() {
        return Err(fail("must be as long as what replaces it"));
    }
    octets[at..at + to.len()].copy_from_slice(to.as_bytes());
    let path = folder.join("altered.efi");
    fs::write(&path, octets).map_err(Error::io(format!("write {}", path.display())))?;
    Ok(path)
}

fn apply(overlay: &Path, (file, from, to): Edit) -> Result<()> {
    let path = overlay.join(file);
    let text = fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
    if text.matches(from).count() != 1 {
        return Err(Error::Environment(format!("{}: {from:?} must be there once", path.display())));
    }
    fs::write(&path, text.replace(from, to)).map_err(Error::io(format!("write {}", path.display())))
}

/// Changes whenever a file of `parts`, or below them, does.
fn fingerprint(parts: &[&PathBuf]) -> Result<String> {
    let mut command = Command::new("find");
    command.args(parts).args(["-printf", "%p %s %T@\n"]);
    let listed = checked(&mut command)?.stdout;
    let mut lines: Vec<&[u8]> = listed.split(|octet| *octet == b'\n').collect();
    lines.sort_unstable();
    Ok(String::from_utf8_lossy(&lines.join(&b'\n')).into_owned())
}
