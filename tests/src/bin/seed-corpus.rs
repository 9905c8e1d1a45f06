//! Writes the seeds of the fuzz corpora to `tests/fuzz/corpus/<target>/`.

use std::path::Path;
use verona_tests::{fuzz, seeds};

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, _) in fuzz::TARGETS {
        let folder = corpus.join(target);
        std::fs::create_dir_all(&folder)?;
        for (name, octets) in seeds::of(target) {
            std::fs::write(folder.join(name), octets)?;
        }
    }
    println!("wrote {}", corpus.display());
    Ok(())
}
