//! The list of checks that are taken out one by one (`tests/mutations`) fits the tree.

use std::collections::HashSet;
use std::path::Path;
use verona_tests::mutation::{self, selection};

#[test]
fn every_check_of_the_list_is_in_its_file_once() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(tests.join("mutations/checks.txt")).unwrap();
    let list = mutation::read(&text).unwrap();
    assert!(list.len() >= 40, "{} checks only", list.len());
    let names: HashSet<_> = list.iter().map(|known| &known.name).collect();
    assert_eq!(names.len(), list.len(), "two checks of one name");
    let table = std::fs::read_to_string(tests.join("mutations/README.md")).unwrap();
    let mut wrong = Vec::new();
    for known in &list {
        wrong.extend(known.apply_in(0, tests.parent().unwrap()).err());
        if known.tests.is_empty() || known.tests.iter().any(|name| selection(name).is_none()) {
            wrong.push(format!("{}: no such tests: {:?}", known.name, known.tests));
        }
        if !table.contains(&format!("| {} | `", known.name)) {
            wrong.push(format!("{}: the table does not tell which test notices", known.name));
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "bring tests/mutations/checks.txt up to date");
}
