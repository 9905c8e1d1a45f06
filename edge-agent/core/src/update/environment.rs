//! The environment of a slot, `BGENV.DAT`: how EFI Boot Guard 0.13 keeps it, field by field.
//!
//! A packed C structure in little endian with a CRC-32 at its end, so half of a write is no environment at all.
//! Fields that are not ours (arguments, variables) are kept as they are. What the chooser makes of two
//! environments is in [`super::chooser`].

use std::fmt;

/// Octets of the file.
pub const LENGTH: usize = 132_104;

/// Characters of a string, with the NUL.
const STRING: usize = 255;
const AT_ARGUMENTS: usize = STRING * 2;
const AT_IN_PROGRESS: usize = STRING * 4;
const AT_STATE: usize = AT_IN_PROGRESS + 1;
const AT_WATCHDOG: usize = AT_STATE + 1;
const AT_REVISION: usize = AT_WATCHDOG + 2;
const AT_CHECKSUM: usize = LENGTH - 4;

/// How far the slot's system has come (`ustate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has proven itself.
    Good,
    /// It was never started.
    Installed,
    /// It was started, and did not say yet that it is good.
    Testing,
    /// It was started and did not say so before the next start.
    Failed,
    /// A value that nobody writes.
    Other(u8),
}

impl State {
    const fn from_octet(octet: u8) -> Self {
        match octet {
            0 => Self::Good,
            1 => Self::Installed,
            2 => Self::Testing,
            3 => Self::Failed,
            other => Self::Other(other),
        }
    }

    const fn octet(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Installed => 1,
            Self::Testing => 2,
            Self::Failed => 3,
            Self::Other(other) => other,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Installed => f.write_str("installed"),
            Self::Testing => f.write_str("testing"),
            Self::Failed => f.write_str("failed"),
            Self::Other(other) => write!(f, "state {other}"),
        }
    }
}

/// Why octets are not an environment. The chooser ignores such a file, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// Of another length.
    #[error("boot environment: {0} octets, must be {LENGTH}")]
    Length(usize),
    /// Half written, or damaged.
    #[error("boot environment: its checksum is wrong")]
    Checksum,
    /// A string does not fit.
    #[error("boot environment: the kernel's path must be ASCII and shorter than {STRING} characters")]
    Path,
}

/// An environment whose checksum is right.
#[derive(Clone, PartialEq, Eq)]
pub struct Environment(Vec<u8>);

impl Environment {
    /// One that the chooser never starts: being written, of no revision.
    #[must_use]
    pub fn void() -> Self {
        let mut octets = vec![0; LENGTH];
        octets[AT_IN_PROGRESS] = 1;
        Self(octets).sealed()
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`].
    pub fn parse(octets: &[u8]) -> Result<Self, EnvironmentError> {
        if octets.len() != LENGTH {
            return Err(EnvironmentError::Length(octets.len()));
        }
        let stored = &octets[AT_CHECKSUM..];
        if stored != crc32fast::hash(&octets[..AT_CHECKSUM]).to_le_bytes() {
            return Err(EnvironmentError::Checksum);
        }
        Ok(Self(octets.to_owned()))
    }

    /// The file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Which of two is newer; 0 = never started again.
    #[must_use]
    pub fn revision(&self) -> u32 {
        let octets = &self.0[AT_REVISION..AT_REVISION + 4];
        octets.iter().rev().fold(0, |value, octet| value << 8 | u32::from(*octet))
    }

    /// How far its system has come.
    #[must_use]
    pub fn state(&self) -> State {
        State::from_octet(self.0[AT_STATE])
    }

    /// Whether someone was writing the slot.
    #[must_use]
    pub fn in_progress(&self) -> bool {
        self.0[AT_IN_PROGRESS] != 0
    }

    /// Seconds until the watchdog bites; 0 = it is not armed.
    #[must_use]
    pub fn watchdog_s(&self) -> u16 {
        u16::from_le_bytes([self.0[AT_WATCHDOG], self.0[AT_WATCHDOG + 1]])
    }

    /// What is started, such as `L:BOOT0:linux.efi`.
    #[must_use]
    pub fn kernel(&self) -> String {
        let units = self.0[..AT_ARGUMENTS].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        char::decode_utf16(units.take_while(|unit| *unit != 0))
            .map(|unit| unit.unwrap_or('\u{fffd}'))
            .collect()
    }

    /// The same, being written: the chooser passes it over, and what became of the system before is forgotten.
    #[must_use]
    pub fn voided(mut self) -> Self {
        self.0[AT_IN_PROGRESS] = 1;
        self.0[AT_STATE] = State::Good.octet();
        self.0[AT_REVISION..AT_REVISION + 4].fill(0);
        self.sealed()
    }

    /// The same for a system that was just installed: `kernel` is started next, on trial, and the watchdog bites
    /// after `watchdog_s` seconds.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Path`].
    pub fn installed(
        mut self,
        kernel: &str,
        revision: u32,
        watchdog_s: u16,
    ) -> Result<Self, EnvironmentError> {
        if !kernel.is_ascii() || kernel.len() >= STRING {
            return Err(EnvironmentError::Path);
        }
        self.0[..AT_ARGUMENTS].fill(0);
        for (place, character) in self.0.chunks_exact_mut(2).zip(kernel.bytes()) {
            place[0] = character;
        }
        self.0[AT_IN_PROGRESS] = 0;
        self.0[AT_STATE] = State::Installed.octet();
        self.0[AT_WATCHDOG..AT_WATCHDOG + 2].copy_from_slice(&watchdog_s.to_le_bytes());
        self.0[AT_REVISION..AT_REVISION + 4].copy_from_slice(&revision.to_le_bytes());
        Ok(self.sealed())
    }

    /// The same in another state.
    #[must_use]
    pub fn in_state(mut self, state: State) -> Self {
        self.0[AT_STATE] = state.octet();
        self.sealed()
    }

    /// The same as the chooser leaves one that failed: of no revision.
    #[must_use]
    pub fn failed(mut self) -> Self {
        self.0[AT_REVISION..AT_REVISION + 4].fill(0);
        self.in_state(State::Failed)
    }

    fn sealed(mut self) -> Self {
        let checksum = crc32fast::hash(&self.0[..AT_CHECKSUM]);
        self.0[AT_CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        self
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("kernel", &self.kernel())
            .field("revision", &self.revision())
            .field("state", &self.state())
            .field("in_progress", &self.in_progress())
            .field("watchdog_s", &self.watchdog_s())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let environment = Environment::void().installed("L:BOOT1:linux.efi", 0x0102_0304, 120).unwrap();
        let environment = Environment::parse(environment.as_bytes()).unwrap();
        assert_eq!(environment.kernel(), "L:BOOT1:linux.efi");
        assert_eq!((environment.revision(), environment.watchdog_s()), (0x0102_0304, 120));
        assert_eq!((environment.state(), environment.in_progress()), (State::Installed, false));
        let voided = environment.clone().voided();
        assert_eq!((voided.revision(), voided.in_progress()), (0, true));
        assert_eq!(environment.clone().in_state(State::Good).state(), State::Good);
        let failed = environment.failed();
        assert_eq!((failed.revision(), failed.state()), (0, State::Failed));
    }

    #[test]
    fn half_of_a_write_is_none() {
        let before = Environment::void().installed("L:BOOT0:linux.efi", 7, 60).unwrap();
        let after = before.clone().in_state(State::Good);
        for cut in (512..LENGTH).step_by(512) {
            let torn = [&after.as_bytes()[..cut], &before.as_bytes()[cut..]].concat();
            // The sector before the first that differs, or all of it.
            let whole = torn == before.as_bytes() || torn == after.as_bytes();
            assert_eq!(Environment::parse(&torn).is_ok(), whole, "{cut}");
        }
        assert_eq!(Environment::parse(&[0; 100]).unwrap_err(), EnvironmentError::Length(100));
        assert!(before.clone().installed(&"x".repeat(255), 1, 1).is_err());
        assert!(before.installed("L:ブート:linux.efi", 1, 1).is_err());
    }
}
