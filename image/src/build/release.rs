//! The files of one image, by their kind, and the list of checksums that is signed.
//!
//! All lie in one folder and begin with `verona-<edition>.`; `build` makes them, `sign` replaces what a signature
//! changes, `flash` and the update take them from there.

use super::recipe::Edition;
use super::{BuildError, io_error};
use crate::digest::{Sha256, hex};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// One file of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The whole disk, sparse.
    Disk,
    /// The disk, compressed.
    CompressedDisk,
    /// Which blocks of the disk hold something, with their checksums.
    BlockMap,
    /// The disk for hypervisors.
    Qcow2,
    /// The root with its hash tree, as a slot holds it; half of an update.
    Root,
    /// The unified kernel image of that root; the other half.
    KernelImage,
    /// EFI Boot Guard, as the `esp` holds it.
    Chooser,
    /// The parts of the unified kernel image, for hypervisors that start a kernel themselves.
    Kernel,
    /// See [`Kind::Kernel`].
    Initramfs,
    /// See [`Kind::Kernel`].
    CommandLine,
    /// What the image is made of, CycloneDX.
    Sbom,
}

impl Kind {
    /// All of them, in the order in which they are told.
    pub(crate) const ALL: [Self; 11] = [
        Self::Disk,
        Self::CompressedDisk,
        Self::BlockMap,
        Self::Qcow2,
        Self::Root,
        Self::KernelImage,
        Self::Chooser,
        Self::Kernel,
        Self::Initramfs,
        Self::CommandLine,
        Self::Sbom,
    ];

    /// The end of the file's name.
    pub(crate) const fn suffix(self) -> &'static str {
        match self {
            Self::Disk => "img",
            Self::CompressedDisk => "img.gz",
            Self::BlockMap => "bmap",
            Self::Qcow2 => "qcow2",
            Self::Root => "root",
            Self::KernelImage => "efi",
            Self::Chooser => "chooser.efi",
            Self::Kernel => "vmlinuz",
            Self::Initramfs => "initramfs",
            Self::CommandLine => "cmdline",
            Self::Sbom => "cdx.json",
        }
    }
}

/// The folder and the beginning of the names.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    folder: PathBuf,
    edition: Edition,
}

impl Release {
    /// The image of `edition` in `folder`.
    pub(crate) fn new(folder: &Path, edition: Edition) -> Self {
        Self { folder: folder.to_owned(), edition }
    }

    /// Whose image it is.
    pub(crate) fn edition(&self) -> Edition {
        self.edition
    }

    /// Where the file of a kind is.
    pub(crate) fn path(&self, kind: Kind) -> PathBuf {
        self.folder.join(format!("verona-{}.{}", self.edition.name(), kind.suffix()))
    }

    /// The list of checksums.
    pub(crate) fn checksums(&self) -> PathBuf {
        self.folder.join(format!("verona-{}.sha256", self.edition.name()))
    }

    /// The list of checksums, signed.
    pub(crate) fn signature(&self) -> PathBuf {
        self.folder.join(format!("verona-{}.sha256.dsse", self.edition.name()))
    }

    /// Writes the list of checksums, in the form of `sha256sum`. The disk itself is left out: the block map has
    /// its checksums, and covers what is written to a box.
    pub(crate) fn write_checksums(&self) -> Result<(), BuildError> {
        let path = self.checksums();
        let mut list = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Disk) {
            let file = self.path(kind);
            let sum = Sha256::of_file(&file).map_err(io_error("reading", &file))?;
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Into memory: this cannot fail.
            let _ = writeln!(list, "{}  {name}", hex(&sum));
        }
        fs::write(&path, list).map_err(io_error("writing", &path))
    }
}
