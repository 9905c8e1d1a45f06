//! The root as a slot holds it: a squashfs, and dm-verity's hash tree behind it.

use super::tool::Prefix;
use super::{BuildError, io_error};
use std::fs::{self, File};
use std::path::Path;

/// The salt guards against tables made in advance; fixed, since the image must be the same for all.
pub(super) const SALT: &str = "7665726f6e612d656467652d766572697479";
/// Of the verity superblock; nothing looks for it.
const UUID: &str = "00000000-0000-0000-0000-000000000000";
const BLOCK: u64 = 4096;

/// A sealed root.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) data_blocks: u64,
    pub(super) root_hash: String,
}

/// Makes the squashfs of `tree` at `image` and appends its hash tree.
pub(super) fn seal(prefix: &Prefix, tree: &Path, image: &Path) -> Result<Verified, BuildError> {
    if image.exists() {
        fs::remove_file(image).map_err(io_error("removing", image))?;
    }
    prefix
        .tool("mksquashfs")
        .argument(tree)
        .argument(image)
        .arguments(["-comp", "zstd", "-Xcompression-level", "15", "-b", "128K", "-all-root", "-noappend"])
        .arguments([
            "-mkfs-time",
            "0",
            "-all-time",
            "0",
            "-no-xattrs",
            "-no-exports",
            "-quiet",
            "-no-progress",
        ])
        .run()?;
    let file = File::options().write(true).open(image).map_err(io_error("opening", image))?;
    let size = file.metadata().map_err(io_error("reading", image))?.len().next_multiple_of(BLOCK);
    file.set_len(size).map_err(io_error("padding", image))?;
    let report = prefix
        .tool("veritysetup")
        .arguments(["format", "--data-block-size=4096", "--hash-block-size=4096", "--hash=sha256"])
        .argument(format!("--salt={SALT}"))
        .argument(format!("--uuid={UUID}"))
        .argument(format!("--data-blocks={}", size / BLOCK))
        .argument(format!("--hash-offset={size}"))
        .arguments([image, image])
        .output()?;
    let root_hash = report.lines().find_map(|line| line.strip_prefix("Root hash:"));
    let root_hash = root_hash.ok_or(BuildError::Untold { tool: "veritysetup", what: "the root hash" })?;
    Ok(Verified { data_blocks: size / BLOCK, root_hash: root_hash.trim().to_owned() })
}
