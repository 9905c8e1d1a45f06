//! SIGINT and SIGTERM take the live runs down before the process ends.
//!
//! The handler only writes one octet to a pipe; a thread does the work, since almost nothing is allowed
//! inside a handler.

use crate::{Error, Result, run};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::io::Read;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The pipe's end that the handler writes to.
static WRITE_END: AtomicI32 = AtomicI32::new(-1);
/// Identities of the runs to take down.
static LIVE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Installs the handler, once a process.
pub(crate) fn watch() -> Result<()> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    if INSTALLED.get().is_some() {
        return Ok(());
    }
    let (mut reader, writer) = std::io::pipe().map_err(Error::io("make a pipe for signals"))?;
    WRITE_END.store(writer.into_raw_fd(), Ordering::Relaxed);
    let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler calls write(2) only, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.map_err(Error::os(format!("handle {signal}")))?;
    }
    let _ = INSTALLED.set(());
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            let mut octet = [0_u8];
            if reader.read_exact(&mut octet).is_ok() {
                for id in LIVE.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                    run::sweep(&id);
                }
                std::process::exit(128 + i32::from(octet[0]));
            }
        })
        .map_err(Error::io("start the signal thread"))?;
    Ok(())
}

pub(crate) fn register(id: &str) {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner).push(id.to_owned());
}

pub(crate) fn forget(id: &str) {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner).retain(|live| live != id);
}

extern "C" fn on_signal(signal: libc::c_int) {
    let octet = u8::try_from(signal).unwrap_or(0);
    // SAFETY: one octet from a valid address to a descriptor that stays open for the process's life.
    unsafe { libc::write(WRITE_END.load(Ordering::Relaxed), (&raw const octet).cast(), 1) };
}
