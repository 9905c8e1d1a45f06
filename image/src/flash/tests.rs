//! Whole flashes: onto a disk in memory that dies at every single write, and onto real block devices.

use super::target::{claim, disk_at};
use super::*;
use crate::build::recipe::Edition;
use crate::gpt::tests::disk_with;
use crate::keys::{self, Keys};
use crate::sign;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::cell::{Cell, RefCell};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::Command;

const MIB: u64 = 1 << 20;

/// A disk in memory that may forget one bit, or lose its power before one of its writes.
pub(super) struct Memory {
    pub(super) octets: RefCell<Vec<u8>>,
    pub(super) flip: Cell<Option<u64>>,
    writes_left: Cell<usize>,
}

impl Memory {
    /// Full of something that is no zero.
    pub(super) fn new(size: usize) -> Self {
        let octets = RefCell::new(vec![0xee; size]);
        Self { octets, flip: Cell::new(None), writes_left: Cell::new(usize::MAX) }
    }
}

impl Medium for Memory {
    fn write_at(&self, octets: &[u8], at: u64) -> Result<(), WriteError> {
        let Some(left) = self.writes_left.get().checked_sub(1) else {
            return Err(WriteError::Write {
                at,
                length: octets.len(),
                source: io::ErrorKind::NotFound.into(),
            });
        };
        self.writes_left.set(left);
        self.octets.borrow_mut()[at as usize..][..octets.len()].copy_from_slice(octets);
        Ok(())
    }

    fn read_at(&self, octets: &mut [u8], at: u64) -> Result<(), WriteError> {
        octets.copy_from_slice(&self.octets.borrow()[at as usize..][..octets.len()]);
        let flip = self.flip.get().and_then(|flip| flip.checked_sub(at));
        if let Some(octet) = flip.and_then(|flip| octets.get_mut(flip as usize)) {
            *octet ^= 1;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), WriteError> {
        Ok(())
    }
}

/// Five MiB: a table, and something in each of three partitions.
fn image() -> tempfile::NamedTempFile {
    let image = disk_with(&["esp", "factory", "data"]);
    for (at, content) in [(MIB + 5, "chooser"), (2 * MIB - 3, "end"), (3 * MIB + 8192, "data")] {
        image.as_file().write_all_at(content.as_bytes(), at).unwrap();
    }
    image
}

#[test]
fn a_disk_that_is_pulled_before_any_write_has_no_table() {
    let image = image();
    let content = fs::read(image.path()).unwrap();
    let map = BlockMap::of_image(image.path()).unwrap();
    let record = vec![7; 4096];
    let size = 8 * MIB;
    let flash = |memory: &Memory| transfer(&map, &mut content.as_slice(), Some(&record), memory, size);
    let mut pulled = 0;
    loop {
        // A disk that boots what it held before.
        let memory = Memory::new(size as usize);
        memory.octets.borrow_mut()[..content.len()].copy_from_slice(&content);
        memory.writes_left.set(pulled);
        let outcome = flash(&memory);
        let octets = memory.octets.borrow();
        let table = gpt::partitions_of(&octets);
        if outcome.is_ok() {
            assert_eq!(table.unwrap().len(), 3);
            assert_eq!(octets[2 * MIB as usize..][..4096], record);
            assert_eq!(octets[MIB as usize..2 * MIB as usize], content[MIB as usize..2 * MIB as usize]);
            break;
        }
        assert_eq!(table.is_ok(), pulled == 0, "pulled before write {pulled}");
        pulled += 1;
    }
    assert!(pulled > 6, "{pulled} writes only");
}

#[test]
fn a_disk_that_does_not_keep_what_is_written_gets_no_table() {
    let image = image();
    let content = fs::read(image.path()).unwrap();
    let map = BlockMap::of_image(image.path()).unwrap();
    for flip in [MIB + 5, 3 * MIB + 8192, 2 * MIB, 8 * MIB - 1] {
        let memory = Memory::new(8 * MIB as usize);
        memory.flip.set(Some(flip));
        let outcome = transfer(&map, &mut content.as_slice(), Some(&[7; 4096]), &memory, 8 * MIB);
        assert!(matches!(outcome, Err(WriteError::ReadBack { .. })), "{flip}");
        assert!(gpt::partitions_of(&memory.octets.borrow()).is_err(), "{flip}");
    }
}

/// A signed image in a folder, and who signed it.
struct Signed {
    folder: tempfile::TempDir,
    release: Release,
    trusted: Vec<VerifyingKey>,
}

fn signed() -> Signed {
    let folder = tempfile::tempdir().unwrap();
    let release = Release::new(folder.path(), Edition::Generic);
    for kind in Kind::ALL {
        fs::write(release.path(kind), kind.suffix()).unwrap();
    }
    let image = image();
    let content = fs::read(image.path()).unwrap();
    let map = BlockMap::of_image(image.path()).unwrap();
    fs::write(release.path(Kind::BlockMap), map.to_xml()).unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&content).unwrap();
    fs::write(release.path(Kind::CompressedDisk), encoder.finish().unwrap()).unwrap();
    release.write_checksums().unwrap();
    let keys = Keys::create(&folder.path().join("keys")).unwrap();
    sign::sign_checksums(&release, &keys).unwrap();
    let trusted = keys::trusted(&keys.public()).unwrap();
    Signed { folder, release, trusted }
}

impl Signed {
    fn order<'a>(&'a self, record: Option<&'a Path>) -> Order<'a> {
        Order { release: &self.release, trusted: &self.trusted, record }
    }

    /// A loop device over a new file of `size` octets.
    fn device(&self, name: &str, size: u64) -> Loop {
        let file = self.folder.path().join(name);
        File::create(&file).unwrap().set_len(size).unwrap();
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Loop(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
    }
}

struct Loop(PathBuf);

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_real_disk_gets_the_image_and_is_refused_when_it_is_another_busy_or_too_small() {
    let signed = signed();
    let order = signed.order(None);
    let image = verify_image(&order).unwrap();
    let device = signed.device("disk", 16 * MIB);
    let serial = disk_at(&device.0).unwrap().serial;
    assert!(serial.ends_with("/disk"), "{serial}");

    let wrong = claim(&device.0, "another").unwrap_err();
    assert!(matches!(wrong, TargetError::Serial { .. }), "{wrong}");
    assert!(matches!(claim(&signed.release.path(Kind::Disk), "x").unwrap_err(), TargetError::NoDisk(_)));
    let claimed = claim(&device.0, &serial).unwrap();
    let busy = claim(&device.0, &serial).unwrap_err();
    assert!(matches!(busy, TargetError::InUse { .. }), "{busy}");
    assert_eq!(FlashError::from(busy).exit_code(), 2);

    flash(&order, &image, claimed).unwrap();
    let disk = File::open(&device.0).unwrap();
    let data = gpt::find(&disk, "data").unwrap();
    assert_eq!((data.start, data.size), (3 * MIB, 12 * MIB));
    let mut found = [0; 4];
    disk.read_exact_at(&mut found, data.start + 8192).unwrap();
    assert_eq!(&found, b"data");

    let small = signed.device("small", 2 * MIB);
    let claimed = claim(&small.0, &disk_at(&small.0).unwrap().serial).unwrap();
    let refused = flash(&order, &image, claimed).unwrap_err();
    assert!(matches!(refused, FlashError::TooSmall { .. }), "{refused}");
    assert_eq!(refused.exit_code(), 2);
}

#[test]
fn an_image_is_refused_unless_every_octet_is_what_somebody_trusted_signed() {
    let signed = signed();
    let error = |order: &Order<'_>| verify_image(order).unwrap_err();
    verify_image(&signed.order(None)).unwrap();

    let others = Keys::create(&signed.folder.path().join("others")).unwrap().trusted().unwrap();
    let stranger = Order { trusted: &others, ..signed.order(None) };
    assert!(matches!(error(&stranger), FlashError::Signature(_)));
    for kind in [Kind::CompressedDisk, Kind::BlockMap] {
        let path = signed.release.path(kind);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        fs::write(&path, bad).unwrap();
        let refused = error(&signed.order(None));
        assert!(matches!(refused, FlashError::Checksum(_)), "{refused}");
        assert_eq!(refused.exit_code(), 3);
        fs::write(&path, good).unwrap();
    }
    // The checksums beside the signature are nobody's word.
    fs::write(signed.release.checksums(), "").unwrap();
    verify_image(&signed.order(None)).unwrap();
    fs::remove_file(signed.release.signature()).unwrap();
    assert!(matches!(error(&signed.order(None)), FlashError::Signature(_)));
}
