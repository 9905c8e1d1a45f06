//! What a person at the box can do without its center: give the center another address, and take the configuration away.
//!
//! Neither touches who the box is. Another address is no other center: the factory record's pins stay, so a wrong one
//! reaches nobody. A reset keeps keys, certificates, revocation lists, log and the number of the newest configuration:
//! the box comes back as itself, asks for its configuration, and takes no older one. Both are carried out at the
//! agent's next start, before anything else reads the files.

use crate::store::{self, StoreError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use verona_contract::provisioning::FactoryRecord;

/// The longest file.
const MAX_FILE: usize = 4096;

/// What a reset removes, below the state directory.
const CONFIGURATION: [&str; 6] = [
    "config/staged.json",
    "config/trial.json",
    "config/barred.json",
    "config/history",
    "config/current.json",
    "endpoints.json",
];

/// The center's address in place of the factory record's.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Center {
    center: String,
}

/// The files of a state directory.
#[derive(Clone, Debug)]
pub struct Recovery {
    state: PathBuf,
}

impl Recovery {
    /// Of the state directory `state`.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { state: state.to_owned() }
    }

    /// The record with the address that a person has set, where one has.
    #[must_use]
    pub fn mended(&self, record: FactoryRecord) -> FactoryRecord {
        let path = self.center();
        let read = store::read_replaceable(&path, MAX_FILE).unwrap_or_else(|error| {
            tracing::error!(error = crate::center::chain(&error), "address of the center");
            None
        });
        let Some(json) = read else { return record };
        match serde_json::from_slice::<Center>(&json) {
            Ok(Center { center }) => FactoryRecord { center, ..record },
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "file does not read, the factory's address is used");
                record
            }
        }
    }

    /// Has the box look for its center at `address` from the next start on; none = at the factory's again.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is changed then.
    pub fn set_center(&self, address: Option<String>) -> Result<(), StoreError> {
        match address {
            // Plain data always encodes.
            Some(center) => {
                store::replace(&self.center(), &serde_json::to_vec(&Center { center }).unwrap_or_default())
            }
            None => store::remove(&self.center()),
        }
    }

    /// Has the next start take the configuration away.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is changed then.
    pub fn order_reset(&self) -> Result<(), StoreError> {
        store::replace(&self.order(), b"reset\n")
    }

    /// Carries out a reset that was ordered. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the order stands, and the next start tries again.
    pub fn carry_out(&self) -> Result<bool, StoreError> {
        if store::read_replaceable(&self.order(), MAX_FILE)?.is_none() {
            return Ok(false);
        }
        for name in CONFIGURATION {
            let path = self.state.join(name);
            if path.is_dir() {
                std::fs::remove_dir_all(&path).map_err(|error| StoreError::new("remove", &path, error))?;
                store::sync_directory(&path)?;
            } else {
                store::remove(&path)?;
            }
        }
        // Last: a power cut on the way is carried on with.
        store::remove(&self.order())?;
        Ok(true)
    }

    fn center(&self) -> PathBuf {
        self.state.join("center.json")
    }

    fn order(&self) -> PathBuf {
        self.state.join("reset")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> FactoryRecord {
        let json = r#"{"serial": "VE-1", "center": "https://factory.example", "center_ca": "",
            "config_keys": ["11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="], "config_threshold": 1}"#;
        FactoryRecord::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn another_address_is_kept_until_it_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let recovery = Recovery::new(folder.path());
        assert_eq!(recovery.mended(record()).center, "https://factory.example");
        recovery.set_center(Some("https://192.0.2.1:8443".into())).unwrap();
        assert_eq!(recovery.mended(record()).center, "https://192.0.2.1:8443");
        std::fs::write(folder.path().join("center.json"), "{\"center").unwrap();
        assert_eq!(recovery.mended(record()).center, "https://factory.example", "half a file");
        recovery.set_center(None).unwrap();
        assert!(!folder.path().join("center.json").exists());
    }

    #[test]
    fn a_reset_takes_the_configuration_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let kept = [
            "keys/device.pem",
            "keys/tunnel.key",
            "certificates/operational.pem",
            "config/mark.json",
            "crl/list",
            "spool/segment",
            "clock.json",
            "acks.json",
        ];
        let fill = || {
            for name in kept.iter().copied().chain(CONFIGURATION).chain(["config/history/1.rev"]) {
                if name != "config/history" {
                    std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
                    std::fs::write(at(name), name).unwrap();
                }
            }
        };
        fill();
        let recovery = Recovery::new(folder.path());
        assert!(!recovery.carry_out().unwrap(), "nobody has ordered it");
        assert!(at("config/current.json").exists());

        recovery.order_reset().unwrap();
        assert!(recovery.carry_out().unwrap());
        for name in CONFIGURATION {
            assert!(!at(name).exists(), "{name} is still there");
        }
        for name in kept {
            assert_eq!(std::fs::read_to_string(at(name)).unwrap(), name);
        }
        assert!(!recovery.carry_out().unwrap(), "once");
        // Whatever of it had gone before a power cut.
        fill();
        recovery.order_reset().unwrap();
        std::fs::remove_file(at("config/current.json")).unwrap();
        assert!(recovery.carry_out().unwrap());
    }
}
