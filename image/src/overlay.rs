//! Holds an overlay's tree against its permissions table.

use crate::device_table::{Entry, Kind, parse};
use crate::inittab;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What was looked at.
#[derive(Debug)]
pub(crate) struct Report {
    /// Files in `rootfs/`.
    pub(crate) files: usize,
    /// Entries of `permissions.txt`.
    pub(crate) entries: usize,
}

/// Checks the overlay in `folder`.
///
/// # Errors
///
/// Every finding, one line each, with the path that it speaks of.
pub(crate) fn check(folder: &Path) -> Result<Report, Vec<String>> {
    let root = folder.join("rootfs");
    let table = read(&folder.join("permissions.txt")).map_err(|finding| vec![finding])?;
    let entries = parse(&table).map_err(|error| vec![format!("permissions.txt {error}")])?;
    let mut files = Vec::new();
    let mut findings = Vec::new();
    walk(&root, &root, &mut files, &mut findings);
    for file in &files {
        check_file(&root, file, &entries, &mut findings);
    }
    for entry in entries.iter().filter(|entry| entry.kind == Kind::File) {
        if !files.contains(&PathBuf::from(&entry.path)) {
            findings.push(format!("permissions.txt names {}, which is not in rootfs/", entry.path));
        }
    }
    match read(&root.join("etc/inittab")) {
        Ok(text) => findings.extend(inittab::check(&text)),
        Err(finding) => findings.push(finding),
    }
    if findings.is_empty() {
        Ok(Report { files: files.len(), entries: entries.len() })
    } else {
        Err(findings)
    }
}

fn check_file(root: &Path, file: &Path, entries: &[Entry], findings: &mut Vec<String>) {
    let Some(entry) = entries.iter().find(|entry| Path::new(&entry.path) == file) else {
        findings.push(format!("{} has no entry in permissions.txt", file.display()));
        return;
    };
    let relative = file.strip_prefix("/").unwrap_or(file);
    let Ok(metadata) = fs::metadata(root.join(relative)) else {
        findings.push(format!("{} cannot be read", file.display()));
        return;
    };
    // git keeps the executable bit only; the two must not contradict each other.
    if (metadata.permissions().mode() & 0o100 != 0) != (entry.mode & 0o100 != 0) {
        findings.push(format!("{}: executable in one of rootfs/ and permissions.txt only", file.display()));
    }
}

/// Collects the files below `folder` as absolute paths on the box.
fn walk(root: &Path, folder: &Path, files: &mut Vec<PathBuf>, findings: &mut Vec<String>) {
    let Ok(children) = fs::read_dir(folder) else {
        findings.push(format!("{} cannot be read", folder.display()));
        return;
    };
    for child in children.flatten() {
        let path = child.path();
        let on_box = Path::new("/").join(path.strip_prefix(root).unwrap_or(&path));
        match child.file_type() {
            Ok(kind) if kind.is_dir() => walk(root, &path, files, findings),
            Ok(kind) if kind.is_symlink() => {
                let target = fs::read_link(&path).unwrap_or_default();
                if target.components().any(|part| part == std::path::Component::ParentDir) {
                    findings.push(format!("{} points upward to {}", on_box.display(), target.display()));
                }
            }
            _ => files.push(on_box),
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlay() -> tempfile::TempDir {
        let folder = tempfile::TempDir::new().unwrap();
        fs::create_dir_all(folder.path().join("rootfs/etc")).unwrap();
        fs::write(folder.path().join("rootfs/etc/inittab"), "::sysinit:/bin/true\n").unwrap();
        fs::write(folder.path().join("permissions.txt"), "/etc/inittab f 644 0 0 - - - - -\n").unwrap();
        folder
    }

    #[test]
    fn the_projects_own_overlay_is_in_order() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../buildroot-overlay");
        check(&folder).unwrap();
    }

    #[test]
    fn findings() {
        assert_eq!(check(overlay().path()).unwrap().files, 1);

        let stray = overlay();
        fs::write(stray.path().join("rootfs/etc/motd"), "hello").unwrap();
        assert_eq!(check(stray.path()).unwrap_err(), ["/etc/motd has no entry in permissions.txt"]);

        let missing = overlay();
        let table = "/etc/inittab f 644 0 0 - - - - -\n/etc/motd f 644 0 0 - - - - -\n";
        fs::write(missing.path().join("permissions.txt"), table).unwrap();
        let expected = "permissions.txt names /etc/motd, which is not in rootfs/";
        assert_eq!(check(missing.path()).unwrap_err(), [expected]);

        let executable = overlay();
        fs::write(executable.path().join("permissions.txt"), "/etc/inittab f 755 0 0 - - - - -\n").unwrap();
        let expected = "/etc/inittab: executable in one of rootfs/ and permissions.txt only";
        assert_eq!(check(executable.path()).unwrap_err(), [expected]);

        let upward = overlay();
        std::os::unix::fs::symlink("../../etc/shadow", upward.path().join("rootfs/etc/link")).unwrap();
        assert_eq!(check(upward.path()).unwrap_err(), ["/etc/link points upward to ../../etc/shadow"]);
    }
}
