//! Takes the kernel's messages out of `/dev/kmsg` and into the spool.
//!
//! A thread, since it waits for the kernel. Where it got to is kept beside the agent's socket, so below `/run`: an agent
//! that restarts tells nothing twice, and the first one after a boot tells the boot. It never waits for the spool.

use crate::clock::since_boot_ns;
use crate::spool::Spool;
use crate::store;
use edge_agent_core::kernel_log::{Ration, parse, suppressed};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest entry (`CONSOLE_EXT_LOG_MAX` of the kernel).
const MAX_ENTRY: usize = 8192;

/// How often the position is kept.
const KEEP: Duration = Duration::from_secs(5);

/// Follows `device` for as long as the process lives; the position is kept in `position`.
///
/// # Errors
///
/// The device does not open, or there is no thread.
pub fn follow(device: &Path, position: PathBuf, spool: Spool) -> io::Result<()> {
    let device = File::open(device)?;
    let thread = std::thread::Builder::new().name("kernel-log".to_owned());
    thread.spawn(move || {
        if let Err(error) = read(&device, &position, &spool) {
            tracing::error!(%error, "the kernel's messages come no more");
        }
    })?;
    Ok(())
}

fn read(mut device: &File, position: &Path, spool: &Spool) -> io::Result<()> {
    let now = || Duration::from_nanos(since_boot_ns());
    let kept = store::read_replaceable(position, 64).ok().flatten().unwrap_or_default();
    let mut next: u64 = String::from_utf8_lossy(&kept).trim().parse().unwrap_or(0);
    let (mut ration, mut kept_at) = (Ration::new(now()), now());
    let mut entry = vec![0; MAX_ENTRY];
    loop {
        let length = match device.read(&mut entry) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            // What was next has been overwritten; the one after the gap comes now.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let Some(message) = parse(&entry[..length]).filter(|message| message.seq >= next) else { continue };
        next = message.seq + 1;
        if let Some(left_out) = ration.take(now()) {
            if left_out > 0 {
                spool.note(suppressed(left_out));
            }
            spool.note(message.draft);
        }
        if now().saturating_sub(kept_at) >= KEEP {
            kept_at = now();
            if let Err(error) = store::replace(position, next.to_string().as_bytes()) {
                tracing::debug!(error = crate::center::chain(&error), "position in the kernel's messages");
            }
        }
    }
}
