//! The contents of a slot that does not run: where root and kernel image go, and whether they are there as they should
//! be.
//!
//! Which slot, in which order, and when it counts, is decided elsewhere ([`super::install`], [`super::boot_control`]).

use super::disk::{Disk, DiskError, Partition};
use aws_lc_rs::digest::{Context, SHA256};
use edge_agent_core::update::Slot;
use edge_agent_core::update::fat::{FatError, File, Layout, Volume};
use edge_agent_core::update::kernel_image::{self, KernelImageError};
use edge_agent_core::update::release::Part;
use edge_agent_core::update::verity::{BLOCK, Parameters, ParametersError, Tree};
use std::sync::Arc;

/// The kernel image's file.
pub(super) const KERNEL: &str = "linux.efi";

/// The stub and the sections before the kernel; the command line is among them.
const HEAD: u64 = 1 << 20;

/// Why a slot does not hold what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The boot partition.
    #[error("{0}: {1}")]
    Fat(&'static str, #[source] FatError),
    /// The slot is too small.
    #[error("{what} of {length} octets does not fit {partition} of {room}")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// Its length.
        length: u64,
        /// Where it should go.
        partition: &'static str,
        /// That one's length.
        room: u64,
    },
    /// What came is not what was signed.
    #[error("{0}: its content is not what the repository's metadata says")]
    Content(String),
    /// What was written reads otherwise.
    #[error("{0}: the disk does not give back what was written")]
    ReadBack(String),
    /// The kernel image names no root.
    #[error(transparent)]
    Kernel(#[from] KernelImageError),
    /// The same.
    #[error(transparent)]
    CommandLine(#[from] ParametersError),
    /// They are not of one build.
    #[error("the root is not the one that the kernel image names")]
    Mismatch,
    /// The same root in both slots: by its hash the first process could not tell which slot it started from.
    #[error("it is the root that runs already, under another version")]
    Runs,
}

/// A part's place on the disk.
#[derive(Clone, Debug)]
pub(super) struct Place {
    partition: Arc<Partition>,
    file: File,
}

/// Where the root of `slot` goes.
///
/// # Errors
///
/// [`SlotError`].
pub(super) fn root(disk: &Disk, slot: Slot, length: u64) -> Result<Place, SlotError> {
    let partition = disk.partition(slot.root())?;
    let room = partition.length();
    if length > room {
        return Err(SlotError::TooLarge { what: "the root", length, partition: slot.root(), room });
    }
    // One extent, whatever the length.
    let extents = std::iter::once(0..length).collect();
    Ok(Place { partition: Arc::new(partition), file: File { length, extents } })
}

/// Makes room for the kernel image of `slot` and returns where it goes. The slot's environment must be void.
///
/// # Errors
///
/// [`SlotError`].
pub(super) fn kernel(disk: &Disk, slot: Slot, length: u64) -> Result<Place, SlotError> {
    let partition = disk.partition(slot.boot())?;
    let room = partition.length();
    let too_large = || SlotError::TooLarge { what: "the kernel image", length, partition: slot.boot(), room };
    let length = u32::try_from(length).map_err(|_| too_large())?;
    let mut volume = volume(&partition, slot)?;
    // Going on after a restart: what is written already must stay where it is.
    let held = volume.file(KERNEL).ok().flatten().filter(|file| file.length == u64::from(length));
    let file = match held {
        Some(file) => file,
        None => {
            let file = volume.allot(KERNEL, length).map_err(|error| SlotError::Fat(slot.boot(), error))?;
            write_tables(&partition, &volume)?;
            file
        }
    };
    Ok(Place { partition: Arc::new(partition), file })
}

/// The root that the kernel image in `slot` names; none when there is none that reads.
pub(super) fn root_of(disk: &Disk, slot: Slot) -> Option<Parameters> {
    let partition = disk.partition(slot.boot()).ok()?;
    let file = volume(&partition, slot).ok()?.file(KERNEL).ok()??;
    Place::new(Arc::new(partition), file).named_root().ok()
}

/// The tables of a boot partition.
pub(super) fn volume(partition: &Partition, slot: Slot) -> Result<Volume, SlotError> {
    let fat = |error| SlotError::Fat(slot.boot(), error);
    let layout = Layout::parse(&partition.read(0, 512)?, partition.length()).map_err(fat)?;
    let octets = |range: &std::ops::Range<u64>| {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        partition.read(range.start, length)
    };
    // A layout has at least one table.
    let table = layout.tables.first().map(octets).transpose()?.unwrap_or_default();
    let folder = octets(&layout.folder)?;
    Volume::new(layout, table, folder).map_err(fat)
}

/// Writes the tables of a boot partition, for good.
pub(super) fn write_tables(partition: &Partition, volume: &Volume) -> Result<(), SlotError> {
    for range in &volume.layout().tables {
        partition.write(range.start, volume.table())?;
    }
    partition.write(volume.layout().folder.start, volume.folder())?;
    Ok(partition.sync()?)
}

impl Place {
    pub(super) fn new(partition: Arc<Partition>, file: File) -> Self {
        Self { partition, file }
    }

    /// Writes octets of the content, on the disk only after [`Self::sync`].
    ///
    /// # Errors
    ///
    /// [`SlotError`].
    pub(super) fn write(&self, at: u64, octets: &[u8]) -> Result<(), SlotError> {
        let mut rest = octets;
        for (start, length) in self.pieces(at, octets.len() as u64) {
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            self.partition.write(start, piece)?;
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(SlotError::Content("more came than was announced".into())) }
    }

    /// Returns when everything written is on the disk.
    ///
    /// # Errors
    ///
    /// [`SlotError`].
    pub(super) fn sync(&self) -> Result<(), SlotError> {
        Ok(self.partition.sync()?)
    }

    /// Reads octets of the content.
    ///
    /// # Errors
    ///
    /// [`SlotError`].
    pub(super) fn read(&self, at: u64, length: u64) -> Result<Vec<u8>, SlotError> {
        let mut octets = Vec::new();
        for (start, length) in self.pieces(at, length) {
            octets.extend(self.partition.read(start, length)?);
        }
        Ok(octets)
    }

    /// Gives `take` the whole content as the disk has it.
    ///
    /// # Errors
    ///
    /// [`SlotError`].
    pub(super) fn read_back(&self, mut take: impl FnMut(&[u8])) -> Result<(), SlotError> {
        for (start, length) in self.pieces(0, self.file.length) {
            self.partition.read_back(start..start + length as u64, &mut take)?;
        }
        Ok(())
    }

    /// Checks the content against its signed hash, as the disk has it.
    ///
    /// # Errors
    ///
    /// [`SlotError::ReadBack`].
    pub(super) fn check(&self, part: &Part) -> Result<(), SlotError> {
        let mut hash = Context::new(&SHA256);
        self.read_back(|octets| hash.update(octets))?;
        if hash.finish().as_ref() == part.sha256 {
            return Ok(());
        }
        Err(SlotError::ReadBack(part.name.clone()))
    }

    /// Of a kernel image: the root that it names.
    ///
    /// # Errors
    ///
    /// [`SlotError::Kernel`], [`SlotError::CommandLine`].
    pub(super) fn named_root(&self) -> Result<Parameters, SlotError> {
        let head = self.read(0, self.file.length.min(HEAD))?;
        Ok(Parameters::of_command_line(kernel_image::command_line(&head)?)?)
    }

    /// Of a root: whether it is the one of `parameters`, as the disk has it.
    ///
    /// # Errors
    ///
    /// [`SlotError::Mismatch`].
    pub(super) fn check_root(&self, parameters: &Parameters) -> Result<(), SlotError> {
        let data = parameters.data_blocks.saturating_mul(BLOCK as u64);
        if data > self.file.length {
            return Err(SlotError::Mismatch);
        }
        let mut tree = Tree::new(parameters.salt.clone());
        // Pieces need not end where blocks do.
        let mut begun: Vec<u8> = Vec::with_capacity(2 * BLOCK);
        let mut left = data;
        self.read_back(|octets| {
            let octets = &octets[..octets.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            left -= octets.len() as u64;
            begun.extend_from_slice(octets);
            let whole = begun.len() - begun.len() % BLOCK;
            begun[..whole].chunks_exact(BLOCK).for_each(|block| tree.push(block));
            begun.drain(..whole);
        })?;
        if tree.root_hash() == parameters.root_hash { Ok(()) } else { Err(SlotError::Mismatch) }
    }

    /// Where `length` octets from `at` lie on the partition.
    fn pieces(&self, at: u64, length: u64) -> Vec<(u64, usize)> {
        let (mut skip, mut left, mut pieces) =
            (at, length.min(self.file.length.saturating_sub(at)), Vec::new());
        for extent in &self.file.extents {
            let size = extent.end - extent.start;
            if skip >= size {
                skip -= size;
                continue;
            }
            let here = (size - skip).min(left);
            if here == 0 {
                break;
            }
            pieces.push((extent.start + skip, usize::try_from(here).unwrap_or(usize::MAX)));
            skip = 0;
            left -= here;
        }
        pieces
    }
}
