//! Finds the partition of a slot by its GPT name, as the kernel read it (`PARTNAME` in sysfs).
//!
//! Two disks may carry the same names: the box's own and a stick that was left in it. The firmware boots one
//! of them, and dm-verity would refuse the other unless both hold the very same image, in which case either
//! will do.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

const PAUSE: Duration = Duration::from_millis(20);

/// A partition that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// `major:minor`, which device mapper takes without a device node.
    pub(crate) device: String,
}

/// The slot's partition did not appear.
#[derive(Debug, thiserror::Error)]
#[error("no disk with a partition named {name} within {} s", .patience.as_secs())]
pub(crate) struct SlotMissing {
    name: String,
    patience: Duration,
}

/// Waits for the partition named `name` under `/sys/class/block`.
///
/// # Errors
///
/// It did not appear in time.
pub(crate) fn wait_for(block: &Path, name: &str, patience: Duration) -> Result<Slot, SlotMissing> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(slot) = find(block, name) {
            return Ok(slot);
        }
        if Instant::now() >= deadline {
            return Err(SlotMissing { name: name.to_owned(), patience });
        }
        thread::sleep(PAUSE);
    }
}

fn find(block: &Path, name: &str) -> Option<Slot> {
    let mut devices: Vec<_> =
        fs::read_dir(block).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    devices.sort();
    devices.into_iter().find_map(|device| slot_of(&device, name).ok().flatten())
}

/// A device may vanish while it is being read, which is as if it had not been there.
fn slot_of(device: &Path, name: &str) -> io::Result<Option<Slot>> {
    let uevent = fs::read_to_string(device.join("uevent"))?;
    let value = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let (Some(major), Some(minor)) = (value("MAJOR"), value("MINOR")) else { return Ok(None) };
    Ok((value("PARTNAME") == Some(name)).then(|| Slot { device: format!("{major}:{minor}") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_not_by_order() {
        let sys = tempfile::tempdir().unwrap();
        for (device, uevent) in [
            ("vda", "MAJOR=254\nMINOR=0\nDEVTYPE=disk\n"),
            ("vda4", "MAJOR=254\nMINOR=4\nDEVTYPE=partition\nPARTN=4\nPARTNAME=root-a\n"),
            ("vda5", "MAJOR=254\nMINOR=5\nDEVTYPE=partition\nPARTN=5\nPARTNAME=root-b\n"),
        ] {
            fs::create_dir(sys.path().join(device)).unwrap();
            fs::write(sys.path().join(device).join("uevent"), uevent).unwrap();
        }
        let found = |name| wait_for(sys.path(), name, Duration::ZERO).map(|slot| slot.device);
        assert_eq!(found("root-b").unwrap(), "254:5");
        assert_eq!(
            found("root-").unwrap_err().to_string(),
            "no disk with a partition named root- within 0 s",
            "the name must be the whole name"
        );
    }
}
