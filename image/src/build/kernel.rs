//! The kernel among the unpacked packages, and the initramfs for it.

use super::initramfs::Archive;
use super::modules::Modules;
use super::tool::Prefix;
use super::{BuildError, io_error};
use std::fs;
use std::path::{Path, PathBuf};

/// A kernel and its modules.
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    /// Its folder of modules.
    pub(crate) folder: PathBuf,
    /// As `uname -r` tells it.
    pub(crate) release: String,
    pub(crate) modules: Modules,
}

impl Kernel {
    /// The newest kernel in `packages`.
    pub(crate) fn find(packages: &Path, prefix: &Prefix) -> Result<Self, BuildError> {
        let boot = packages.join("boot");
        let entries = fs::read_dir(&boot).map_err(io_error("reading", &boot))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let release = names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned)).max();
        let release = release.ok_or(BuildError::Missing { what: "a kernel" })?;
        let folder = packages.join("lib/modules").join(&release);
        prefix.tool("depmod").argument("--basedir").argument(packages).argument(&release).run()?;
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(io_error("reading", &path))
        };
        let modules = Modules::parse(&read("modules.dep")?, &read("modules.builtin")?);
        Ok(Self { image: boot.join(format!("vmlinuz-{release}")), folder, release, modules })
    }

    /// The initramfs: the program `init`, and `modules` with what they need, in the order of loading.
    pub(crate) fn initramfs(&self, init: &Path, modules: &[&str]) -> Result<Vec<u8>, BuildError> {
        let read = |path: &Path| fs::read(path).map_err(io_error("reading", path));
        let mut archive = Archive::default();
        for folder in ["dev", "proc", "sys", "root", "modules"] {
            archive.folder(folder);
        }
        archive.program("init", &read(init)?);
        let mut order = String::new();
        for file in self.modules.closure(modules)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            archive.file(&format!("modules/{name}"), &read(&self.folder.join(&file))?);
            order.push_str(&name);
            order.push('\n');
        }
        archive.file("modules/order", order.as_bytes());
        Ok(archive.finish())
    }
}
