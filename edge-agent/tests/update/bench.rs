//! A box without a machine: a disk image laid out by the tools that lay out real ones, the chooser's rule, a repository
//! made by `verona-image`, served by a web server that knows nothing of all this.

#![allow(dead_code, reason = "two test programs use it, each another part")]

use edge_agent::update::{Disk, Firmware, Host, Image, Source, SourceError, Updater, Web};
use edge_agent_core::update::Slot;
use edge_agent_core::update::chooser::next_start;
use edge_agent_core::update::environment::Environment;
use edge_agent_core::update::trial::Health;
use lab::{wait, workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use verona_contract::api::{UpdateAck, UpdateState};
use verona_contract::config::{UpdateConfig, Version, Window};

const MIB: u64 = 1 << 20;
/// GPT name, first MiB, MiB.
const PARTITIONS: [(&str, u64, u64); 4] =
    [("BOOT0", 1, 8), ("BOOT1", 9, 8), ("root-a", 17, 32), ("root-b", 49, 32)];

pub(crate) const V1: Version = Version::new(1, 0, 0);
pub(crate) const V2: Version = Version::new(2, 0, 0);
pub(crate) const V3: Version = Version::new(3, 0, 0);

/// Runs a program that must succeed, and returns what it printed.
pub(crate) fn run(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
    let output = Command::new(&program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{:?}: {error}", program.as_ref()));
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{:?} {arguments:?}: {out}{err}", program.as_ref());
    out
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Octets that compress badly and differ from version to version.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut octets = Vec::with_capacity(length + 8);
    while octets.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        octets.extend_from_slice(&state.to_le_bytes());
    }
    octets.truncate(length);
    octets
}

/// One build: a root sealed by veritysetup, and a kernel image that names it.
pub(crate) struct Build {
    pub(crate) root: Vec<u8>,
    pub(crate) kernel: Vec<u8>,
}

impl Build {
    pub(crate) fn new(folder: &Path, seed: u64, root_length: usize) -> Self {
        let file = folder.join(format!("build-{seed}.root"));
        let blocks = root_length / 4096;
        fs::write(&file, noise(seed, blocks * 4096)).unwrap();
        let (length, data) = (format!("--hash-offset={}", blocks * 4096), format!("--data-blocks={blocks}"));
        let report = run("veritysetup", &["format", "--salt=00ff", &data, &length, path(&file), path(&file)]);
        let hash = report.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim().to_owned();
        let root = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let line = format!("quiet verona.verity={blocks},{hash},00ff");
        Self { root, kernel: kernel_image(&line, seed) }
    }
}

/// A PE file with a command line and octets in place of a kernel.
fn kernel_image(line: &str, seed: u64) -> Vec<u8> {
    let mut image = vec![0; 0x400];
    image[0x3c] = 0x40;
    image[0x40..0x44].copy_from_slice(b"PE\0\0");
    image[0x46] = 1;
    image[0x58..0x60].copy_from_slice(b".cmdline");
    image[0x60..0x64].copy_from_slice(&(line.len() as u32).to_le_bytes());
    image[0x6c..0x70].copy_from_slice(&0x400_u32.to_le_bytes());
    image.extend_from_slice(line.as_bytes());
    image.extend(noise(seed + 1000, 300_000));
    image
}

/// What the agent around an update would say and do.
#[derive(Default)]
pub(crate) struct TestHost {
    pub(crate) wish: Mutex<Option<UpdateConfig>>,
    pub(crate) clock_doubt: Mutex<Option<String>>,
    pub(crate) health: Mutex<Health>,
    pub(crate) now_s: Mutex<Option<i64>>,
    pub(crate) reports: Mutex<Vec<UpdateAck>>,
    pub(crate) restarts: AtomicU32,
}

impl Host for &TestHost {
    fn wish(&self) -> Option<UpdateConfig> {
        self.wish.lock().unwrap().clone()
    }

    fn now_s(&self) -> Result<i64, String> {
        match &*self.clock_doubt.lock().unwrap() {
            Some(doubt) => Err(doubt.clone()),
            None => Ok(self.now_s.lock().unwrap().unwrap_or_else(edge_agent::clock::wall_s)),
        }
    }

    fn source(&self, wish: &UpdateConfig) -> Result<Source, SourceError> {
        Ok(Source::Web(Web::new(wish.repository.as_deref().unwrap())?))
    }

    async fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }

    async fn report(&self, ack: UpdateAck) {
        self.reports.lock().unwrap().push(ack);
    }

    fn restart(&self) -> Result<(), String> {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl TestHost {
    pub(crate) fn reported(&self) -> Vec<(Version, UpdateState)> {
        self.reports.lock().unwrap().iter().map(|ack| (ack.version, ack.state)).collect()
    }
}

/// The box, the repository and its server.
pub(crate) struct Bench {
    pub(crate) host: TestHost,
    folder: PathBuf,
    /// What the one who made the bench takes down with it.
    owned: Option<(TempDir, Child)>,
    port: u16,
    disk: PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some((_, server)) = &mut self.owned {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Bench {
    /// A box that runs version 1 from slot A, and an empty repository that it trusts.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        make_disk(folder.path());
        let repository = folder.path().join("repository");
        fs::create_dir(&repository).unwrap();
        let (server, port) = serve(&repository);
        let path = folder.path().to_owned();
        let bench = Self {
            host: TestHost::default(),
            disk: path.join("disk.img"),
            folder: path,
            owned: Some((folder, server)),
            port,
        };
        bench.image(&["create"]).unwrap();
        bench
    }

    /// The bench of another process, with the wish that it saved.
    pub(crate) fn of(folder: &Path) -> Self {
        let wish = serde_json::from_slice(&fs::read(folder.join("wish")).unwrap()).unwrap();
        let host = TestHost { wish: Mutex::new(Some(wish)), ..TestHost::default() };
        Self { host, disk: folder.join("disk.img"), folder: folder.to_owned(), owned: None, port: 0 }
    }

    pub(crate) fn save_wish(&self) {
        let wish = self.host.wish.lock().unwrap().clone().unwrap();
        fs::write(self.path("wish"), serde_json::to_vec(&wish).unwrap()).unwrap();
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `verona-image repository …` with the folders of this bench.
    pub(crate) fn image(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(workspace::binary("verona-image").unwrap())
            .arg("repository")
            .args(arguments)
            .arg("--keys")
            .arg(self.path("keys"))
            .arg("--repository")
            .arg(self.path("repository"))
            .output()
            .unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Publishes a build of a megabyte as `version`.
    pub(crate) fn publish(&self, version: Version) -> Build {
        let build = Build::new(&self.folder, u64::from(version.to_string().as_bytes()[0]), MIB as usize);
        self.publish_build(version, &build, &[]).unwrap();
        build
    }

    pub(crate) fn publish_build(
        &self,
        version: Version,
        build: &Build,
        more: &[&str],
    ) -> Result<String, String> {
        let (root, kernel) = (self.path("new.root"), self.path("new.efi"));
        fs::write(&root, &build.root).unwrap();
        fs::write(&kernel, &build.kernel).unwrap();
        let version = version.to_string();
        let mut arguments = vec!["add", "--edition", "cloud", "--version", &version, "--root", path(&root)];
        arguments.extend(["--kernel", path(&kernel)]);
        arguments.extend(more);
        self.image(&arguments)
    }

    pub(crate) fn want(&self, version: Version) {
        self.want_in(version, None);
    }

    pub(crate) fn want_in(&self, version: Version, window: Option<Window>) {
        let repository = Some(format!("http://127.0.0.1:{}", self.port));
        *self.host.wish.lock().unwrap() = Some(UpdateConfig { version, repository, window, spread_s: 0 });
    }

    /// An agent that has just started on `slot`, which holds `version`.
    pub(crate) fn agent(&self, running: Slot, version: Version) -> Updater<&TestHost> {
        let image = Image { edition: "cloud".into(), version, floor: V1 };
        let root = fs::read(self.path("repository/metadata/1.root.json")).unwrap();
        let firmware = Firmware { image, root, disk: Disk::Image(self.disk()), running };
        Updater::new(&self.host, firmware, &self.path("state"), Duration::from_secs(1)).unwrap()
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.disk.clone()
    }

    /// From now on another disk, which holds the same.
    pub(crate) fn use_disk(&mut self, disk: &Path) {
        self.disk = disk.to_owned();
    }

    /// Puts a system into slot A, which counts as running.
    pub(crate) fn fill_running(&self) -> Build {
        let build = Build::new(&self.folder, 77, MIB as usize);
        let file = self.path("fill");
        fs::write(&file, &build.kernel).unwrap();
        run("mcopy", &["-i", &self.boot(Slot::A), path(&file), "::/linux.efi"]);
        let disk = fs::OpenOptions::new().write(true).open(&self.disk).unwrap();
        let (_, start, _) = PARTITIONS.iter().find(|(name, ..)| *name == Slot::A.root()).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&disk, &build.root, start * MIB).unwrap();
        build
    }

    /// A start of the machine: what the chooser writes, and which slot it takes.
    pub(crate) fn power_on(&self) -> Slot {
        let [a, b] = Slot::BOTH.map(|slot| {
            let octets = self.boot_file(slot, "BGENV.DAT");
            Environment::parse(&octets).ok()
        });
        let start = next_start([a.as_ref(), b.as_ref()]).expect("something must start");
        if let Some((slot, environment)) = start.written {
            let file = self.path("environment");
            fs::write(&file, environment.as_bytes()).unwrap();
            let image = self.boot(slot);
            run("mcopy", &["-o", "-i", &image, path(&file), "::/BGENV.DAT"]);
        }
        start.slot
    }

    /// A file of a boot partition, as mtools reads it.
    pub(crate) fn boot_file(&self, slot: Slot, name: &str) -> Vec<u8> {
        let output =
            Command::new("mcopy").args(["-i", &self.boot(slot), &format!("::/{name}"), "-"]).output();
        output.unwrap().stdout
    }

    /// The watchdog of a slot bites after `seconds`; 0 = it has none.
    pub(crate) fn arm(&self, slot: Slot, seconds: u16) {
        let file = self.path("armed");
        fs::write(&file, self.boot_file(slot, "BGENV.DAT")).unwrap();
        run("bg_setenv", &["--preserve", "--filepath", path(&file), &format!("--watchdog={seconds}")]);
        run("mcopy", &["-o", "-i", &self.boot(slot), path(&file), "::/BGENV.DAT"]);
    }

    /// The environment of a slot, as the chooser's own tool prints it.
    pub(crate) fn printed(&self, slot: Slot) -> String {
        let file = self.path("printed");
        fs::write(&file, self.boot_file(slot, "BGENV.DAT")).unwrap();
        run("bg_printenv", &["--filepath", path(&file)])
    }

    /// Whether the root of `slot` begins with `octets`.
    pub(crate) fn root_is(&self, slot: Slot, octets: &[u8]) -> bool {
        let (_, start, _) = PARTITIONS.iter().find(|(name, ..)| *name == slot.root()).unwrap();
        let disk = fs::File::open(&self.disk).unwrap();
        let mut found = vec![0; octets.len()];
        std::os::unix::fs::FileExt::read_exact_at(&disk, &mut found, start * MIB).unwrap();
        found == octets
    }

    /// A boot partition's file system, as its own checker finds it.
    pub(crate) fn check_boot(&self, slot: Slot) {
        let (_, start, length) = PARTITIONS.iter().find(|(name, ..)| *name == slot.boot()).unwrap();
        let disk = fs::read(self.disk()).unwrap();
        let file = self.path("boot.fat");
        fs::write(&file, &disk[(start * MIB) as usize..((start + length) * MIB) as usize]).unwrap();
        run("fsck.fat", &["-n", path(&file)]);
    }

    fn boot(&self, slot: Slot) -> String {
        let (_, start, _) = PARTITIONS.iter().find(|(name, ..)| *name == slot.boot()).unwrap();
        format!("{}@@{}", path(&self.disk()), start * MIB)
    }

    /// The file of a target that is served.
    pub(crate) fn served(&self, suffix: &str) -> PathBuf {
        let entries = fs::read_dir(self.path("repository/targets")).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.to_str().unwrap().ends_with(suffix)).unwrap()
    }

    pub(crate) fn metadata(&self, name: &str) -> PathBuf {
        self.path("repository/metadata").join(name)
    }
}

/// Slot A good at revision 1, slot B never written, as `verona-image build` makes a disk.
fn make_disk(folder: &Path) {
    let disk = folder.join("disk.img");
    fs::File::create(&disk).unwrap().set_len(82 * MIB).unwrap();
    let mut script = String::from("label: gpt\n");
    for (name, start, length) in PARTITIONS {
        script += &format!("start={}, size={}, name={name}\n", start * MIB / 512, length * MIB / 512);
    }
    let table = folder.join("table");
    fs::write(&table, script).unwrap();
    run("sh", &["-c", &format!("sfdisk --quiet {} <{}", path(&disk), path(&table))]);
    for (slot, environment) in [
        (Slot::A, vec!["--revision=1", "--kernel=L:BOOT0:linux.efi", "--watchdog=90"]),
        (Slot::B, vec!["--revision=0"]),
    ] {
        let (_, start, length) = PARTITIONS.iter().find(|(name, ..)| *name == slot.boot()).unwrap();
        let (fat, file) = (folder.join("fat"), folder.join("env"));
        let _ = fs::remove_file(&fat);
        fs::File::create(&fat).unwrap().set_len(length * MIB).unwrap();
        run("mkfs.fat", &["-F", "16", "-s", "1", "--invariant", "-n", slot.boot(), path(&fat)]);
        let _ = fs::remove_file(&file);
        let mut arguments = vec!["--filepath", path(&file), "--ustate=0", "--in_progress=0"];
        arguments.extend(environment);
        run("bg_setenv", &arguments);
        run("mcopy", &["-i", path(&fat), path(&file), "::/BGENV.DAT"]);
        let (of, seek) = (format!("of={}", path(&disk)), format!("seek={start}"));
        run("dd", &[&format!("if={}", path(&fat)), &of, &seek, "bs=1M", "conv=notrunc", "status=none"]);
    }
}

/// busybox's web server at a port of the loopback. It ends with this thread, also when that is killed.
fn serve(folder: &Path) -> (Child, u16) {
    for _ in 0..20 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "busybox", "httpd", "-f", "-p", &format!("127.0.0.1:{port}"), "-h"])
            .arg(folder)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let answers = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        let up = wait::until("the web server", Duration::from_secs(10), || {
            answers() || matches!(server.try_wait(), Ok(Some(_)))
        });
        // Somebody else may have taken the port in between.
        if up.is_ok() && matches!(server.try_wait(), Ok(None)) {
            return (server, port);
        }
        let _ = server.kill();
        let _ = server.wait();
    }
    panic!("no port for the web server");
}
