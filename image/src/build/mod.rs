//! Builds an image: packages, root file system, verity, unified kernel image, disk.
//!
//! Each step leaves a file in the work folder and takes nothing but the files of steps before it. Everything
//! that would make two builds differ (times, salts, identifiers, the order of files) is fixed here or derived
//! from the content.

mod apt;
mod disk;
mod elf;
mod initramfs;
mod kernel;
mod modules;
mod pack;
mod packages;
mod programs;
pub(crate) mod recipe;
pub(crate) mod release;
mod rootfs;
mod sbom;
pub(crate) mod tool;
mod uki;
mod verity;

pub(crate) use pack::pack;

use apt::{Apt, AptError};
use kernel::Kernel;
use modules::UnknownModule;
use packages::Unpacked;
use recipe::Edition;
use release::{Kind, Release};
use rootfs::{Rootfs, RootfsError};
use sbom::SbomError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tool::{Prefix, Tool, ToolError};
use verity::Verified;

/// What to build, and where.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) edition: Edition,
    /// Of the firmware, `major.minor.patch`.
    pub(crate) version: String,
    /// The lowest version that a box with this one may go back to.
    pub(crate) floor: String,
    /// The root of trust of firmware updates (TUF's `root.json`); without it a box takes no updates.
    pub(crate) firmware_root: Option<PathBuf>,
    /// The checkout that our programs and their crates are of.
    pub(crate) sources: PathBuf,
    /// Cache of packages and work folder; may be deleted at any time.
    pub(crate) cache: PathBuf,
    /// Where the artefacts go.
    pub(crate) output: PathBuf,
    /// The overlay folder, with `rootfs/` and `permissions.txt`.
    pub(crate) overlay: PathBuf,
    /// Folder with our programs; compiled from the checkout when there is none.
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
    #[error(transparent)]
    Sbom(#[from] SbomError),
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

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    move |source| BuildError::Io { doing, path: path.to_owned(), source }
}

/// The boot chooser and the stub, where Debian's packages have them.
const CHOOSER: &str = "usr/lib/x86_64-linux-gnu/efibootguard/efibootguardx64.efi";
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// Runs all steps; `step` is told the name of each as it begins.
///
/// # Errors
///
/// The first step that failed.
pub(crate) fn run(plan: &Plan, step: &mut dyn FnMut(&str)) -> Result<Release, BuildError> {
    let work = plan.cache.join(plan.edition.name());
    for folder in [&work, &plan.output] {
        fs::create_dir_all(folder).map_err(io_error("making", folder))?;
    }
    let release = Release::new(&plan.output, plan.edition);
    let programs = match &plan.programs {
        Some(folder) => folder.clone(),
        None => {
            step("programs");
            programs::compile(&plan.sources, &plan.cache)?
        }
    };

    step("packages");
    let apt = Apt::open(&plan.cache.join("apt"), "amd64")?;
    apt.refresh()?;
    let tools = apt.fetch(recipe::TOOL_PACKAGES)?;
    // The host's own C library runs the tools: a program's loader and its library must be of one version.
    let tools = Unpacked::open(tools, &plan.cache.join("tools"), |package| package.name != "libc6")?;
    let prefix = Prefix(tools.folder.clone());
    let mut names = recipe::ROOT_PACKAGES.to_vec();
    names.push(plan.edition.kernel_package());
    let packages = Unpacked::open(apt.fetch(&names)?, &canonical(&work)?.join("packages"), |_| true)?;

    step("root file system");
    let kernel = Kernel::find(&packages.folder, &prefix)?;
    let root = make_tree(plan, &prefix, &programs, &packages, &kernel, &work)?;
    let verified = verity::seal(&prefix, root.tree(), &release.path(Kind::Root))?;

    step("kernel image");
    make_kernel_image(plan, &release, &tools.folder, &programs.join("verona-init"), &kernel, &verified)?;

    step("bill of materials");
    let mut parts = packages.owners_of(root.taken());
    parts.extend(tools.named(recipe::BOOT_PACKAGES));
    let crates = sbom::crates_of(&plan.sources, recipe::OUR_CRATES, recipe::TARGET)?;
    let path = release.path(Kind::Sbom);
    let bill = sbom::bill("verona-edge", &plan.version, &parts, &crates);
    fs::write(&path, bill).map_err(io_error("writing", &path))?;

    pack(&prefix, &release, &work, step)?;
    Ok(release)
}

fn canonical(folder: &Path) -> Result<PathBuf, BuildError> {
    folder.canonicalize().map_err(io_error("finding", folder))
}

/// What the system tells of itself, and what the stub shows in boot menus.
fn os_release(plan: &Plan) -> String {
    let (version, edition) = (&plan.version, plan.edition.name());
    format!(
        "ID=verona-edge\nNAME=\"Verona Edge\"\nPRETTY_NAME=\"Verona Edge {version}\"\nVERSION_ID={version}\n\
         VARIANT_ID={edition}\n"
    )
}

/// What the agent's updates go by.
const UPDATES: &str = "usr/share/verona/firmware";

fn release_json(plan: &Plan) -> String {
    let (edition, version, floor) = (plan.edition.name(), &plan.version, &plan.floor);
    format!("{{\"edition\":\"{edition}\",\"version\":\"{version}\",\"floor\":\"{floor}\"}}\n")
}

fn command_line(verified: &Verified) -> String {
    let (blocks, hash, salt) = (verified.data_blocks, &verified.root_hash, verity::SALT);
    format!("console=tty0 console=ttyS0 quiet panic=10 verona.verity={blocks},{hash},{salt}")
}

/// What modprobe looks modules up in, with those of the image alone: the box reads it whole for each module.
fn index(prefix: &Prefix, tree: &Path, kernel: &Kernel) -> Result<(), BuildError> {
    prefix.tool("depmod").argument("--basedir").argument(tree).argument(&kernel.release).run()?;
    // For a modprobe that the box does not have.
    let folder = tree.join("usr/lib/modules").join(&kernel.release);
    for entry in fs::read_dir(&folder).map_err(io_error("reading", &folder))? {
        let path = entry.map_err(io_error("reading", &folder))?.path();
        if path.extension().is_some_and(|kind| kind == "bin") {
            fs::remove_file(&path).map_err(io_error("removing", &path))?;
        }
    }
    Ok(())
}

fn make_tree<'a>(
    plan: &Plan,
    prefix: &Prefix,
    programs: &Path,
    packages: &'a Unpacked,
    kernel: &Kernel,
    work: &Path,
) -> Result<Rootfs<'a>, BuildError> {
    let mut root = Rootfs::new(&packages.folder, work.join("tree"))?;
    for program in recipe::PROGRAMS {
        root.program(program)?;
    }
    for folder in recipe::FOLDERS {
        root.folder(folder)?;
    }
    for program in recipe::OUR_PROGRAMS {
        root.install(&programs.join(program), &format!("usr/sbin/{program}"), 0o755)?;
    }
    link_applets(&root)?;
    // Where programs expect what lasts until the next start.
    root.link("/run", "var/run")?;
    root.link("/run/verona/resolv.conf", "etc/resolv.conf")?;
    root.write("usr/lib/os-release", &os_release(plan))?;
    root.link("/usr/lib/os-release", "etc/os-release")?;
    if let Some(trusted) = &plan.firmware_root {
        root.install(trusted, &format!("{UPDATES}/root.json"), 0o644)?;
        root.write(&format!("{UPDATES}/release.json"), &release_json(plan))?;
    }
    let modules = format!("usr/lib/modules/{}", kernel.release);
    for file in kernel.modules.closure(&plan.edition.modules())? {
        root.install(&kernel.folder.join(&file), &format!("{modules}/{}", file.display()), 0o644)?;
    }
    for name in ["modules.builtin", "modules.order"] {
        root.install(&kernel.folder.join(name), &format!("{modules}/{name}"), 0o644)?;
    }
    index(prefix, root.tree(), kernel)?;
    root.overlay(&plan.overlay.join("rootfs"))?;
    Ok(root)
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

/// The unified kernel image, with its parts beside it.
fn make_kernel_image(
    plan: &Plan,
    release: &Release,
    tools: &Path,
    init: &Path,
    kernel: &Kernel,
    verified: &Verified,
) -> Result<(), BuildError> {
    let read = |path: &Path| fs::read(path).map_err(io_error("reading", path));
    let initramfs = kernel.initramfs(init, &plan.edition.boot_modules())?;
    let (command_line, linux) = (command_line(verified), read(&kernel.image)?);
    let image = uki::assemble(
        &read(&tools.join(STUB))?,
        &[
            uki::Section { name: ".osrel", content: os_release(plan).as_bytes() },
            uki::Section { name: ".cmdline", content: command_line.as_bytes() },
            uki::Section { name: ".linux", content: &linux },
            uki::Section { name: ".initrd", content: &initramfs },
        ],
    )?;
    for (kind, content) in [
        (Kind::KernelImage, &image),
        (Kind::Kernel, &linux),
        (Kind::Initramfs, &initramfs),
        (Kind::CommandLine, &command_line.into_bytes()),
        (Kind::Chooser, &read(&tools.join(CHOOSER))?),
    ] {
        let path = release.path(kind);
        fs::write(&path, content).map_err(io_error("writing", &path))?;
    }
    Ok(())
}
