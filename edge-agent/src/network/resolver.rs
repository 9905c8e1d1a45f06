//! Whom the box itself asks for names: resolv.conf(5), with the uplinks' name servers.
//!
//! The image's `/etc/resolv.conf` is a link to it; without a network in the configuration the firmware's script writes
//! it.

use crate::store;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Resolvers take no more.
const MOST: usize = 3;

/// See the head of the file.
pub(crate) struct Resolver {
    file: PathBuf,
    written: String,
}

impl Resolver {
    /// `directory` is the network's own; the file is beside it.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { file: directory.with_file_name("resolv.conf"), written: String::new() }
    }

    /// Writes the file, if it would say something else. Without any server it stays as it is: the old ones may still
    /// answer.
    pub(crate) fn ask(&mut self, servers: &[IpAddr]) -> Result<(), store::StoreError> {
        let mut text = String::new();
        for server in servers.iter().take(MOST) {
            let _ = writeln!(text, "nameserver {server}");
        }
        if text.is_empty() || text == self.written {
            return Ok(());
        }
        store::replace(&self.file, text.as_bytes())?;
        self.written = text;
        Ok(())
    }
}
