//! The hardware watchdog, from the first moment on which the kernel has its driver.
//!
//! The boot chooser starts it, and the kernel's driver stops it when it takes the device over. From here on it runs again,
//! and whatever hangs before the agent feeds it, the root's scripts too, lets the box restart.

use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

/// `_IOWR('W', 6, int)` (linux/watchdog.h).
const SET_TIMEOUT: nix::libc::c_ulong = 0xc004_5706;

/// Starts `device` and leaves it running. Returns whether there is one.
///
/// # Errors
///
/// It is there, but no watchdog.
pub(crate) fn start(device: &Path, limit: Duration) -> io::Result<bool> {
    let file = match File::options().write(true).open(device) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut seconds = nix::libc::c_int::try_from(limit.as_secs()).unwrap_or(nix::libc::c_int::MAX);
    // SAFETY: the kernel reads and writes one number of ours, which lives through the call.
    let result = unsafe { nix::libc::ioctl(file.as_raw_fd(), SET_TIMEOUT as _, &raw mut seconds) };
    match Errno::result(result) {
        // A driver with a time of its own.
        Ok(_) | Err(Errno::EOPNOTSUPP | Errno::EINVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    // Closed without the letter that disarms it (Documentation/watchdog/watchdog-api.rst): it runs on, which the kernel
    // remarks on the console.
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_no_error_and_another_thing_is() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("watchdog");
        assert!(!start(&device, Duration::from_secs(60)).unwrap());
        std::fs::write(&device, "").unwrap();
        assert!(start(&device, Duration::from_secs(60)).is_err());
    }
}
