//! Builds an image: packages, root file system, verity, unified kernel image, disk.
//!
//! Each step leaves a file in the work folder and takes nothing but the files of steps before it. Everything
//! that would make two builds differ (times, salts, identifiers, the order of files) is fixed here or derived
//! from the content.

mod apt;
mod disk;
mod elf;
mod initramfs;
mod modules;
mod programs;
pub(crate) mod recipe;
mod rootfs;
mod tool;
mod uki;
mod verity;

use apt::{Apt, AptError, Package};
use modules::{Modules, UnknownModule};
use recipe::Edition;
use rootfs::{Rootfs, RootfsError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tool::{Prefix, Tool, ToolError};
use verity::Verified;

/// What to build, and where.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) edition: Edition,
    /// Cache of packages and work folder; may be deleted at any time.
    pub(crate) cache: PathBuf,
    /// Where the artefacts go.
    pub(crate) output: PathBuf,
    /// The overlay folder, with `rootfs/` and `permissions.txt`.
    pub(crate) overlay: PathBuf,
    /// Folder with our static programs; compiled from the checkout in the current folder when there is none.
    pub(crate) programs: Option<PathBuf>,
}

/// A step of the build failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error(transparent)]
    Apt(#[from] AptError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Module(#[from] UnknownModule),
    #[error(transparent)]
    Stub(#[from] uki::StubError),
    #[error("{doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} of {length} octets does not fit into {name} of {room}", .file.display())]
    TooLarge { file: PathBuf, name: String, length: u64, room: u64 },
    #[error("no package of the recipe has {what}")]
    Missing { what: &'static str },
    #[error("the compiler failed ({status})")]
    Compiler { status: std::process::ExitStatus },
    #[error("{tool} did not tell {what}")]
    Untold { tool: &'static str, what: &'static str },
}

pub(super) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    move |source| BuildError::Io { doing, path: path.to_owned(), source }
}

/// What a build made.
#[derive(Debug)]
pub(crate) struct Artefacts {
    /// The whole disk, sparse.
    pub(crate) disk: PathBuf,
    /// The root with its hash tree, as a slot holds it.
    pub(crate) root: PathBuf,
    /// The unified kernel image of slot A; an update makes that of the other slot from the same parts.
    pub(crate) kernel: PathBuf,
}

/// The boot chooser and the stub, where Debian's packages have them.
const CHOOSER: &str = "usr/lib/x86_64-linux-gnu/efibootguard/efibootguardx64.efi";
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// Runs all steps; `step` is told the name of each as it begins.
///
/// # Errors
///
/// The first step that failed. Artefacts of an earlier build are left as they were.
pub(crate) fn run(plan: &Plan, step: &mut dyn FnMut(&str)) -> Result<Artefacts, BuildError> {
    let edition = plan.edition.name();
    let work = plan.cache.join(edition);
    fs::create_dir_all(&work).map_err(io_error("making", &work))?;
    fs::create_dir_all(&plan.output).map_err(io_error("making", &plan.output))?;
    let artefact = |kind: &str| plan.output.join(format!("verona-{edition}.{kind}"));

    let programs = match &plan.programs {
        Some(folder) => folder.clone(),
        None => {
            step("programs");
            let here = std::env::current_dir().map_err(io_error("finding", Path::new(".")))?;
            programs::compile(&here, &plan.cache)?
        }
    };

    step("packages");
    let apt = Apt::open(&plan.cache.join("apt"), "amd64")?;
    apt.refresh()?;
    let tools = apt.fetch(recipe::TOOL_PACKAGES)?;
    // The host's own C library runs the tools: a program's loader and its library must be of one version.
    let tools = unpack(&tools, &plan.cache.join("tools"), |package| package.name != "libc6")?;
    let prefix = Prefix(tools.clone());
    let mut names = recipe::ROOT_PACKAGES.to_vec();
    names.push(plan.edition.kernel_package());
    let packages = unpack(&apt.fetch(&names)?, &work.join("packages"), |_| true)?;

    step("root file system");
    let kernel = Kernel::find(&packages, &prefix)?;
    let tree = make_tree(plan, &programs, &packages, &kernel, &work)?;
    let root = artefact("root");
    let verified = verity::seal(&prefix, &tree, &root)?;

    step("kernel image");
    let initramfs = make_initramfs(plan, &programs, &kernel)?;
    let read = |path: &Path| fs::read(path).map_err(io_error("reading", path));
    let image = uki::assemble(
        &read(&tools.join(STUB))?,
        &[
            uki::Section { name: ".osrel", content: OS_RELEASE.as_bytes() },
            uki::Section { name: ".cmdline", content: command_line("root-a", &verified).as_bytes() },
            uki::Section { name: ".linux", content: &read(&kernel.image)? },
            uki::Section { name: ".initrd", content: &initramfs },
        ],
    )?;
    let uki = artefact("efi");
    fs::write(&uki, image).map_err(io_error("writing", &uki))?;

    step("disk image");
    let disk = artefact("img");
    let contents = disk::Contents { chooser: &tools.join(CHOOSER), kernel: &uki, root: &root };
    disk::assemble(&prefix, &contents, &work, &disk)?;
    Ok(Artefacts { disk, root, kernel: uki })
}

/// What the stub shows in boot menus; the version of the image is the agent's to tell.
const OS_RELEASE: &str = "ID=verona-edge\nNAME=\"Verona Edge\"\n";

fn command_line(slot: &str, verified: &Verified) -> String {
    let (blocks, hash, salt) = (verified.data_blocks, &verified.root_hash, verity::SALT);
    format!(
        "console=tty0 console=ttyS0 quiet panic=10 verona.slot={slot} verona.verity={blocks},{hash},{salt}"
    )
}

/// Unpacks packages into `folder`, unless just these are there already.
fn unpack(
    packages: &[Package],
    folder: &Path,
    wanted: impl Fn(&Package) -> bool,
) -> Result<PathBuf, BuildError> {
    let stamp = folder.with_extension("packages");
    let list: String =
        packages.iter().map(|package| format!("{} {}\n", package.name, package.version)).collect();
    if fs::read_to_string(&stamp).is_ok_and(|present| present == list) {
        return Ok(folder.to_owned());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(io_error("removing", folder))?;
    }
    fs::create_dir_all(folder).map_err(io_error("making", folder))?;
    for package in packages.iter().filter(|package| wanted(package)) {
        Tool::of_host("dpkg-deb").argument("--extract").argument(&package.file).argument(folder).run()?;
    }
    fs::write(&stamp, list).map_err(io_error("writing", &stamp))?;
    Ok(folder.to_owned())
}

/// The kernel among the unpacked packages.
struct Kernel {
    image: PathBuf,
    /// Its folder of modules.
    folder: PathBuf,
    /// As `uname -r` tells it.
    release: String,
    modules: Modules,
}

impl Kernel {
    fn find(packages: &Path, prefix: &Prefix) -> Result<Self, BuildError> {
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
}

fn make_tree(
    plan: &Plan,
    programs: &Path,
    packages: &Path,
    kernel: &Kernel,
    work: &Path,
) -> Result<PathBuf, BuildError> {
    let mut root = Rootfs::new(packages, work.join("tree"))?;
    for program in recipe::PROGRAMS {
        root.program(program)?;
    }
    for folder in recipe::FOLDERS {
        root.folder(folder)?;
    }
    for (_, program) in recipe::OUR_PROGRAMS {
        root.install(&programs.join(program), &format!("usr/sbin/{program}"), 0o755)?;
    }
    link_applets(&root)?;
    // Where programs expect what lasts until the next start.
    root.link("/run", "var/run")?;
    let modules = format!("usr/lib/modules/{}", kernel.release);
    for file in kernel.modules.closure(&plan.edition.modules())? {
        root.install(&kernel.folder.join(&file), &format!("{modules}/{}", file.display()), 0o644)?;
    }
    for name in ["modules.dep", "modules.builtin", "modules.alias", "modules.softdep", "modules.symbols"] {
        root.install(&kernel.folder.join(name), &format!("{modules}/{name}"), 0o644)?;
    }
    root.overlay(&plan.overlay.join("rootfs"))?;
    Ok(root.tree().to_owned())
}

/// busybox's applets under their names, wherever no program of that name is there already.
fn link_applets(root: &Rootfs<'_>) -> Result<(), BuildError> {
    let busybox = root.tree().join("bin/busybox");
    let applets = Tool::of_host(&busybox.to_string_lossy()).argument("--list-full").output()?;
    for applet in applets.lines() {
        let name = if applet.starts_with("usr/") { applet.to_owned() } else { format!("usr/{applet}") };
        root.link("/bin/busybox", &name)?;
    }
    Ok(())
}

fn make_initramfs(plan: &Plan, programs: &Path, kernel: &Kernel) -> Result<Vec<u8>, BuildError> {
    let read = |path: &Path| fs::read(path).map_err(io_error("reading", path));
    let mut archive = initramfs::Archive::default();
    for folder in ["dev", "proc", "sys", "root", "modules"] {
        archive.folder(folder);
    }
    archive.program("init", &read(&programs.join("verona-init"))?);
    let mut order = String::new();
    for file in kernel.modules.closure(&plan.edition.boot_modules())? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        archive.file(&format!("modules/{name}"), &read(&kernel.folder.join(&file))?);
        order.push_str(&name);
        order.push('\n');
    }
    archive.file("modules/order", order.as_bytes());
    Ok(archive.finish())
}
