//! Replays the committed fuzz corpora: what was found once stays found.

use std::fs;
use std::path::{Path, PathBuf};
use verona_tests::{fuzz, seeds};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

#[test]
fn every_file_of_every_corpus_passes_its_target() {
    for (target, body) in fuzz::TARGETS {
        let mut files = 0;
        for entry in fs::read_dir(folder(target)).unwrap().flatten() {
            let octets = fs::read(entry.path()).unwrap();
            let outcome = std::panic::catch_unwind(|| body(&octets));
            assert!(outcome.is_ok(), "{} fails", entry.path().display());
            files += 1;
        }
        assert!(files >= 4, "{target} has {files} files only");
    }
}

#[test]
fn the_committed_seeds_are_those_that_the_generator_makes() {
    for (target, _) in fuzz::TARGETS {
        for (name, octets) in seeds::of(target) {
            let path = folder(target).join(name);
            let committed = fs::read(&path).unwrap_or_default();
            assert!(
                committed == octets,
                "{} is not what its maker makes: a format changed; run `cargo run -p verona-tests --bin seed-corpus`",
                path.display()
            );
        }
    }
}

#[test]
fn every_target_can_be_run_by_cargo_fuzz() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (target, _) in fuzz::TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{target}\"")),
            "{target} is not in tests/fuzz/Cargo.toml"
        );
        let file = fs::read_to_string(fuzz.join(format!("fuzz_targets/{target}.rs"))).unwrap();
        assert!(file.contains(&format!("run(\"{target}\", data)")), "{target}.rs runs something else");
    }
}
