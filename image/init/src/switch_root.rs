//! The file systems of the kernel, and the step from the initramfs into the real root.

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::{chdir, chroot, execv};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::time::Duration;

/// Where the real root is mounted before it becomes `/`.
const NEW_ROOT: &str = "/root";

/// Long enough for a technician to photograph the reason.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// A step into the root failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub(crate) struct SwitchError {
    doing: String,
    source: nix::Error,
}

fn failed(doing: impl Into<String>) -> impl FnOnce(nix::Error) -> SwitchError {
    move |source| SwitchError { doing: doing.into(), source }
}

/// Mounts `/dev`, `/proc` and `/sys`.
///
/// # Errors
///
/// The kernel refused one.
pub(crate) fn mount_kernel_file_systems() -> Result<(), SwitchError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for (kind, target, flags) in [
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID),
        ("proc", "/proc", flags | MsFlags::MS_NODEV),
        ("sysfs", "/sys", flags | MsFlags::MS_NODEV),
    ] {
        // The builder made them; an initramfs without them is still worth a try.
        let _ = fs::create_dir_all(target);
        match mount(Some(kind), target, Some(kind), flags, None::<&str>) {
            // The kernel may have mounted /dev by itself (CONFIG_DEVTMPFS_MOUNT).
            Ok(()) | Err(nix::Error::EBUSY) => {}
            Err(errno) => return Err(failed(format!("mounting {target}"))(errno)),
        }
    }
    Ok(())
}

/// Mounts `device` (squashfs, read-only) and becomes its `init`.
///
/// # Errors
///
/// The root cannot be mounted, or has no such program.
pub(crate) fn enter<E: From<SwitchError>>(device: &str, init: &str) -> Result<Infallible, E> {
    Ok(enter_root(device, init)?)
}

fn enter_root(device: &str, init: &str) -> Result<Infallible, SwitchError> {
    let _ = fs::create_dir_all(NEW_ROOT);
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    mount(Some(device), NEW_ROOT, Some("squashfs"), flags, None::<&str>)
        .map_err(failed(format!("mounting the root {device}")))?;
    for folder in ["/dev", "/proc", "/sys"] {
        let target = format!("{NEW_ROOT}{folder}");
        mount(Some(folder), target.as_str(), None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .map_err(failed(format!("moving {folder} into the root")))?;
    }
    chdir(NEW_ROOT).map_err(failed("entering the root"))?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(failed("moving the root to /"))?;
    chroot(".").map_err(failed("changing the root"))?;
    chdir("/").map_err(failed("entering the root"))?;
    let program = CString::new(init).map_err(|_| failed("the name of init")(nix::Error::EINVAL))?;
    execv(&program, std::slice::from_ref(&program)).map_err(failed(format!("starting {init}")))
}

/// Waits until the reason was seen, then restarts the machine.
pub(crate) fn restart() {
    std::thread::sleep(LAST_WORDS);
    let failure = reboot(RebootMode::RB_AUTOBOOT);
    eprintln!("verona-init: restarting failed: {failure:?}");
    // The end of PID 1 is a kernel panic, and panic= on the command line restarts as well.
}
