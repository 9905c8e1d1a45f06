//! Whether this disk is where its identity was made.
//!
//! A virtual machine's disk is copied by a click, keys and all, and two boxes with one identity would fight for its
//! sessions and break its log chain. The first start writes down which machine it was; on another one the identity is
//! refused, and the tunnel stays closed. A machine that has no number of its own cannot be told from another.

use crate::store::{self, StoreError};
use std::path::Path;

/// The longest file.
const MAX_FILE: usize = 256;

/// The identity belongs to another machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not the machine where the keys were made.
    #[error(
        "this disk was copied: its identity was made on machine {made_on}, this is {here}; \
         an image that has never been started, with a factory record of its own, makes a box of its own"
    )]
    Copied {
        /// Where the identity was made.
        made_on: String,
        /// Where the disk is now.
        here: String,
    },
}

/// Compares the number in `source` (SMBIOS's system UUID, as the system tells it) with that of the first start, which
/// is kept in `state`.
///
/// # Errors
///
/// [`MachineError`].
pub fn check(state: &Path, source: &Path) -> Result<(), MachineError> {
    let Some(here) = number(source)? else { return Ok(()) };
    let path = state.join("machine");
    match number(&path)? {
        None => Ok(store::replace(&path, format!("{here}\n").as_bytes())?),
        Some(made_on) if made_on == here => Ok(()),
        Some(made_on) => Err(MachineError::Copied { made_on, here }),
    }
}

/// A number that tells machines apart; none where there is none.
fn number(path: &Path) -> Result<Option<String>, StoreError> {
    let Some(octets) = store::read_replaceable(path, MAX_FILE)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&octets);
    let text: String = text.trim().chars().filter(char::is_ascii_graphic).collect();
    let text = text.to_ascii_lowercase();
    // Firmware that was not given one says all zeros or all ones.
    let digits = || text.chars().filter(|one| *one != '-');
    let says_nothing = digits().all(|one| one == '0') || digits().all(|one| one == 'f');
    Ok((!says_nothing).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_knows_its_machine() {
        let folder = tempfile::tempdir().unwrap();
        let (state, source) = (folder.path(), folder.path().join("product_uuid"));
        let on = |uuid: &str| {
            std::fs::write(&source, uuid).unwrap();
            check(state, &source)
        };
        check(state, &source).unwrap();
        on("00000000-0000-0000-0000-000000000000\n").unwrap();
        on("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n").unwrap();
        on("").unwrap();
        assert!(!state.join("machine").exists(), "nothing was said");

        on("b0a7c1a2-0000-4000-8000-000000000001\n").unwrap();
        on("B0A7C1A2-0000-4000-8000-000000000001\n").unwrap();
        let copied = on("b0a7c1a2-0000-4000-8000-000000000002\n").unwrap_err().to_string();
        assert!(
            copied.contains("made on machine b0a7c1a2-0000-4000-8000-000000000001, this is b0a7c1a2"),
            "{copied}"
        );
        on("b0a7c1a2-0000-4000-8000-000000000001\n").unwrap();
    }
}
