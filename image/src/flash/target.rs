//! Which disk may be written to: a whole disk that nobody uses, and that the operator has named by its serial number.
//!
//! A path such as `/dev/sdb` names another disk tomorrow, a serial number does not. What is known of disks is read
//! from sysfs; that nobody uses one is asked of the kernel, which gives a claim to one at a time.

use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};
use serde::Serialize;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A disk of this machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Disk {
    /// Such as `/dev/sdb`.
    pub(crate) path: PathBuf,
    /// Octets.
    pub(crate) size: u64,
    pub(crate) model: String,
    /// By which the operator names it: the disk's own serial number, or the file behind a loop device.
    pub(crate) serial: String,
    /// `usb`, `nvme`, `ata`, …
    pub(crate) transport: String,
    /// What uses it; none when it may be written to.
    pub(crate) in_use: Option<String>,
}

impl Disk {
    /// For a person who looks for the right one.
    pub(crate) fn line(&self) -> String {
        let Self { path, size, model, serial, transport, in_use } = self;
        let used = in_use.as_ref().map_or_else(String::new, |by| format!("  IN USE: {by}"));
        let gigabytes = *size as f64 / 1e9;
        format!("{:14} {transport:7} {gigabytes:>7.1} GB  {model}  serial {serial}{used}", path.display())
    }
}

/// A disk that is ours until the file is closed.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) disk: Disk,
    pub(crate) file: File,
}

/// The disk must not be written to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("{doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is no disk", .0.display())]
    NoDisk(PathBuf),
    #[error("{} is a partition: name the whole disk", .0.display())]
    Partition(PathBuf),
    #[error("{} is in use: {by}", .path.display())]
    InUse { path: PathBuf, by: String },
    #[error("{} has the serial number {found}, not {wanted}: it is not the disk that was meant", .path.display())]
    Serial { path: PathBuf, found: String, wanted: String },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TargetError {
    move |source| TargetError::Io { doing, path: path.to_owned(), source }
}

/// All disks of this machine, in the order of their names.
pub(crate) fn disks() -> Vec<Disk> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort();
    let disks = names.iter().filter_map(|sys| describe(sys));
    // Loop devices and the like that have nothing behind them.
    disks.filter(|disk| disk.size > 0).collect()
}

/// What is known of the disk at `path`.
pub(crate) fn disk_at(path: &Path) -> Result<Disk, TargetError> {
    let data = fs::metadata(path).map_err(failed("looking at", path))?;
    if !data.file_type().is_block_device() {
        return Err(TargetError::NoDisk(path.to_owned()));
    }
    let sys = PathBuf::from(format!("/sys/dev/block/{}:{}", major(data.rdev()), minor(data.rdev())));
    let sys = sys.canonicalize().map_err(failed("looking at", path))?;
    if sys.join("partition").exists() {
        return Err(TargetError::Partition(path.to_owned()));
    }
    let disk = describe(&sys).ok_or_else(|| TargetError::NoDisk(path.to_owned()))?;
    Ok(Disk { path: path.to_owned(), ..disk })
}

/// Claims the disk at `path` for writing if its serial number is `wanted` and nobody uses it.
pub(crate) fn claim(path: &Path, wanted: &str) -> Result<Claimed, TargetError> {
    let disk = disk_at(path)?;
    if disk.serial.is_empty() || disk.serial != wanted {
        let (found, wanted) = (disk.serial, wanted.to_owned());
        return Err(TargetError::Serial { path: path.to_owned(), found, wanted });
    }
    if let Some(by) = disk.in_use {
        return Err(TargetError::InUse { path: path.to_owned(), by });
    }
    let mut options = File::options();
    let file = options.read(true).write(true).custom_flags(OFlag::O_EXCL.bits()).open(path);
    let file = file.map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => {
            TargetError::InUse { path: path.to_owned(), by: "the kernel gives no claim to it".to_owned() }
        }
        _ => failed("opening", path)(error),
    })?;
    Ok(Claimed { disk, file })
}

fn describe(sys: &Path) -> Option<Disk> {
    let text = |name: &str| fs::read_to_string(sys.join(name)).ok().map(|text| text.trim().to_owned());
    let name = sys.file_name()?.to_string_lossy().into_owned();
    let serials = ["device/serial", "serial", "device/wwid", "wwid", "loop/backing_file"];
    let serial = serials.iter().find_map(|file| text(file).filter(|text| !text.is_empty()));
    Some(Disk {
        path: Path::new("/dev").join(&name),
        size: text("size")?.parse::<u64>().ok()?.checked_mul(512)?,
        model: text("device/model").unwrap_or_default(),
        serial: serial.unwrap_or_default(),
        transport: transport(sys, &name),
        in_use: user_of(sys),
    })
}

fn transport(sys: &Path, name: &str) -> String {
    let real = sys.canonicalize().unwrap_or_else(|_| sys.to_owned());
    let path = real.to_string_lossy();
    let known = ["usb", "nvme", "virtio", "mmc", "ata"];
    let found = known.iter().find(|transport| path.contains(&format!("/{transport}")));
    let letters = |name: &str| name.trim_end_matches(|digit: char| digit.is_ascii_digit()).to_owned();
    found.map_or_else(|| letters(name), ToString::to_string)
}

/// Who uses the disk or a partition of it: a mount, swap space, or a device upon it.
fn user_of(sys: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let children = fs::read_dir(sys).ok()?.flatten().map(|entry| entry.path());
    let parts = children.filter(|path| path.join("partition").exists()).chain([sys.to_owned()]);
    for part in parts {
        let name = part.file_name()?.to_string_lossy().into_owned();
        let device = fs::read_to_string(part.join("dev")).unwrap_or_default();
        // Fields of mountinfo: id, parent, major:minor, root, mount point.
        let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        if let Some(mount) = fields.find(|fields| fields.get(2) == Some(&device.trim())) {
            return Some(format!("{name} is mounted at {}", mount.get(4).unwrap_or(&"/")));
        }
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&format!("/dev/{name}"))) {
            return Some(format!("{name} is swap space"));
        }
        let mut holders = fs::read_dir(part.join("holders")).into_iter().flatten().flatten();
        if let Some(holder) = holders.next() {
            return Some(format!("{name} is part of {}", holder.file_name().to_string_lossy()));
        }
    }
    None
}
