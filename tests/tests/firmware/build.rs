//! Building: the same input is the same image, and the image is what its lists say.

use lab::firmware;
use std::fs;
use std::path::Path;
use std::process::Command;

/// All lines of an image's list of checksums.
fn checksums(folder: &Path) -> Vec<String> {
    let list = fs::read_to_string(folder.join("verona-cloud.sha256")).unwrap();
    list.lines().map(str::to_owned).collect()
}

#[test]
fn two_builds_of_the_same_are_the_same_to_the_bit() {
    let image = firmware::image().unwrap();
    let first = image.folder();
    let folder = tempfile::tempdir_in(first.parent().unwrap()).unwrap();
    // Another place, another time; only the packages are the same ones, by hard links.
    let (cache, output) = (folder.path().join("cache"), folder.path().join("output"));
    fs::create_dir(&cache).unwrap();
    let apt = first.with_file_name("cache").join("apt");
    let copied = Command::new("cp").arg("-al").arg(apt).arg(&cache).status().unwrap();
    assert!(copied.success());
    let built = firmware::command(&first.with_file_name("programs"), &cache, &output)
        .unwrap()
        .arg("--json")
        .env("TZ", "Asia/Tokyo")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert_eq!(checksums(first), checksums(&output));
    let told: serde_json::Value = serde_json::from_slice(&built.stdout).unwrap();
    println!("built in {} s", told["seconds"]);
    let compressed = told["files"]["img.gz"]["octets"].as_u64().unwrap();
    assert!(compressed <= 40_000_000, "the compressed image has {compressed} octets");
    let bill = fs::read_to_string(image.file("cdx.json")).unwrap();
    for part in ["pkg:deb/debian/busybox-static@", "pkg:deb/debian/efibootguard@", "pkg:cargo/boringtun@"] {
        assert!(bill.contains(part), "the bill of materials lacks {part}");
    }
}
