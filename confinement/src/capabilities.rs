//! Capabilities (capabilities(7)): which there are, and how all others are given up.

use crate::{ConfinementError, sys};
use std::fmt;

/// One that a daemon of the box has a use for. The discriminant is the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Capability {
    /// Signals to processes of other users.
    Kill = 5,
    /// Ports below 1024.
    NetBindService = 10,
    /// Interfaces, addresses, routes, firewall, marks on packets, switches below `/proc/sys/net`.
    NetAdmin = 12,
    /// Raw and packet sockets.
    NetRaw = 13,
    /// The system's clock and the hardware's.
    SysTime = 25,
    /// The kernel's messages.
    Syslog = 34,
}

const ALL: [(Capability, &str); 6] = [
    (Capability::Kill, "kill"),
    (Capability::NetBindService, "net_bind_service"),
    (Capability::NetAdmin, "net_admin"),
    (Capability::NetRaw, "net_raw"),
    (Capability::SysTime, "sys_time"),
    (Capability::Syslog, "syslog"),
];

/// A set of them, as the kernel's bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// These.
    #[must_use]
    pub const fn of(capabilities: &[Capability]) -> Self {
        let (mut bits, mut next) = (0, 0);
        while next < capabilities.len() {
            bits |= 1 << capabilities[next] as u8;
            next += 1;
        }
        Self(bits)
    }

    /// As `/proc/PID/status` shows it.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    const fn has(self, number: u8) -> bool {
        self.0 >> number & 1 == 1
    }
}

impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ALL.iter().filter(|(capability, _)| self.has(*capability as u8)).map(|(_, name)| *name);
        let names: Vec<_> = names.collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(" "))
    }
}

/// Cuts the bounding set down to `kept`, so that no program started later has more. Whoever may not do so has none
/// of the others either, or cannot give them to others.
pub(crate) fn bound(kept: CapabilitySet) -> Result<(), ConfinementError> {
    for number in 0..64 {
        // The kernel's newest one was before.
        let Some(there) = sys::in_bounding_set(number) else { break };
        if there && !kept.has(number) {
            match sys::drop_from_bounding_set(number) {
                Ok(()) => {}
                Err(nix::Error::EPERM) => break,
                Err(errno) => return Err(ConfinementError::step("cut the bounding set")(errno)),
            }
        }
    }
    Ok(())
}

/// Keeps those of `kept` that are there, for this thread, its threads and its children. Returns them.
pub(crate) fn keep(kept: CapabilitySet) -> Result<CapabilitySet, ConfinementError> {
    let there = sys::permitted().map_err(ConfinementError::step("read the capabilities"))?;
    let left = kept.0 & there;
    sys::set_capabilities(left).map_err(ConfinementError::step("give capabilities up"))?;
    for number in (0..64).filter(|&number| CapabilitySet(left).has(number)) {
        sys::make_ambient(number).map_err(ConfinementError::step("leave capabilities to children"))?;
    }
    Ok(CapabilitySet(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let set = CapabilitySet::of(&[Capability::NetAdmin, Capability::Syslog]);
        assert_eq!(set.bits(), 1 << 12 | 1 << 34);
        assert_eq!(set.to_string(), "net_admin syslog");
        assert_eq!(CapabilitySet::default().to_string(), "none");
    }
}
