//! What the daemon keeps once its interface and sockets are open (`SECURITY.md` of `confinement`): marks on packets, any port, the files that
//! it removes at its end, the system calls that move packets.
//!
//! For a process that does nothing else. A program that uses the data plane as a library decides for itself.

use std::io;
use std::path::{Path, PathBuf};

use confinement::{
    Account, Capability, CapabilitySet, Confinement, ConfinementError, Files, Reading, Report, SystemCalls,
};

use crate::device::OpenDevice;
use crate::local_socket::LocalSocketError;

/// SO_MARK on datagrams; a port below 1024, which a configuration may ask for at any time.
const CAPABILITIES: CapabilitySet = CapabilitySet::of(&[Capability::NetAdmin, Capability::NetBindService]);

/// The daemon cannot be confined, so it does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// The sockets.
    #[error(transparent)]
    Sockets(#[from] LocalSocketError),
    /// The rest.
    #[error(transparent)]
    Confinement(#[from] ConfinementError),
    /// A path is none.
    #[error("the current directory is unknown")]
    Directory(#[source] io::Error),
}

/// Confines the calling process, which has one thread, and has it become that user.
///
/// # Errors
///
/// [`ConfineError`]. The process is half confined then and has to end.
pub fn confine(device: &OpenDevice, account: Account) -> Result<Report, ConfineError> {
    device.give_sockets_to(account.uid, account.gid)?;
    // The sockets' files go when the daemon ends. The null device takes the place of a terminal.
    let folders = device.socket_paths().filter_map(Path::parent).map(Path::to_owned);
    let writing = folders.chain([PathBuf::from("/dev/null")]).collect();
    let confinement = Confinement {
        account: Some(account),
        capabilities: CAPABILITIES,
        // Counters of the interface.
        files: Files { reading: Reading::Only(vec!["/proc".into()]), writing, starting: Vec::new() },
        system_calls: SystemCalls::PacketMover,
    };
    Ok(confinement.enter()?)
}
