//! Takes one check after another out of a copy of the tree and tells which test notices.
//!
//! `cargo run -p verona-tests --bin mutations [-- [--write] [WORD…]]`: with words only the checks whose names
//! contain one of them. The copy and what is built of it stay in the temporary directory, so that a second run
//! is quicker. `--write` brings the table in `tests/mutations/README.md` up to date. It ends with 1 when a check
//! can be removed unnoticed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a tool of the tests; what fails is told by the panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use verona_tests::mutation::{self, Mutation, SWITCH, selection};

/// Seconds that one selection of tests may take; without a check it may also hang.
const LIMIT: &str = "900";

fn main() -> ExitCode {
    let (options, words): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(tests.join("mutations/checks.txt")).unwrap();
    let list = mutation::read(&text).unwrap();
    let tree = copy_of(tests.parent().unwrap());
    let missing = take_out(&list, &tree);
    let chosen = |known: &Mutation| words.is_empty() || words.iter().any(|word| known.name.contains(word));
    let chosen: Vec<_> = (1..).zip(&list).filter(|(_, known)| chosen(known)).collect();
    for name in chosen.iter().flat_map(|(_, known)| &known.tests).collect::<BTreeSet<_>>() {
        if let Some(failed) = run(name, None, &tree) {
            eprintln!("the tests {name} fail with every check in place: {}", failed.join(", "));
            return ExitCode::from(2);
        }
    }
    let (mut rows, mut unnoticed) = (BTreeMap::new(), 0);
    for (number, known) in &chosen {
        let begin = Instant::now();
        let told = match missing.get(number) {
            Some(reason) => format!("**not tried**: {reason}"),
            None => {
                // The first selection that notices is enough.
                let failed = known.tests.iter().find_map(|name| run(name, Some(*number), &tree));
                failed.map_or_else(|| "**no test**".to_owned(), |failed| told(&failed))
            }
        };
        unnoticed += usize::from(told.starts_with("**"));
        println!("{} ({} s): {told}", known.name, begin.elapsed().as_secs());
        rows.insert(known.name.as_str(), told);
    }
    if options.iter().any(|option| option == "--write") {
        write_table(&tests.join("mutations/README.md"), &list, &rows);
    }
    println!("{} checks, {unnoticed} of them removed unnoticed", chosen.len());
    ExitCode::from(u8::from(unnoticed > 0))
}

/// The first tests that notice, and how many more.
fn told(failed: &[String]) -> String {
    const SHOWN: usize = 4;
    let names: Vec<_> = failed.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = failed.len().saturating_sub(SHOWN);
    if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
}

/// A copy of the tracked files as they are now.
fn copy_of(root: &Path) -> PathBuf {
    let tree = std::env::temp_dir().join("verona-mutations/tree");
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output().unwrap();
    for name in String::from_utf8(listed.stdout).unwrap().split_terminator('\0') {
        if let Ok(octets) = std::fs::read(root.join(name)) {
            write_if_new(&tree.join(name), &octets);
        }
    }
    tree
}

/// What has not changed keeps its date, and is not built again.
fn write_if_new(path: &Path, octets: &[u8]) {
    if std::fs::read(path).ok().as_deref() != Some(octets) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, octets).unwrap();
    }
}

/// Puts every check of the copy behind its switch; which of them were not found, and why.
fn take_out(list: &[Mutation], tree: &Path) -> BTreeMap<usize, String> {
    let mut missing = BTreeMap::new();
    for (number, known) in (1..).zip(list) {
        match known.apply_in(number, tree) {
            Ok(text) => std::fs::write(tree.join(&known.file), text).unwrap(),
            Err(reason) => {
                missing.insert(number, reason);
            }
        }
    }
    missing
}

/// Runs a selection of tests with check `out` taken out; none when all pass, else the tests that fail.
fn run(name: &str, out: Option<usize>, tree: &Path) -> Option<Vec<String>> {
    let arguments = selection(name).unwrap_or_else(|| panic!("no tests are called {name}"));
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", LIMIT, "cargo"])
        .args(arguments)
        .args(["--quiet", "--locked"])
        .env("CARGO_TARGET_DIR", tree.with_file_name("target"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("RUST_BACKTRACE", "0")
        .env("VERONA_SCHEDULES", "2000")
        .current_dir(tree);
    if let Some(number) = out {
        command.env(SWITCH, number.to_string());
    }
    let output = command.output().unwrap();
    if output.status.success() {
        return None;
    }
    let report = String::from_utf8_lossy(&output.stdout);
    let failed = report.lines().filter_map(|line| line.strip_prefix("---- ")?.strip_suffix(" stdout ----"));
    let mut failed: Vec<_> = failed.map(str::to_owned).collect();
    if failed.is_empty() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let error = errors.lines().find(|line| line.starts_with("error")).unwrap_or("they end early");
        failed.push(error.to_owned());
    }
    Some(failed)
}

/// Replaces the rows of what was tried just now; the others stay as they are.
fn write_table(path: &Path, list: &[Mutation], rows: &BTreeMap<&str, String>) {
    let text = std::fs::read_to_string(path).unwrap();
    let head: Vec<_> = text.lines().take_while(|line| !line.starts_with("| ")).collect();
    let before: BTreeMap<_, _> = text.lines().filter_map(row).collect();
    let mut table = vec!["| check taken out | tests that notice |".to_owned(), "|---|---|".to_owned()];
    for known in list {
        let name = known.name.as_str();
        let told = rows.get(name).map(String::as_str).or(before.get(name).copied());
        table.push(format!("| {name} | {} |", told.unwrap_or("**not tried yet**")));
    }
    std::fs::write(path, format!("{}\n{}\n", head.join("\n"), table.join("\n"))).unwrap();
}

fn row(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")
}
