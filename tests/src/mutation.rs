//! Removed checks: each entry of `tests/mutations/checks.txt` takes one check out of the product, and names
//! the tests of which one must then fail.
//!
//! All of them are taken out of one copy of the tree, each behind a switch ([`SWITCH`]) that is read at run time:
//! so the tests are built once, not once a check. `cargo run -p verona-tests --bin mutations` does that.

use std::path::Path;

/// The variable that holds the number of the check that is out, from 1; none is when it is not set.
pub const SWITCH: &str = "VERONA_GONE";
/// What stands in a change for "this check is out".
const GONE: &str = "GONE";

/// One check that is taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// What the check is for.
    pub name: String,
    /// The file that holds it, from the root of the tree.
    pub file: String,
    /// Names of [`selection`]s.
    pub tests: Vec<String>,
    /// Texts that go, each of which occurs once in the file, and what comes in their places.
    pub changes: Vec<(String, String)>,
}

/// The list in its text form: a line `# name`, `file PATH`, `tests NAME…`, then the lines that go with `-` and
/// those that come with `+` before them; a `-` after a `+` begins another place.
///
/// # Errors
///
/// The number of a line that is none of these.
pub fn read(text: &str) -> Result<Vec<Mutation>, usize> {
    let mut found: Vec<Mutation> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix("# ") {
            let (name, file) = (name.to_owned(), String::new());
            found.push(Mutation { name, file, tests: Vec::new(), changes: Vec::new() });
        } else if let Some(last) = found.last_mut().filter(|_| !line.is_empty()) {
            last.read_line(line).ok_or(number + 1)?;
        }
    }
    Ok(found)
}

fn append(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}

impl Mutation {
    fn read_line(&mut self, line: &str) -> Option<()> {
        if let Some(gone) = line.strip_prefix('-') {
            match self.changes.last_mut() {
                Some((with, without)) if without.is_empty() => append(with, gone),
                _ => self.changes.push((gone.to_owned(), String::new())),
            }
        } else if let Some(come) = line.strip_prefix('+') {
            append(&mut self.changes.last_mut()?.1, come);
        } else {
            match line.split_once(' ')? {
                ("file", path) => path.clone_into(&mut self.file),
                ("tests", names) => self.tests = names.split(' ').map(str::to_owned).collect(),
                _ => return None,
            }
        }
        Some(())
    }

    /// The file's text with the check behind switch `number`.
    ///
    /// # Errors
    ///
    /// How often a text that goes was found, if that is not once.
    pub fn apply(&self, number: usize, text: &str) -> Result<String, usize> {
        let out = format!("(std::env::var_os(\"{SWITCH}\").is_some_and(|gone| gone == \"{number}\"))");
        self.changes.iter().try_fold(text.to_owned(), |text, (with, without)| {
            match text.matches(with).count() {
                1 => Ok(text.replacen(with, &without.replace(GONE, &out), 1)),
                count => Err(count),
            }
        })
    }

    /// As [`Self::apply`], on the file of the tree at `root`.
    ///
    /// # Errors
    ///
    /// A sentence that names the file and what is wrong with it.
    pub fn apply_in(&self, number: usize, root: &Path) -> Result<String, String> {
        let path = root.join(&self.file);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", self.file))?;
        self.apply(number, &text)
            .map_err(|count| format!("{}: found {count} times in {}", self.name, self.file))
    }
}

/// The arguments of `cargo` that run a selection of tests.
#[must_use]
pub fn selection(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "core" => &["test", "-p", "edge-tunnel-core", "--lib", "--tests"],
        "simulation" => {
            &["test", "-p", "edge-tunnel-core", "--features", "mock-clock", "--test", "simulation"]
        }
        "contract" => &["test", "-p", "verona-contract", "--lib", "--tests"],
        "agent" => &["test", "-p", "edge-agent-core", "--lib", "--tests"],
        "process" => &["test", "-p", "edge-tunnel", "--lib", "--tests"],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_a_check_is_taken_out() {
        let text = "# a door\nfile house.rs\ntests core contract\n-if locked {\n-    stay();\n+if GONE {\n\n# another\nfile x\n-y\n+z\n-v\n+w\n";
        let list = read(text).unwrap();
        assert_eq!((list.len(), list[0].tests.len(), list[1].changes.len()), (2, 2, 2));
        let house = "fn enter() {\nif locked {\n    stay();\n}\n}";
        let without = list[0].apply(3, house).unwrap();
        assert!(without.starts_with("fn enter() {\nif (std::env"), "{without}");
        assert!(without.ends_with("gone == \"3\")) {\n}\n}"), "{without}");
        assert_eq!(list[0].apply(3, "fn enter() {}"), Err(0));
        assert_eq!(list[0].apply(3, &[house, house].concat()), Err(2));
        assert_eq!(read("# a\nwhat is this\n"), Err(2));
    }
}
