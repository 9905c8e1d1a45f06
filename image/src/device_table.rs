//! Buildroot's device table, as `makedevs` reads it: one entry a line, ten fields, `-` for what does not apply.
//!
//! Read here are regular files and directories: device nodes are devtmpfs's business on this box.

/// What an entry speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file that must exist in the tree.
    File,
    /// A directory, made where it is missing.
    Directory,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Absolute path on the box.
    pub(crate) path: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// A line that breaks a rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {rule}")]
pub(crate) struct TableError {
    line: usize,
    rule: String,
}

/// Reads a whole table.
///
/// # Errors
///
/// The first line that breaks a rule, and which.
pub(crate) fn parse(text: &str) -> Result<Vec<Entry>, TableError> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let entries = numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    entries.map(|(line, text)| entry(text).map_err(|rule| TableError { line, rule })).collect()
}

fn entry(text: &str) -> Result<Entry, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [path, kind, mode, uid, gid, rest @ ..] = fields.as_slice() else {
        return Err("an entry has ten fields".to_owned());
    };
    if rest.len() != 5 {
        return Err(format!("an entry has ten fields, this one {}", fields.len()));
    }
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(format!("{path} must be an absolute path without .."));
    }
    let kind = match *kind {
        "f" => Kind::File,
        "d" => Kind::Directory,
        other => return Err(format!("type {other} is not f or d")),
    };
    let mode = u32::from_str_radix(mode, 8).map_err(|_| format!("mode {mode} is not octal"))?;
    if mode & !0o777 != 0 {
        return Err(format!("mode {mode:o}: set-uid, set-gid and sticky bits are not allowed on this box"));
    }
    for id in [uid, gid] {
        id.parse::<u32>().map_err(|_| format!("{id} is not a numeric user or group"))?;
    }
    Ok(Entry { path: (*path).to_owned(), kind, mode })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_nearest_bad() {
        let good = "# comment\n\n/etc/inittab f 644 0 0 - - - - -\n/data d 700 0 0 - - - - -\n";
        let entries = parse(good).unwrap();
        assert_eq!(entries[1], Entry { path: "/data".into(), kind: Kind::Directory, mode: 0o700 });
        for (bad, message) in [
            ("/a f 644 0 0 - - - -", "line 1: an entry has ten fields, this one 9"),
            ("a f 644 0 0 - - - - -", "line 1: a must be an absolute path without .."),
            ("/../a f 644 0 0 - - - - -", "line 1: /../a must be an absolute path without .."),
            ("\n/a c 644 0 0 1 3 - - -", "line 2: type c is not f or d"),
            ("/a f 648 0 0 - - - - -", "line 1: mode 648 is not octal"),
            (
                "/a f 4755 0 0 - - - - -",
                "line 1: mode 4755: set-uid, set-gid and sticky bits are not allowed on this box",
            ),
            ("/a f 644 root 0 - - - - -", "line 1: root is not a numeric user or group"),
        ] {
            assert_eq!(parse(bad).unwrap_err().to_string(), message);
        }
    }
}
