//! The pages about security name tests; they must exist.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Every Rust file of the tree.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The functions right below a `#[test]`.
fn tests_of(text: &str) -> impl Iterator<Item = String> {
    text.split("#[test]").skip(1).filter_map(|after| {
        let (_, function) = after.split_once("fn ")?;
        Some(function.split_once('(')?.0.trim().to_owned())
    })
}

#[test]
fn every_test_that_the_security_pages_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(root, &mut files);
    let texts = files.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    let known: HashSet<_> = texts.flat_map(|text| tests_of(&text).collect::<Vec<_>>()).collect();

    for (page, heading, least) in
        [("tunnel/SECURITY.md", "## Attacks", 40), ("confinement/SECURITY.md", "## What stands behind it", 5)]
    {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let (_, table) = text.split_once(heading).unwrap();
        let (table, _) = table.split_once("\n## ").unwrap();
        let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
        let (mut named, mut wrong) = (0, Vec::new());
        for row in rows {
            let tests: Vec<_> = row.rsplit(" | ").next().unwrap().split('`').skip(1).step_by(2).collect();
            if tests.is_empty() {
                wrong.push(format!("no test: {row}"));
            }
            let unknown = tests.iter().filter(|name| !known.contains(**name));
            wrong.extend(unknown.map(|name| format!("no such test: {name}")));
            named += tests.len();
        }
        assert_eq!(wrong, Vec::<String>::new(), "{page}");
        assert!(named >= least, "{page}: {named} tests are named");
    }
}
