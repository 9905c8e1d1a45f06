//! Which kernel modules an image gets, and in which order the initramfs loads its own.
//!
//! Asked for by name; dependencies come from `modules.dep`, which depmod made. A name that this kernel has
//! built in is no error, one that it does not know is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What depmod knows of one kernel.
pub(crate) struct Modules {
    /// By module name, with `_` for `-`.
    known: BTreeMap<String, Entry>,
    built_in: BTreeSet<String>,
}

struct Entry {
    file: PathBuf,
    /// Names, nearest dependency first as depmod writes them.
    needs: Vec<String>,
}

/// A module that this kernel does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this kernel has no module {0}")]
pub(crate) struct UnknownModule(String);

impl Modules {
    /// From the texts of `modules.dep` and `modules.builtin`.
    pub(crate) fn parse(dep: &str, builtin: &str) -> Self {
        let entries = dep.lines().filter_map(|line| line.split_once(':'));
        let known = entries.map(|(file, needs)| {
            let needs = needs.split_ascii_whitespace().map(name_of).collect();
            (name_of(file), Entry { file: PathBuf::from(file), needs })
        });
        Self { known: known.collect(), built_in: builtin.lines().map(name_of).collect() }
    }

    /// The files of `names` and of all they need, dependencies first, each once; relative to the kernel's
    /// folder of modules.
    ///
    /// # Errors
    ///
    /// The first name that is neither a module nor built in.
    pub(crate) fn closure(&self, names: &[&str]) -> Result<Vec<PathBuf>, UnknownModule> {
        let mut files = Vec::new();
        let mut done = BTreeSet::new();
        for name in names {
            let name = normal(name);
            if self.built_in.contains(&name) {
                continue;
            }
            let entry = self.known.get(&name).ok_or_else(|| UnknownModule(name.clone()))?;
            // depmod lists all dependencies of dependencies, and what must come first at the end.
            for dependency in entry.needs.iter().rev().chain([&name]) {
                if done.insert(dependency.clone())
                    && let Some(entry) = self.known.get(dependency)
                {
                    files.push(entry.file.clone());
                }
            }
        }
        Ok(files)
    }
}

fn name_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    normal(name.split(".ko").next().unwrap_or(name))
}

/// The kernel takes both for the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/net/core/failover.ko:\n\
        kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n\
        kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko\n\
        kernel/drivers/md/dm-verity.ko:\n";

    #[test]
    fn dependencies_come_first_and_once() {
        let modules = Modules::parse(DEP, "kernel/fs/ext4/ext4.ko\n");
        let files = modules.closure(&["net_failover", "virtio_net", "dm-verity", "ext4"]).unwrap();
        let files: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
        assert_eq!(
            files,
            [
                "kernel/net/core/failover.ko",
                "kernel/drivers/net/net_failover.ko",
                "kernel/drivers/net/virtio_net.ko",
                "kernel/drivers/md/dm-verity.ko",
            ]
        );
        assert_eq!(modules.closure(&["dm_verity"]).unwrap().len(), 1, "- and _ are the same");
        assert_eq!(modules.closure(&["e1000e"]).unwrap_err().to_string(), "this kernel has no module e1000e");
    }
}
