//! From the parts of an image (boot chooser, kernel image, root) to what is handed out: disk, compressed disk,
//! block map, disk for hypervisors, checksums. Done by `build`, and again by `sign`, whose parts are signed.

use super::release::{Kind, Release};
use super::tool::Prefix;
use super::{BuildError, disk, io_error};
use crate::block_map::BlockMap;
use flate2::{Compression, GzBuilder};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::Path;

/// Makes the disk and all that is made of it; `work` is for intermediate files.
pub(crate) fn pack(
    prefix: &Prefix,
    release: &Release,
    work: &Path,
    step: &mut dyn FnMut(&str),
) -> Result<(), BuildError> {
    step("disk");
    let image = release.path(Kind::Disk);
    // A new file, so that nothing of an earlier one shows through the holes.
    let _ = fs::remove_file(&image);
    let contents = disk::Contents {
        chooser: &release.path(Kind::Chooser),
        kernel: &release.path(Kind::KernelImage),
        root: &release.path(Kind::Root),
        watchdog: release.edition().watchdog(),
    };
    disk::assemble(prefix, &contents, work, &image)?;

    step("block map");
    let map = BlockMap::of_image(&image).map_err(io_error("reading", &image))?;
    let path = release.path(Kind::BlockMap);
    fs::write(&path, map.to_xml()).map_err(io_error("writing", &path))?;

    step("compression");
    let path = release.path(Kind::CompressedDisk);
    compress(&image, &path).map_err(io_error("compressing to", &path))?;
    // One coroutine: with more, the order of the clusters is a matter of luck.
    prefix
        .tool("qemu-img")
        .arguments(["convert", "-q", "-m", "1", "-c", "-f", "raw", "-O", "qcow2"])
        .arguments([&image, &release.path(Kind::Qcow2)])
        .run()?;

    step("checksums");
    release.write_checksums()
}

fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let file = BufWriter::new(File::create(to)?);
    // The header tells neither a time nor a name.
    let mut encoder = GzBuilder::new().write(file, Compression::new(6));
    io::copy(&mut BufReader::with_capacity(1 << 20, File::open(from)?), &mut encoder)?;
    encoder.finish()?.flush()
}
