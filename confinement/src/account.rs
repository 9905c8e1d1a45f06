//! A user of the box by name, out of `/etc/passwd` and `/etc/group` themselves: the C library's own look-up loads
//! libraries, which a static program does not have.

use std::io;
use std::path::Path;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// A user with the groups it is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
    /// The other groups that name it.
    pub groups: Vec<u32>,
}

/// There is no such user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// A file does not read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not listed, or its line has no numbers.
    #[error("no user {0} in {PASSWD}")]
    Unknown(String),
}

impl Account {
    /// The user called `name`.
    ///
    /// # Errors
    ///
    /// [`AccountError`].
    pub fn named(name: &str) -> Result<Self, AccountError> {
        let read = |path: &'static str| {
            std::fs::read_to_string(Path::new(path)).map_err(|source| AccountError::Read { path, source })
        };
        find(name, &read(PASSWD)?, &read(GROUP)?).ok_or_else(|| AccountError::Unknown(name.to_owned()))
    }
}

/// passwd(5): name, password, uid, gid, …; group(5): name, password, gid, members with commas.
fn find(name: &str, passwd: &str, group: &str) -> Option<Account> {
    let mut fields =
        passwd.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':').skip(1);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let groups = group.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(2);
        let number = fields.next()?.parse().ok()?;
        fields.next()?.split(',').any(|member| member == name).then_some(number)
    });
    Some(Account { name: name.to_owned(), uid, gid, groups: groups.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_with_its_groups() {
        let passwd =
            "root:x:0:0:root:/:/bin/false\nedge:x:7:8:a:/:/bin/false\nedge-b:x:9:10::/:\nbad:x:y:1::/:\n";
        let group = "root:x:0:\nedge:x:8:\nlog:x:20:edge-b,edge\nother:x:21:edge-b\nbroken\n";
        let account = find("edge", passwd, group).unwrap();
        assert_eq!(account, Account { name: "edge".into(), uid: 7, gid: 8, groups: vec![20] });
        for unknown in ["", "edg", "edge-", "bad", "root:x"] {
            assert_eq!(find(unknown, passwd, group), None, "{unknown}");
        }
    }
}
