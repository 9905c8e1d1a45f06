//! What the agent and the programs that it starts keep (`SECURITY.md` of `confinement`): the network's rights,
//! the clock, signals; its own folders to write to; programs of the system to start.

use crate::settings::Settings;
use confinement::{
    Account, Capability, CapabilitySet, Confinement, ConfinementError, Files, Reading, Report, SystemCalls,
};
use std::path::{Path, PathBuf};

/// Rights of the network are for the programs as well: `nft`, the DHCP clients, `dnsmasq`. Signals are for a DHCP
/// client that the firmware started, and for PID 1, which restarts the box.
const CAPABILITIES: [Capability; 6] = [
    Capability::Kill,
    Capability::NetAdmin,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::SysTime,
    Capability::Syslog,
];

/// Where programs are. What is made at run time is none.
const PROGRAMS: [&str; 7] = ["/bin", "/sbin", "/usr", "/lib", "/lib64", "/etc/init.d", "/etc/udhcpc"];

/// Switches of the network; devices, as far as they are given to the user: slots, watchdog, clock.
const KERNEL: [&str; 2] = ["/proc/sys/net", "/dev"];

/// Confines the calling process, which has one thread, and has it become that user.
///
/// # Errors
///
/// [`ConfinementError`]. The process is half confined then and has to end.
pub fn confine(settings: &Settings, program: &Path, account: Account) -> Result<Report, ConfinementError> {
    let mut writing: Vec<PathBuf> = KERNEL.map(PathBuf::from).to_vec();
    writing.push(settings.state.clone());
    writing.extend(settings.socket.parent().map(Path::to_owned));
    writing.extend(settings.firmware_disk.clone());
    let mut starting: Vec<PathBuf> = PROGRAMS.map(PathBuf::from).to_vec();
    starting.push(program.to_owned());
    starting.extend(settings.restart_with.clone());
    Confinement {
        account: Some(account),
        capabilities: CapabilitySet::of(&CAPABILITIES),
        files: Files { reading: Reading::Anything, writing, starting },
        system_calls: SystemCalls::Everyday,
    }
    .enter()
}
