//! The initramfs: a cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst),
//! written by ourselves so that it holds no time, no inode and no owner of the machine that made it.

/// An archive in the making. Folders must be added before what is in them.
#[derive(Default)]
pub(crate) struct Archive {
    octets: Vec<u8>,
    inodes: u32,
}

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

impl Archive {
    /// Adds a folder, by its path without the leading `/`.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, &[]);
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, FILE, content);
    }

    /// Adds a program.
    pub(crate) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, content);
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.inodes = u32::MAX;
        self.entry("TRAILER!!!", 0, &[]);
        self.pad(512);
        self.octets
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.inodes = self.inodes.wrapping_add(1);
        let links = if mode == FOLDER { 2 } else { 1 };
        let size = content.len() as u32;
        let name_size = path.len() as u32 + 1;
        // inode, mode, uid, gid, links, mtime, size, device and rdevice as major and minor, name, checksum.
        let fields = [self.inodes, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.octets.extend_from_slice(b"070701");
        for field in fields {
            self.octets.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.octets.extend_from_slice(path.as_bytes());
        self.octets.push(0);
        self.pad(4);
        self.octets.extend_from_slice(content);
        self.pad(4);
    }

    fn pad(&mut self, to: usize) {
        self.octets.resize(self.octets.len().next_multiple_of(to), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_to_the_octet() {
        let mut archive = Archive::default();
        archive.folder("dev");
        archive.program("init", b"#!");
        let octets = archive.finish();
        assert_eq!(octets.len() % 512, 0);
        let text = String::from_utf8_lossy(&octets);
        assert!(text.starts_with("07070100000001000041ed"), "{text}");
        let init = &octets[116..];
        assert_eq!(&init[..14], b"07070100000002");
        assert_eq!(&init[110..115], b"init\0");
        assert_eq!(&init[116..118], b"#!", "the content begins at a multiple of four");
    }
}
