//! The tree of the root file system: chosen programs of Debian's packages with the libraries they need, the
//! kernel's modules, our own programs, and the overlay last.

use super::elf;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// Folders of libraries in a Debian tree, and the link `lib` of a merged `/usr` as packages may spell it.
const LIBRARIES: [&str; 4] = [
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib/aarch64-linux-gnu",
];

/// `/bin` and its like are links into `/usr`, as in Debian 12.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// Empty folders that the box mounts on or writes below at run time.
const MOUNT_POINTS: [&str; 10] =
    ["dev", "proc", "sys", "run", "tmp", "data", "data/verona", "data/factory", "var", "etc"];

/// A tree in the making.
pub(crate) struct Rootfs<'a> {
    /// Unpacked packages.
    packages: &'a Path,
    tree: PathBuf,
    libraries: BTreeSet<PathBuf>,
    /// Files of the packages that something was taken from, by their path below `packages`.
    taken: BTreeSet<PathBuf>,
}

/// A file could not be brought into the tree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootfsError {
    #[error("{doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} needs {library}, which no package of the recipe has", .program.display())]
    Library { program: PathBuf, library: String },
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RootfsError {
    move |source| RootfsError::Io { doing, path: path.to_owned(), source }
}

impl<'a> Rootfs<'a> {
    /// An empty tree at `tree`, to be filled from the packages unpacked at `packages`.
    pub(crate) fn new(packages: &'a Path, tree: PathBuf) -> Result<Self, RootfsError> {
        if tree.exists() {
            fs::remove_dir_all(&tree).map_err(io_error("removing", &tree))?;
        }
        for folder in MOUNT_POINTS.iter().copied().chain(["usr/bin", "usr/sbin", "usr/lib", "usr/lib64"]) {
            make_folder(&tree.join(folder))?;
        }
        for name in MERGED {
            let link = tree.join(name);
            symlink(format!("usr/{name}"), &link).map_err(io_error("linking", &link))?;
        }
        Ok(Self { packages, tree, libraries: BTreeSet::new(), taken: BTreeSet::new() })
    }

    /// The tree's folder.
    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// The packages' files that are in the tree, by their path in the package.
    pub(crate) fn taken(&self) -> &BTreeSet<PathBuf> {
        &self.taken
    }

    /// Takes a program of a package, by its path on the box, and its libraries.
    pub(crate) fn program(&mut self, path: &str) -> Result<(), RootfsError> {
        let relative = path.trim_start_matches('/');
        let from = self.packages.join(relative);
        self.install(&from, &merged(relative), 0o755)
    }

    /// Takes all files below a folder of a package.
    pub(crate) fn folder(&mut self, path: &str) -> Result<(), RootfsError> {
        let relative = path.trim_start_matches('/');
        for file in files_below(&self.packages.join(relative))? {
            let name = file.strip_prefix(self.packages).unwrap_or(&file).to_owned();
            self.install(&file, &merged(&name.to_string_lossy()), 0o644)?;
        }
        Ok(())
    }

    /// Puts a file of ours at `path` on the box.
    pub(crate) fn install(&mut self, from: &Path, path: &str, mode: u32) -> Result<(), RootfsError> {
        let to = self.tree.join(path);
        if let Some(parent) = to.parent() {
            make_folder(parent)?;
        }
        fs::copy(from, &to).map_err(io_error("copying", from))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))
            .map_err(io_error("setting the mode of", &to))?;
        let real = from.canonicalize().map_err(io_error("finding", from))?;
        if let Ok(path) = real.strip_prefix(self.packages) {
            self.taken.insert(path.to_owned());
        }
        self.libraries_of(from)
    }

    /// Writes a file of the builder's at `path` on the box.
    pub(crate) fn write(&self, path: &str, content: &str) -> Result<(), RootfsError> {
        let to = self.tree.join(path);
        fs::write(&to, content).map_err(io_error("writing", &to))
    }

    /// Links `path` on the box to `target`.
    pub(crate) fn link(&self, target: &str, path: &str) -> Result<(), RootfsError> {
        let link = self.tree.join(path);
        if link.symlink_metadata().is_ok() {
            return Ok(());
        }
        symlink(target, &link).map_err(io_error("linking", &link))
    }

    fn libraries_of(&mut self, program: &Path) -> Result<(), RootfsError> {
        let Some(needs) = elf::needs(program).map_err(io_error("reading", program))? else { return Ok(()) };
        if let Some(interpreter) = needs.interpreter {
            let path = interpreter.to_string_lossy().trim_start_matches('/').to_owned();
            self.library(&self.packages.join(&path), &merged(&path))?;
        }
        for name in needs.libraries {
            let found = LIBRARIES.iter().map(|folder| Path::new(folder).join(&name));
            let found = found.map(|path| (self.packages.join(&path), path)).find(|(from, _)| from.exists());
            let Some((from, path)) = found else {
                return Err(RootfsError::Library { program: program.to_owned(), library: name });
            };
            self.library(&from, &merged(&path.to_string_lossy()))?;
        }
        Ok(())
    }

    /// A library's content under the name that programs ask for; its links are not kept.
    fn library(&mut self, from: &Path, path: &str) -> Result<(), RootfsError> {
        if self.libraries.insert(PathBuf::from(path)) {
            let from = from.canonicalize().map_err(io_error("finding", from))?;
            self.install(&from, path, 0o755)?;
        }
        Ok(())
    }

    /// Copies a tree over this one: files with their executable bit, links as links.
    pub(crate) fn overlay(&mut self, source: &Path) -> Result<(), RootfsError> {
        for file in files_below(source)? {
            let name = file.strip_prefix(source).unwrap_or(&file).to_string_lossy().into_owned();
            let metadata = file.symlink_metadata().map_err(io_error("reading", &file))?;
            if metadata.is_symlink() {
                let target = fs::read_link(&file).map_err(io_error("reading", &file))?;
                self.link(&target.to_string_lossy(), &merged(&name))?;
            } else {
                let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
                self.install(&file, &merged(&name), mode)?;
            }
        }
        Ok(())
    }
}

/// A path below `/usr` for one that a package still spells without.
fn merged(path: &str) -> String {
    let first = path.split('/').next().unwrap_or(path);
    if MERGED.contains(&first) && path.contains('/') { format!("usr/{path}") } else { path.to_owned() }
}

/// All files and links below a folder, in the order of their names.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, RootfsError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(io_error("reading", &folder))? {
            let entry = entry.map_err(io_error("reading", &folder))?;
            let kind = entry.file_type().map_err(io_error("reading", &folder))?;
            if kind.is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.sort();
    Ok(files)
}

fn make_folder(path: &Path) -> Result<(), RootfsError> {
    fs::create_dir_all(path).map_err(io_error("making", path))
}
