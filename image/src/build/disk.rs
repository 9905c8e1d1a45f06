//! The disk image: a GPT with the boot chooser, two slots, the factory record's partition and room for data.
//!
//! Slot A is filled, slot B is empty and its environment invalid: the first update fills it. `data` is left
//! blank and gets its file system at the first start, when the disk's real size is known.

use super::tool::Prefix;
use super::{BuildError, io_error};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
/// Room for the table, and the alignment of all partitions.
const FIRST: u64 = MIB;
/// A file is copied in pieces of this size; a piece of zeros becomes a hole.
const PIECE: usize = 1 << 16;

/// The type of a partition that is Linux's (UAPI "Discoverable Partitions" names none for these).
const LINUX: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
const EFI_SYSTEM: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
/// EFI Boot Guard looks for its environments on any FAT partition of its own disk.
const BASIC_DATA: &str = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7";

/// One row of the table of partitions.
struct Partition {
    name: &'static str,
    kind: &'static str,
    size: u64,
}

/// In the order of the disk. A box's `data` grows to the end of its disk when it is flashed.
const PARTITIONS: &[Partition] = &[
    Partition { name: "esp", kind: EFI_SYSTEM, size: 64 * MIB },
    Partition { name: "BOOT0", kind: BASIC_DATA, size: 64 * MIB },
    Partition { name: "BOOT1", kind: BASIC_DATA, size: 64 * MIB },
    Partition { name: "root-a", kind: LINUX, size: 512 * MIB },
    Partition { name: "root-b", kind: LINUX, size: 512 * MIB },
    Partition { name: "factory", kind: LINUX, size: 16 * MIB },
    Partition { name: "data", kind: LINUX, size: 128 * MIB },
];

/// What goes onto the disk.
pub(crate) struct Contents<'a> {
    /// `efibootguardx64.efi`.
    pub(crate) chooser: &'a Path,
    /// The unified kernel image of slot A.
    pub(crate) kernel: &'a Path,
    /// The root of slot A, with its hash tree.
    pub(crate) root: &'a Path,
    /// Seconds that the boot chooser gives a slot to start and feed the hardware watchdog; 0 leaves that alone.
    pub(crate) watchdog: u32,
}

/// Writes the image at `disk`; `work` is for intermediate files.
pub(crate) fn assemble(
    prefix: &Prefix,
    contents: &Contents<'_>,
    work: &Path,
    disk: &Path,
) -> Result<(), BuildError> {
    let size = FIRST + PARTITIONS.iter().map(|partition| partition.size).sum::<u64>() + MIB;
    let image = File::create(disk).map_err(io_error("creating", disk))?;
    image.set_len(size).map_err(io_error("sizing", disk))?;
    drop(image);
    let script = table(&PARTITIONS.iter().collect::<Vec<_>>());
    prefix
        .tool("sfdisk")
        .arguments(["--quiet", "--wipe=never"])
        .argument(disk)
        .output_for(Some(script.as_bytes()))?;

    let esp = FatImage::new(prefix, work, "esp", 0x5645_0001)?;
    esp.copy(contents.chooser, "::/EFI/BOOT/BOOTX64.EFI")?;
    let boot0 = FatImage::new(prefix, work, "BOOT0", 0x5645_0002)?;
    boot0.copy(contents.kernel, "::/linux.efi")?;
    boot0.copy(&environment(prefix, work, "BOOT0", Some(contents.watchdog))?, "::/BGENV.DAT")?;
    let boot1 = FatImage::new(prefix, work, "BOOT1", 0x5645_0003)?;
    boot1.copy(&environment(prefix, work, "BOOT1", None)?, "::/BGENV.DAT")?;
    let filled: [(&str, &Path); 4] =
        [("esp", &esp.path), ("BOOT0", &boot0.path), ("BOOT1", &boot1.path), ("root-a", contents.root)];
    for (name, file) in filled {
        place(file, name, disk)?;
    }
    Ok(())
}

/// sfdisk's script. The identifiers are fixed: boxes are told apart by their keys, not by their disks.
fn table(partitions: &[&Partition]) -> String {
    let mut script = String::from("label: gpt\nlabel-id: 5645524F-4E41-4544-4745-000000000000\n");
    let mut start = FIRST / SECTOR;
    for (number, partition) in (1..).zip(partitions) {
        let (kind, name, sectors) = (partition.kind, partition.name, partition.size / SECTOR);
        script.push_str(&format!(
            "start={start}, size={sectors}, type={kind}, name={name}, \
             uuid=5645524F-4E41-4544-4745-{number:012}\n"
        ));
        start += sectors;
    }
    script
}

/// Where a partition begins, and how long it is, in octets.
fn extent(name: &str) -> Option<(u64, u64)> {
    let mut start = FIRST;
    for partition in PARTITIONS {
        if partition.name == name {
            return Some((start, partition.size));
        }
        start += partition.size;
    }
    None
}

/// Copies a file to where the partition `name` begins, leaving holes where there are only zeros.
fn place(file: &Path, name: &str, disk: &Path) -> Result<(), BuildError> {
    let (start, room) = extent(name).ok_or(BuildError::Missing { what: "a partition of that name" })?;
    let mut from = File::open(file).map_err(io_error("opening", file))?;
    let length = from.metadata().map_err(io_error("reading", file))?.len();
    if length > room {
        return Err(BuildError::TooLarge { file: file.to_owned(), name: name.to_owned(), length, room });
    }
    let mut to = File::options().write(true).open(disk).map_err(io_error("opening", disk))?;
    to.seek(SeekFrom::Start(start)).map_err(io_error("seeking in", disk))?;
    copy_sparse(&mut from, &mut to).map_err(io_error("writing", disk))
}

fn copy_sparse(from: &mut File, to: &mut File) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let mut filled = 0;
        while filled < piece.len() {
            match from.read(&mut piece[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        if filled == 0 {
            return Ok(());
        }
        if piece[..filled].iter().all(|&octet| octet == 0) {
            to.seek(SeekFrom::Current(filled as i64))?;
        } else {
            to.write_all(&piece[..filled])?;
        }
    }
}

/// EFI Boot Guard's environment of a slot: with the seconds of its watchdog for the one that is installed, as the
/// first revision, and none for one that is invalid.
fn environment(
    prefix: &Prefix,
    work: &Path,
    label: &str,
    installed: Option<u32>,
) -> Result<PathBuf, BuildError> {
    let path = work.join(format!("{label}.env"));
    let tool = prefix.tool("bg_setenv").argument("--filepath").argument(&path);
    let tool = match installed {
        Some(watchdog) => tool
            .argument("--revision=1")
            .argument(format!("--kernel=L:{label}:linux.efi"))
            .argument(format!("--watchdog={watchdog}"))
            .arguments(["--ustate=0", "--in_progress=0"]),
        None => tool.arguments(["--revision=0", "--ustate=0", "--in_progress=0"]),
    };
    tool.run()?;
    Ok(path)
}

/// A FAT file system in a file, the same whenever it is made.
struct FatImage<'a> {
    prefix: &'a Prefix,
    path: PathBuf,
}

impl<'a> FatImage<'a> {
    fn new(prefix: &'a Prefix, work: &Path, label: &str, serial: u32) -> Result<Self, BuildError> {
        let path = work.join(format!("{label}.fat"));
        let (_, size) = extent(label).ok_or(BuildError::Missing { what: "a partition of that name" })?;
        // A new file, so that what an earlier build left is not in it.
        let _ = fs::remove_file(&path);
        let file = File::create(&path).map_err(io_error("creating", &path))?;
        file.set_len(size).map_err(io_error("sizing", &path))?;
        prefix
            .tool("mkfs.fat")
            .arguments(["-F", "16", "--invariant", "-n", label, "-i"])
            .argument(format!("{serial:08x}"))
            .argument(&path)
            .run()?;
        Ok(Self { prefix, path })
    }

    /// Copies a file to a path like `::/EFI/BOOT/BOOTX64.EFI`, with the folders that it needs.
    fn copy(&self, from: &Path, to: &str) -> Result<(), BuildError> {
        let parts: Vec<&str> = to.trim_start_matches("::/").split('/').collect();
        for depth in 1..parts.len() {
            let folder = format!("::/{}", parts[..depth].join("/"));
            self.mtool("mmd").argument(folder).run()?;
        }
        self.mtool("mcopy").argument(from).argument(to).run()?;
        Ok(())
    }

    fn mtool(&self, name: &str) -> super::tool::Tool {
        // mtools takes the time of its entries from here, and must not ask when in doubt.
        let epoch = "315532800";
        self.prefix.tool(name).environment("SOURCE_DATE_EPOCH", epoch).argument("-i").argument(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_each_other() {
        assert_eq!(extent("esp"), Some((MIB, 64 * MIB)));
        assert_eq!(extent("root-a"), Some((193 * MIB, 512 * MIB)));
        assert_eq!(extent("swap"), None);
        let script = table(&PARTITIONS.iter().collect::<Vec<_>>());
        assert!(script.contains("start=395264, size=1048576, "), "{script}");
        assert!(script.ends_with("uuid=5645524F-4E41-4544-4745-000000000007\n"), "{script}");
    }
}
