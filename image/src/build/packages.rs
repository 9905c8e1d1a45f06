//! Unpacked packages, and which file is whose.

use super::apt::Package;
use super::tool::Tool;
use super::{BuildError, io_error};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Packages in one folder, as if they were installed there, but without their scripts.
pub(crate) struct Unpacked {
    pub(crate) folder: PathBuf,
    packages: Vec<Package>,
    /// Index of the package, by the file's path.
    owners: BTreeMap<PathBuf, usize>,
}

impl Unpacked {
    /// Unpacks those that are `wanted` into `folder`, unless just these are there already.
    pub(crate) fn open(
        packages: Vec<Package>,
        folder: &Path,
        wanted: impl Fn(&Package) -> bool,
    ) -> Result<Self, BuildError> {
        let stamp = folder.with_extension("packages");
        let list: String =
            packages.iter().map(|package| format!("{} {}\n", package.name, package.version)).collect();
        if !fs::read_to_string(&stamp).is_ok_and(|present| present == list) {
            if folder.exists() {
                fs::remove_dir_all(folder).map_err(io_error("removing", folder))?;
            }
            fs::create_dir_all(folder).map_err(io_error("making", folder))?;
            let mut files = String::new();
            for package in packages.iter().filter(|package| wanted(package)) {
                let deb = |action| Tool::of_host("dpkg-deb").argument(action).argument(&package.file);
                deb("--extract").argument(folder).run()?;
                for file in deb("--contents").output()?.lines().filter_map(listed) {
                    files.push_str(&format!("{} {file}\n", package.name));
                }
            }
            let path = folder.with_extension("files");
            fs::write(&path, files).map_err(io_error("writing", &path))?;
            fs::write(&stamp, list).map_err(io_error("writing", &stamp))?;
        }
        let path = folder.with_extension("files");
        let files = fs::read_to_string(&path).map_err(io_error("reading", &path))?;
        let index: BTreeMap<&str, usize> =
            packages.iter().enumerate().map(|(index, package)| (package.name.as_str(), index)).collect();
        let owners = files.lines().filter_map(|line| line.split_once(' '));
        let owners = owners.filter_map(|(name, file)| Some((PathBuf::from(file), *index.get(name)?)));
        Ok(Self { folder: folder.to_owned(), owners: owners.collect(), packages })
    }

    /// The packages that `files` (paths below the folder) are of.
    pub(crate) fn owners_of<'a>(&'a self, files: &BTreeSet<PathBuf>) -> BTreeSet<&'a Package> {
        let indices = files.iter().filter_map(|file| self.owners.get(file));
        indices.filter_map(|index| self.packages.get(*index)).collect()
    }

    /// The packages of those names.
    pub(crate) fn named<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a Package> {
        self.packages.iter().filter(|package| names.contains(&package.name.as_str()))
    }
}

/// The path in a line of `dpkg-deb --contents`, if it is one of a file.
fn listed(line: &str) -> Option<&str> {
    let path = line.split_once(" ./")?.1;
    (!path.is_empty() && line.starts_with('-')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_of_a_package() {
        let line = "-rwxr-xr-x root/root    806656 2023-02-05 12:00 ./bin/busy box";
        assert_eq!(listed(line), Some("bin/busy box"));
        assert_eq!(listed("drwxr-xr-x root/root 0 2023-02-05 12:00 ./bin/"), None);
        assert_eq!(listed("drwxr-xr-x root/root 0 2023-02-05 12:00 ./"), None);
    }
}
