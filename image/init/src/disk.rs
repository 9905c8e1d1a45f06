//! Finds the slot that holds the root, by what it holds: the hash tree's top block must have the hash that the
//! signed command line names.
//!
//! The partition's GPT name (`PARTNAME` in sysfs) only says which partitions are worth a look. So one kernel
//! image serves both slots, and a stick left in the box is no trouble: what has the right hash is the right
//! root wherever it lies. The rest of the tree and of the data is dm-verity's to check, block by block.

use crate::cmdline::{BLOCK, Verity};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

const PAUSE: Duration = Duration::from_millis(20);

/// GPT names of the slots.
const SLOTS: [&str; 2] = ["root-a", "root-b"];

/// Where the kernel tells of block devices, and where their nodes are.
pub(crate) struct Devices<'a> {
    /// `/sys/class/block`.
    pub(crate) block: &'a Path,
    /// `/dev`.
    pub(crate) nodes: &'a Path,
}

/// A partition that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// `major:minor`, which device mapper takes without a device node.
    pub(crate) device: String,
}

/// No partition holds the root.
#[derive(Debug, thiserror::Error)]
#[error("no partition root-a or root-b holds the root of this kernel image within {} s ({})", .patience.as_secs(), seen(.looked_at))]
pub(crate) struct SlotMissing {
    patience: Duration,
    /// Names of the slots that were there.
    looked_at: Vec<String>,
}

fn seen(slots: &[String]) -> String {
    if slots.is_empty() {
        return "there is no such partition".to_owned();
    }
    format!("{} with another content", slots.join(", "))
}

/// Waits for the partition that holds `root`.
///
/// # Errors
///
/// It did not appear in time.
pub(crate) fn wait_for(
    devices: &Devices<'_>,
    root: &Verity,
    patience: Duration,
) -> Result<Slot, SlotMissing> {
    let deadline = Instant::now() + patience;
    loop {
        let candidates = candidates(devices);
        let found = candidates.iter().find(|candidate| candidate.holds(root).unwrap_or(false));
        if let Some(candidate) = found {
            return Ok(Slot { device: candidate.device.clone() });
        }
        if Instant::now() >= deadline {
            let looked_at = candidates.into_iter().map(|candidate| candidate.name).collect();
            return Err(SlotMissing { patience, looked_at });
        }
        thread::sleep(PAUSE);
    }
}

/// A partition with a slot's name.
struct Candidate {
    name: String,
    device: String,
    node: PathBuf,
}

impl Candidate {
    /// Whether the top block of a hash tree behind `root`'s data has the root's hash.
    fn holds(&self, root: &Verity) -> io::Result<bool> {
        let mut block = [0; BLOCK as usize];
        File::open(&self.node)?.read_exact_at(&mut block, root.tree_block() * BLOCK)?;
        Ok(root.is_top(&block))
    }
}

fn candidates(devices: &Devices<'_>) -> Vec<Candidate> {
    let Ok(entries) = fs::read_dir(devices.block) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    // A device may vanish while it is being read, which is as if it had not been there.
    paths.iter().filter_map(|path| candidate(path, devices.nodes)).collect()
}

fn candidate(device: &Path, nodes: &Path) -> Option<Candidate> {
    let uevent = fs::read_to_string(device.join("uevent")).ok()?;
    let value = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let name = value("PARTNAME").filter(|name| SLOTS.contains(name))?;
    Some(Candidate {
        name: name.to_owned(),
        device: format!("{}:{}", value("MAJOR")?, value("MINOR")?),
        node: nodes.join(value("DEVNAME")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    /// Two slots and a disk; slot A holds a tree whose top block is of `a`s, slot B one of `b`s.
    fn devices(folder: &Path) -> (PathBuf, PathBuf) {
        let (block, nodes) = (folder.join("block"), folder.join("dev"));
        fs::create_dir_all(&nodes).unwrap();
        for (device, uevent, top) in [
            ("vda", "MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n", b'a'),
            ("vda4", "MAJOR=254\nMINOR=4\nDEVNAME=vda4\nDEVTYPE=partition\nPARTNAME=root-a\n", b'a'),
            ("vda5", "MAJOR=254\nMINOR=5\nDEVNAME=vda5\nDEVTYPE=partition\nPARTNAME=root-b\n", b'b'),
            ("vda7", "MAJOR=254\nMINOR=7\nDEVNAME=vda7\nDEVTYPE=partition\nPARTNAME=data\n", b'd'),
        ] {
            fs::create_dir_all(block.join(device)).unwrap();
            fs::write(block.join(device).join("uevent"), uevent).unwrap();
            // One block of data, the superblock, the tree.
            let content = [vec![0; 2 * BLOCK as usize], vec![top; BLOCK as usize]].concat();
            fs::write(nodes.join(device), content).unwrap();
        }
        (block, nodes)
    }

    fn root_with_top(octet: u8) -> Verity {
        let mut hash = Sha256::new_with_prefix([0xab]);
        hash.update([octet; BLOCK as usize]);
        let hash: String = hash.finalize().iter().map(|octet| format!("{octet:02x}")).collect();
        Verity::parse(Some(&format!("1,{hash},ab"))).unwrap()
    }

    #[test]
    fn by_content_among_the_slots_only() {
        let folder = tempfile::tempdir().unwrap();
        let (block, nodes) = devices(folder.path());
        let devices = Devices { block: &block, nodes: &nodes };
        let found = |octet| wait_for(&devices, &root_with_top(octet), Duration::ZERO);
        assert_eq!(found(b'a').unwrap().device, "254:4");
        assert_eq!(found(b'b').unwrap().device, "254:5");
        assert_eq!(
            found(b'd').unwrap_err().to_string(),
            "no partition root-a or root-b holds the root of this kernel image within 0 s \
             (root-a, root-b with another content)"
        );
        fs::remove_dir_all(block.join("vda5")).unwrap();
        assert!(found(b'b').is_err(), "a node without a device");
        fs::write(nodes.join("vda4"), b"short").unwrap();
        assert!(found(b'a').is_err(), "a partition that is too short");
    }
}
