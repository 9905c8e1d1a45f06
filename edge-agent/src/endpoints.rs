//! Last known endpoints on the disk, so that the tunnel finds its clients again also after a reboot.
//!
//! They are written at most every few seconds and only when they changed. What a crash loses is a hint: a
//! client whose move was not written yet comes back by WireGuard's own timers.

use crate::center::chain;
use crate::store;
use edge_agent_core::endpoints::Endpoints;
use std::path::{Path, PathBuf};
use verona_contract::control::{Event, MAX_ENDPOINTS, PeerEndpoint, PeerInfo};

/// An entry takes 120 octets.
const MAX_FILE: usize = MAX_ENDPOINTS * 256;

/// See the module's head.
pub struct KnownEndpoints {
    path: PathBuf,
    endpoints: Endpoints,
    unsaved: bool,
}

impl KnownEndpoints {
    /// Reads the file. One that does not read counts as empty: no hint is worth a box that does not start.
    #[must_use]
    pub fn load(path: PathBuf) -> Self {
        let list = read(&path).unwrap_or_else(|reason| {
            tracing::warn!(path = %path.display(), reason, "last known endpoints do not read");
            Vec::new()
        });
        Self { path, endpoints: Endpoints::restore(&list), unsaved: false }
    }

    /// For the next policy.
    #[must_use]
    pub fn list(&self) -> Vec<PeerEndpoint> {
        self.endpoints.list()
    }

    /// Takes an event of the tunnel.
    pub fn take(&mut self, event: &Event) {
        self.unsaved |= self.endpoints.take(event);
    }

    /// Takes the tunnel's peers after it took a policy.
    pub fn take_peers(&mut self, peers: &[PeerInfo]) {
        self.unsaved |= self.endpoints.take_peers(peers);
    }

    /// Writes what has changed. A failure is logged; the next change tries again.
    pub async fn save(&mut self) {
        if !std::mem::take(&mut self.unsaved) {
            return;
        }
        let (path, list) = (self.path.clone(), self.list());
        let written = tokio::task::spawn_blocking(move || {
            let json = serde_json::to_vec(&list).unwrap_or_default();
            store::replace(&path, &json)
        });
        if let Ok(Err(error)) = written.await {
            tracing::error!(error = chain(&error), "last known endpoints are not on the disk");
        }
    }
}

fn read(path: &Path) -> Result<Vec<PeerEndpoint>, String> {
    let Some(json) = store::read(path, MAX_FILE).map_err(|error| chain(&error))? else {
        return Ok(Vec::new());
    };
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use verona_contract::control::CertificateSource;
    use verona_contract::key::Secret;

    #[tokio::test]
    async fn they_survive_a_restart_and_garbage_does_not_stop_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("endpoints.json");
        let mut known = KnownEndpoints::load(path.clone());
        known.save().await;
        assert!(!path.exists(), "nothing to write");
        let key = Secret::new([3; 32]).x25519_public().unwrap();
        let endpoint = "[2001:db8::1]:51820".parse().unwrap();
        known.take(&Event::Admitted {
            key,
            subject: "urn:verona:client:1".into(),
            owner: "acme".parse().unwrap(),
            endpoint,
            source: CertificateSource::Pushed,
        });
        known.save().await;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let mut known = KnownEndpoints::load(path.clone());
        assert_eq!(known.list(), [PeerEndpoint { key, endpoint }]);
        known.take_peers(&[]);
        known.save().await;
        assert_eq!(KnownEndpoints::load(path.clone()).list(), []);
        let long = " ".repeat(MAX_FILE + 1);
        for garbage in ["", "{}", "[{\"key\":\"?\"}]", "[[[", &long] {
            std::fs::write(&path, garbage).unwrap();
            assert_eq!(KnownEndpoints::load(path.clone()).list(), [], "{:.20}", garbage);
        }
        // A full file of the longest entries is read.
        let longest =
            PeerEndpoint { key, endpoint: "[2001:db8:1111:2222:3333:4444:5555:6666]:51820".parse().unwrap() };
        let full = serde_json::to_vec(&vec![longest; MAX_ENDPOINTS]).unwrap();
        assert!(full.len() <= MAX_FILE, "{}", full.len());
    }
}
