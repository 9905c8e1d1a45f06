//! Secure Boot with the vendor's keys in the firmware: what was signed starts, and nothing that was changed since.
//!
//! Each case alters one part of a signed disk. A case is over when the part that must refuse has said so on the
//! console; that the system did not start is asserted on top.

use super::BOOT;
use lab::vm::{Boot, Disk, Hardware, Machine, copy_image, enrolled_variables};
use lab::{Namespace, Run, alone, firmware, workspace};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;
/// Where the image's partitions begin (README of `image/`).
const ESP: u64 = MIB;
const BOOT0: u64 = 65 * MIB;
const ROOT_A: u64 = 193 * MIB;

/// What the agent says where there is no factory record: the last of what a system without one does.
const STARTED: &str = "no factory record";

/// An image signed with keys of its own, in the run's folder.
struct Signed {
    folder: PathBuf,
    keys: PathBuf,
    place: Namespace,
}

impl Signed {
    /// Copies the lab's image and signs the copy, by the commands that a vendor uses.
    fn make(run: &Run) -> Self {
        let (folder, keys) = (run.dir().join("image"), run.dir().join("keys"));
        std::fs::create_dir(&folder).unwrap();
        let image = firmware::image().unwrap();
        for entry in std::fs::read_dir(image.folder()).unwrap() {
            let path = entry.unwrap().path();
            if !path.extension().is_some_and(|kind| kind == "img" || kind == "gz" || kind == "qcow2") {
                std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
            }
        }
        let verona_image = |arguments: &[&Path]| {
            let mut command = Command::new(workspace::binary("verona-image").unwrap());
            let output = command.args(arguments).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        verona_image(&["keys".as_ref(), &keys]);
        let cache = image.folder().with_file_name("cache");
        let (output, keys_of, with) = ("--output".as_ref(), "--keys".as_ref(), "--cache".as_ref());
        verona_image(&["sign".as_ref(), output, &folder, keys_of, &keys, with, &cache]);
        Self { folder, keys, place: run.namespace("bench").unwrap() }
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("verona-cloud.{kind}"))
    }

    /// Switches a machine on whose disk is the signed one after `alter`.
    fn start(&self, name: &str, alter: impl FnOnce(&Path)) -> Machine {
        let at = |kind: &str| self.place.run().dir().join(format!("{name}.{kind}"));
        let raw = at("img");
        copy_image(&self.file("img"), &raw).unwrap();
        alter(&raw);
        let hardware = Hardware {
            name: name.to_owned(),
            boot: Boot::SecureUefi { variables: enrolled_variables(&at("vars"), &self.keys).unwrap() },
            disk: Disk::over(&raw, &at("qcow2"), None).unwrap(),
            memory: 256,
            cards: Vec::new(),
            options: Vec::new(),
        };
        Machine::start(&self.place, &hardware).unwrap()
    }

    /// What a machine with the altered disk must show, without ever coming up.
    fn refuses(&self, name: &str, said: &str, alter: impl FnOnce(&Path)) {
        let mut machine = self.start(name, alter);
        let refused = machine.wait_for_console(said, BOOT);
        assert!(refused.is_ok(), "{name}: {refused:?}");
        let console = machine.console.text();
        assert!(!console.contains(STARTED), "{name}: it started:\n{console}");
        machine.cut_power().unwrap();
        std::fs::remove_file(self.place.run().dir().join(format!("{name}.img"))).unwrap();
    }

    /// A signed file with one octet changed in what follows `marker`.
    fn altered(&self, kind: &str, marker: &[u8]) -> PathBuf {
        let mut octets = std::fs::read(self.file(kind)).unwrap();
        let at = octets.windows(marker.len()).position(|window| window == marker).unwrap();
        octets[at + marker.len()] ^= 1;
        self.keep(&format!("altered.{kind}"), &octets)
    }

    /// A file without its signature, as the build left it.
    fn unsigned(&self, kind: &str) -> PathBuf {
        let octets = std::fs::read(firmware::image().unwrap().file(kind)).unwrap();
        self.keep(&format!("unsigned.{kind}"), &octets)
    }

    fn keep(&self, name: &str, octets: &[u8]) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, octets).unwrap();
        path
    }
}

/// Replaces a file on one of the disk's FAT partitions.
fn replace(disk: &Path, partition: u64, name: &str, file: &Path) {
    let mut command = Command::new("mcopy");
    command.arg("-i").arg(format!("{}@@{partition}", disk.display())).arg("-o").arg(file).arg(name);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const CHOOSER: &str = "::/EFI/BOOT/BOOTX64.EFI";
const KERNEL: &str = "::/linux.efi";
/// What UEFI and the boot chooser say of a program that is not signed as it must be.
const DENIED: &str = "Access Denied";

#[test]
fn a_signed_system_starts_and_one_whose_boot_chooser_or_kernel_image_was_changed_does_not() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let signed = Signed::make(&run);
    let mut good = signed.start("signed", |_| {});
    good.wait_for_console(STARTED, BOOT).unwrap();
    good.cut_power().unwrap();

    signed.refuses("unsigned-chooser", DENIED, |disk| {
        replace(disk, ESP, CHOOSER, &signed.unsigned("chooser.efi"));
    });
    // The command line is a section of the kernel image: who could change it could name another root.
    signed.refuses("altered-command-line", DENIED, |disk| {
        replace(disk, BOOT0, KERNEL, &signed.altered("efi", b"verona.verity="));
    });
}

#[test]
#[ignore = "full run: five more boots"]
fn no_part_of_a_signed_system_can_be_changed() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let signed = Signed::make(&run);
    // A letter of a message, in UTF-16: the program would run as before.
    signed.refuses("altered-chooser", DENIED, |disk| {
        replace(
            disk,
            ESP,
            CHOOSER,
            &signed.altered("chooser.efi", b"E\0F\0I\0 \0B\0o\0o\0t\0 \0G\0u\0a\0r\0d\0"),
        );
    });
    signed.refuses("unsigned-kernel", DENIED, |disk| {
        replace(disk, BOOT0, KERNEL, &signed.unsigned("efi"));
    });
    signed.refuses("altered-initramfs", DENIED, |disk| {
        replace(disk, BOOT0, KERNEL, &signed.altered("efi", b"modules/order"));
    });
    // The root is under the hash in the signed command line: its first block is read at the mount.
    signed.refuses("altered-root", "is corrupted", |disk| {
        let file = File::options().read(true).write(true).open(disk).unwrap();
        let mut octet = [0];
        file.read_exact_at(&mut octet, ROOT_A + 40).unwrap();
        file.write_all_at(&[octet[0] ^ 1], ROOT_A + 40).unwrap();
    });
    // The boot environment is not signed, so what it says to the kernel must not be heard: with this the root
    // would not be found.
    let mut machine = signed.start("environment", |disk| {
        let environment = signed.folder.join("BGENV.DAT");
        let mut set = Command::new("bg_setenv");
        set.arg("--filepath").arg(&environment);
        set.args([
            "--revision=1",
            "--kernel=L:BOOT0:linux.efi",
            "--watchdog=0",
            "--ustate=0",
            "--in_progress=0",
        ]);
        set.arg("--args=verona.verity=none init=/bin/sh");
        assert!(set.status().unwrap().success());
        replace(disk, BOOT0, "::/BGENV.DAT", &environment);
    });
    machine.wait_for_console(STARTED, BOOT).unwrap();
}
