//! Switches of the kernel below `/proc/sys/net` that the box's own network needs. Which ones is
//! `edge_agent_core::network::plan::switches`.

use crate::store::StoreError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Sets those that are different.
///
/// # Errors
///
/// The first that cannot be written. One whose interface is not there is left out.
pub(crate) fn set(switches: &[(String, &'static str)]) -> Result<(), StoreError> {
    for (name, value) in switches {
        let path: PathBuf = Path::new("/proc/sys/net").join(name);
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(now) if now.trim() == *value => {}
            _ => std::fs::write(&path, value).map_err(|error| StoreError::new("write", &path, error))?,
        }
    }
    Ok(())
}
