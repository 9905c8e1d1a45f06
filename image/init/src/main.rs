//! The initramfs: PID 1 until the verified root is open.
//!
//! Debian's kernels carry virtio, squashfs and dm-verity as modules, so something must load them before there
//! is a root. Five steps: the modules of `/modules/order`, the watchdog, the slot that holds the root of the command
//! line's hash, a dm-verity device over it, `switch_root`. The command line is part of the signed kernel image, so the
//! root hash in it is as trustworthy as the kernel. There is no shell here: whatever fails is one line on the console
//! and a restart, after which the boot chooser takes the other slot.

mod cmdline;
mod device_mapper;
mod disk;
mod modules;
mod switch_root;
mod watchdog;

use disk::Devices;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// How long the slot's disk may take to appear: a USB stick needs 2 s, a slow hub 5.
const DISK_PATIENCE: Duration = Duration::from_secs(15);

/// How long the agent may take from here to its first feeding: several times what a slow box needs.
const AGENT_PATIENCE: Duration = Duration::from_secs(120);

/// What went wrong, as one line with its causes.
type Failure = Box<dyn std::error::Error>;

fn main() {
    let failure = match run() {
        // The new init has taken this process over.
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let mut line = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        let _ = write!(line, ": {error}");
        cause = error.source();
    }
    eprintln!("verona-init: {line}; restarting");
    switch_root::restart();
}

fn run() -> Result<std::convert::Infallible, Failure> {
    switch_root::mount_kernel_file_systems()?;
    let root = cmdline::root_of(&std::fs::read_to_string("/proc/cmdline")?)?;
    modules::load_all(Path::new("/modules"))?;
    if let Err(error) = watchdog::start(Path::new("/dev/watchdog"), AGENT_PATIENCE) {
        // A box without one runs as well as it can.
        eprintln!("verona-init: no watchdog: {error}");
    }
    let devices = Devices { block: Path::new("/sys/class/block"), nodes: Path::new("/dev") };
    let slot = disk::wait_for(&devices, &root, DISK_PATIENCE)?;
    device_mapper::create_verity("root", &root.table(&slot))?;
    switch_root::enter("/dev/dm-0", "/sbin/init")
}
