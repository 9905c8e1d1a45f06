//! Debian packages by apt, in a state and a cache of our own: nothing is installed on the host, and what the
//! host has installed makes no difference.
//!
//! The host's list of archives and its keys are used, so the signatures of the archive are checked by apt
//! itself. Dependencies are apt's business too; what of a package goes into an image is not.

use super::tool::{Tool, ToolError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long the lists of the archive serve before they are fetched again.
const LISTS_SERVE: Duration = Duration::from_secs(24 * 3600);

/// A private apt.
pub(crate) struct Apt {
    root: PathBuf,
}

/// A package in the cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Package {
    /// Debian's name.
    pub(crate) name: String,
    /// Debian's version, with its epoch.
    pub(crate) version: String,
    /// Such as `amd64`, or `all`.
    pub(crate) architecture: String,
    /// The `.deb`.
    pub(crate) file: PathBuf,
}

/// Why packages could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AptError {
    #[error("writing apt's configuration to {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("apt speaks of {package}, but its file is not in the cache")]
    Missing { package: String },
}

impl Apt {
    /// Sets up the state under `root` for packages of `architecture` (`amd64`, `arm64`).
    pub(crate) fn open(root: &Path, architecture: &str) -> Result<Self, AptError> {
        let at = |path: PathBuf| move |source| AptError::Write { path, source };
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(at(path))?;
        }
        let folder = root.display();
        let configuration = format!(
            "Dir::State \"{folder}/state\";\nDir::State::status \"{folder}/status\";\n\
             Dir::Cache \"{folder}/cache\";\nAPT::Architecture \"{architecture}\";\n\
             APT::Architectures {{ \"{architecture}\"; }};\nAPT::Install-Recommends \"false\";\n\
             APT::Sandbox::User \"root\";\nAPT::Keep-Downloaded-Packages \"true\";\n"
        );
        for (name, text) in [("apt.conf", configuration.as_str()), ("status", "")] {
            let path = root.join(name);
            fs::write(&path, text).map_err(at(path))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Fetches the archive's lists, unless they are of today.
    pub(crate) fn refresh(&self) -> Result<(), AptError> {
        let stamp = self.root.join("refreshed");
        let age = fs::metadata(&stamp).and_then(|data| data.modified());
        let age = age.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_none_or(|age| age > LISTS_SERVE) {
            self.get().argument("update").run()?;
            fs::write(&stamp, "").map_err(|source| AptError::Write { path: stamp, source })?;
        }
        Ok(())
    }

    /// Fetches packages with all they depend on; sorted by name.
    pub(crate) fn fetch(&self, names: &[&str]) -> Result<Vec<Package>, AptError> {
        let install = || self.get().arguments(["install", "--yes", "--no-install-recommends"]);
        install().arguments(["--download-only"]).arguments(names).run()?;
        let plan = install().argument("--simulate").arguments(names).output()?;
        let archives = self.root.join("cache/archives");
        let mut packages = Vec::new();
        for line in plan.lines() {
            let Some((name, version, architecture)) = planned(line) else { continue };
            let file = archives.join(file_name(name, version, architecture));
            if !file.is_file() {
                return Err(AptError::Missing { package: name.to_owned() });
            }
            let [name, version, architecture] = [name, version, architecture].map(str::to_owned);
            packages.push(Package { name, version, architecture, file });
        }
        packages.sort();
        Ok(packages)
    }

    fn get(&self) -> Tool {
        Tool::of_host("apt-get").argument("-qq").argument("-c").argument(self.root.join("apt.conf"))
    }
}

/// `Inst name (version archive [architecture])`, with ` []` and the like behind it.
fn planned(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    let (version, rest) = rest.split_once(' ')?;
    let architecture = rest.split_once('[')?.1.split_once(']')?.0;
    Some((name.split(':').next()?, version, architecture))
}

fn file_name(name: &str, version: &str, architecture: &str) -> String {
    format!("{name}_{}_{architecture}.deb", version.replace(':', "%3a"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_plan_is_understood() {
        let line = "Inst dmsetup (2:1.02.185-2 Debian:12.13/oldstable [amd64]) []";
        let (name, version, architecture) = planned(line).unwrap();
        assert_eq!(file_name(name, version, architecture), "dmsetup_2%3a1.02.185-2_amd64.deb");
        assert_eq!(planned("Conf dmsetup (2:1.02.185-2 Debian:12.13/oldstable [amd64])"), None);
    }
}
