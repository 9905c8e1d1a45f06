//! The disk's partitions as files: read, written, synced, and read back past the kernel's memory.
//!
//! On a box they are found beside the one that the running root lies on, so a stick with the same names is never
//! touched. For tests and the lab a disk may be an image in a file; its table is read by
//! [`edge_agent_core::update::gpt`].

use edge_agent_core::update::{Slot, gpt};
use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What O_DIRECT wants of addresses, lengths and memory, for every disk there is.
const ALIGNMENT: usize = 4096;

/// Octets that are read back at once.
const PIECE: usize = 1 << 20;

/// A step on the disk that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The system said no.
    #[error("cannot {action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The image's table.
    #[error("{path}: {source}")]
    Table {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: gpt::GptError,
    },
    /// No such partition.
    #[error("{path}: there is no partition called {name}")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// Its GPT name.
        name: &'static str,
    },
    /// The system does not run from a slot.
    #[error("the running root is on no slot of a disk: {0}")]
    NoSlot(String),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError::Io { action, path: path.to_owned(), source }
}

/// A disk with two slots.
#[derive(Clone, Debug)]
pub enum Disk {
    /// An image with a GPT, or a whole device.
    Image(PathBuf),
    /// The folder of a disk in sysfs, with one of each partition in it.
    Kernel(PathBuf),
}

impl Disk {
    /// The disk that the running root lies on, and the slot.
    ///
    /// # Errors
    ///
    /// [`DiskError::NoSlot`].
    pub fn of_running_root() -> Result<(Self, Slot), DiskError> {
        let none = |what: &str| DiskError::NoSlot(what.to_owned());
        let device = std::fs::metadata("/").map_err(io_error("ask after", Path::new("/")))?.dev();
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let slaves = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/slaves"));
        let below = std::fs::read_dir(&slaves).map_err(|_| none("it is no mapped device"))?;
        let partition = below.filter_map(Result::ok).next().ok_or_else(|| none("nothing is below it"))?;
        let partition = std::fs::canonicalize(partition.path()).map_err(io_error("follow", &slaves))?;
        let name = property(&partition, "PARTNAME").ok_or_else(|| none("its partition has no name"))?;
        let slot = Slot::of_root(&name).ok_or_else(|| none("its partition is called otherwise"))?;
        let disk = partition.parent().ok_or_else(|| none("its partition is on no disk"))?;
        Ok((Self::Kernel(disk.to_owned()), slot))
    }

    /// Opens a partition for reading and writing.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    pub fn partition(&self, name: &'static str) -> Result<Partition, DiskError> {
        match self {
            Self::Image(path) => {
                let mut head = vec![0; gpt::HEAD];
                let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
                read.map_err(io_error("read the table of", path))?;
                let found = gpt::partition(&head, name);
                let range = found.map_err(|source| DiskError::Table { path: path.clone(), source })?;
                let range = range.ok_or_else(|| DiskError::Missing { path: path.clone(), name })?;
                Partition::open(path.clone(), range.start, Some(range.end - range.start))
            }
            Self::Kernel(folder) => {
                let entries = std::fs::read_dir(folder).map_err(io_error("list", folder))?;
                let mut folders = entries.filter_map(Result::ok).map(|entry| entry.path());
                let found = folders.find(|path| property(path, "PARTNAME").as_deref() == Some(name));
                let device = found.as_deref().and_then(|path| property(path, "DEVNAME"));
                let device = device.ok_or_else(|| DiskError::Missing { path: folder.clone(), name })?;
                Partition::open(Path::new("/dev").join(device), 0, None)
            }
        }
    }
}

/// A line of a device's `uevent`.
fn property(device: &Path, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(device.join("uevent")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned()))
}

/// An open partition. Addresses are octets from its beginning.
#[derive(Debug)]
pub struct Partition {
    path: PathBuf,
    file: File,
    start: u64,
    length: u64,
}

impl Partition {
    fn open(path: PathBuf, start: u64, length: Option<u64>) -> Result<Self, DiskError> {
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error("open", &path))?;
        let length = match length {
            Some(length) => length,
            None => {
                let end = io::Seek::seek(&mut &file, io::SeekFrom::End(0));
                end.map_err(io_error("measure", &path))?
            }
        };
        Ok(Self { path, file, start, length })
    }

    /// Octets.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Reads `length` octets.
    ///
    /// # Errors
    ///
    /// [`DiskError`], also past the end.
    pub fn read(&self, at: u64, length: usize) -> Result<Vec<u8>, DiskError> {
        self.within(at, length as u64)?;
        let mut octets = vec![0; length];
        let read = self.file.read_exact_at(&mut octets, self.start + at);
        read.map_err(io_error("read", &self.path))?;
        Ok(octets)
    }

    /// Writes `octets`; on the disk only after [`Self::sync`].
    ///
    /// # Errors
    ///
    /// [`DiskError`], also past the end.
    pub fn write(&self, at: u64, octets: &[u8]) -> Result<(), DiskError> {
        self.within(at, octets.len() as u64)?;
        self.file.write_all_at(octets, self.start + at).map_err(io_error("write", &self.path))
    }

    /// Returns when everything written is on the disk.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    pub fn sync(&self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(io_error("sync", &self.path))
    }

    /// Gives `take` the octets of `range`, piece by piece, as the disk has them and not as the kernel remembers them.
    ///
    /// # Errors
    ///
    /// [`DiskError`].
    pub fn read_back(
        &self,
        range: std::ops::Range<u64>,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), DiskError> {
        self.within(range.start, range.end - range.start)?;
        let (file, direct) = self.open_past_memory()?;
        let mut memory = vec![0; PIECE + 2 * ALIGNMENT];
        // No unsafe: an address inside the vector that is aligned.
        let skip = memory.as_ptr().align_offset(ALIGNMENT);
        let mut at = self.start + range.start;
        let end = self.start + range.end;
        while at < end {
            let aligned = at - at % ALIGNMENT as u64;
            let wanted = (end - aligned).min(PIECE as u64).next_multiple_of(ALIGNMENT as u64);
            // At most a piece and a bit.
            let place = &mut memory[skip..skip + wanted as usize];
            let read = read_at(&file, place, aligned).map_err(io_error("read back", &self.path))?;
            let useful = (aligned + read as u64).min(end);
            if useful <= at {
                let error = io::ErrorKind::UnexpectedEof.into();
                return Err(io_error("read back", &self.path)(error));
            }
            take(&place[(at - aligned) as usize..(useful - aligned) as usize]);
            at = useful;
        }
        if !direct {
            tracing::debug!(path = %self.path.display(), "read back without O_DIRECT");
        }
        Ok(())
    }

    /// O_DIRECT where the file system has it; elsewhere the kernel is asked to forget what it holds.
    fn open_past_memory(&self) -> Result<(File, bool), DiskError> {
        let direct = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECT.bits()).open(&self.path);
        match direct {
            Ok(file) => Ok((file, true)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let file = File::open(&self.path).map_err(io_error("open", &self.path))?;
                posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
                    .map_err(|errno| io_error("forget", &self.path)(errno.into()))?;
                Ok((file, false))
            }
            Err(error) => Err(io_error("open", &self.path)(error)),
        }
    }

    fn within(&self, at: u64, length: u64) -> Result<(), DiskError> {
        match at.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(io_error("stay within", &self.path)(io::ErrorKind::InvalidInput.into())),
        }
    }
}

/// Fills `place` as far as there is something.
fn read_at(file: &File, place: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < place.len() {
        match file.read_at(&mut place[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        // A short read that is not aligned is the end of the file.
        if !filled.is_multiple_of(ALIGNMENT) {
            break;
        }
    }
    Ok(filled)
}
