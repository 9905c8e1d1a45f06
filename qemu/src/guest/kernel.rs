//! Debian's kernel for guests: fetched by apt once for a target folder, never installed.

use crate::namespace::checked;
use crate::{Error, Result, workspace};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package whose only dependency is the newest kernel.
const PACKAGE: &str = "linux-image-amd64";
/// What finds the root: this machine's files, and a layer over them.
const FOR_ROOT: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];
/// What tests use: nothing in a guest loads a module on demand.
pub(super) const FOR_TESTS: [&str; 32] = [
    "virtio_rng",
    "crc32c_generic",
    "tun",
    "veth",
    "dummy",
    "bridge",
    "8021q",
    "ppp_generic",
    "ppp_async",
    "pppoe",
    "ip6_tunnel",
    "sch_cake",
    "ifb",
    "sch_ingress",
    "cls_matchall",
    "act_mirred",
    "sch_netem",
    "nf_tables",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_reject_inet",
    "nft_limit",
    "nft_connlimit",
    "nft_log",
    "nft_redir",
    "nf_conntrack_netlink",
    "nft_meta_bridge",
    "wireguard",
    "af_packet",
];

/// A kernel and its modules.
pub(super) struct Kernel {
    /// Where its package is unpacked.
    root: PathBuf,
    /// As `uname -r` says it.
    release: String,
}

impl Kernel {
    /// Fetches it, if it is not here already.
    pub(super) fn fetch() -> Result<Self> {
        let folder = workspace::target_dir()?.join("guest-kernel");
        let io = |what: &str| Error::io(format!("{what} {}", folder.display()));
        fs::create_dir_all(&folder).map_err(io("create"))?;
        // Two tests may want it at once.
        let lock = File::create(folder.join("lock")).map_err(io("lock"))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, error)| Error::io(format!("lock {}", folder.display()))(error.into()))?;
        let root = folder.join("root");
        let complete = folder.join("complete");
        if !complete.is_file() {
            unpack(&folder, &root)?;
            fs::write(&complete, "").map_err(io("write into"))?;
        }
        let mut releases = fs::read_dir(root.join("lib/modules")).map_err(io("read"))?.flatten();
        let release = releases.next().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let release =
            release.ok_or_else(|| Error::Environment(format!("{} holds no kernel", root.display())))?;
        Ok(Self { root, release })
    }

    pub(super) fn image(&self) -> PathBuf {
        self.root.join("boot").join(format!("vmlinuz-{}", self.release))
    }

    /// The folder to be mounted on `/lib/modules`.
    pub(super) fn modules(&self) -> PathBuf {
        self.root.join("lib/modules")
    }

    /// Writes an initramfs into `folder` that makes this machine's files the root and runs `script` there.
    pub(super) fn initramfs(&self, folder: &Path, script: &Path) -> Result<PathBuf> {
        let tree = folder.join("initramfs");
        let bin = tree.join("bin");
        let io = |what: &str| Error::io(format!("{what} {}", tree.display()));
        for name in ["bin", "proc", "host", "layer", "root", "lib/modules"] {
            fs::create_dir_all(tree.join(name)).map_err(io("create"))?;
        }
        let busybox = crate::machine::program("busybox")?;
        fs::copy(&busybox, bin.join("busybox")).map_err(io("write into"))?;
        for library in libraries(&busybox) {
            let to = tree.join(library.strip_prefix("/").unwrap_or(&library));
            fs::create_dir_all(to.parent().unwrap_or(&tree)).map_err(io("create"))?;
            fs::copy(&library, &to).map_err(Error::io(format!("copy {}", library.display())))?;
        }
        self.copy_modules(&tree)?;
        fs::write(tree.join("init"), self.init(script)).map_err(io("write into"))?;
        checked(Command::new("chmod").arg("+x").arg(tree.join("init")))?;
        let archive = folder.join("initramfs.cpio");
        let pack =
            format!("cd '{}' && find . | busybox cpio -o -H newc > '{}'", tree.display(), archive.display());
        checked(Command::new("sh").args(["-c", &pack]))?;
        Ok(archive)
    }

    /// All modules that the root needs, with what they need themselves; flat, in the order of loading.
    fn copy_modules(&self, tree: &Path) -> Result<()> {
        for (number, file) in self.closure(&FOR_ROOT)?.into_iter().enumerate() {
            let to = tree.join(format!("lib/modules/{number:03}.ko"));
            fs::copy(&file, &to).map_err(Error::io(format!("copy {}", file.display())))?;
        }
        Ok(())
    }

    /// The files of `names` and of all they need, dependencies first.
    fn closure(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let folder = self.modules().join(&self.release);
        let list = folder.join("modules.dep");
        let text = fs::read_to_string(&list).map_err(Error::io(format!("read {}", list.display())))?;
        let builtin = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
        let named = |file: &str, name: &str| {
            let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".ko");
            stem.replace('-', "_") == name.replace('-', "_")
        };
        let mut files: Vec<PathBuf> = Vec::new();
        for name in names {
            if builtin.lines().any(|file| named(file, name)) {
                continue;
            }
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            let (file, needs) = lines.find(|(file, _)| named(file, name)).ok_or_else(|| {
                Error::Environment(format!("the kernel {} has no module {name}", self.release))
            })?;
            // depmod writes the nearest dependency first.
            for file in needs.split_ascii_whitespace().rev().chain([file]) {
                let file = folder.join(file);
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }

    fn init(&self, script: &Path) -> String {
        format!(
            "#!/bin/busybox sh
for module in /lib/modules/*.ko; do busybox insmod $module; done
busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose host /host
busybox mount -t tmpfs layer /layer
busybox mkdir /layer/upper /layer/work
busybox mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay /root
# Its log is this script's output; /run of this machine is gone once the guest has its own.
busybox mkdir -p /root/verona-guest
busybox cp /host{script} /root/verona-guest/run
exec busybox switch_root /root /bin/sh /verona-guest/run
",
            script = script.display()
        )
    }
}

/// What `program` is linked with; nothing for a static one.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = checked(Command::new("ldd").arg(program)).map(|output| output.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed);
    listed.split_ascii_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn unpack(folder: &Path, root: &Path) -> Result<()> {
    eprintln!("lab: fetching a kernel for guests, some 70 MB, once");
    let name = newest()?;
    checked(Command::new("apt-get").args(["download", "-q", &name]).current_dir(folder))?;
    let packages = fs::read_dir(folder).map_err(Error::io(format!("read {}", folder.display())))?;
    let package = packages
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|it| it == "deb"));
    let package = package.ok_or_else(|| Error::Environment(format!("apt-get download gave no {name}")))?;
    checked(Command::new("dpkg-deb").arg("-x").arg(&package).arg(root))?;
    fs::remove_file(&package).map_err(Error::io(format!("remove {}", package.display())))?;
    let release = name.trim_start_matches("linux-image-");
    checked(Command::new("busybox").args(["depmod", "-b"]).arg(root).arg(release))?;
    Ok(())
}

/// The package of the newest kernel; asks for the lists if there are none.
fn newest() -> Result<String> {
    for attempt in 0..2 {
        let shown = checked(Command::new("apt-cache").args(["depends", PACKAGE]));
        let text =
            shown.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if let Some(name) = text.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-")) {
            return Ok(format!("linux-image-{name}"));
        }
        if attempt == 0 {
            checked(Command::new("apt-get").args(["update", "-q"]))?;
        }
    }
    Err(Error::Environment(format!("apt knows no package {PACKAGE}")))
}
