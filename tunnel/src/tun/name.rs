//! What may name a network interface. Whether one of that name exists is left to the kernel.

use std::fmt;
use std::str::FromStr;

/// The name of a network interface: 1 to 15 octets without `/`, white space or control characters,
/// not `.` or `..` (what Linux's `dev_valid_name` accepts). A `%d` in it is replaced by the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceName(String);

/// Text that cannot be the name of an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot name an interface: 1 to 15 octets, no '/', ':', white space or control characters")]
pub struct InvalidInterfaceName(String);

impl InterfaceName {
    /// The kernel made it, so it is one.
    pub(super) const fn of_kernel(name: String) -> Self {
        Self(name)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(text: &str) -> Result<Self, InvalidInterfaceName> {
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        let valid = (1..=15).contains(&text.len()) && !matches!(text, "." | "..") && !text.contains(bad);
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidInterfaceName(text.to_owned())) }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        for good in ["wg0", "a", "wg%d", "verona-client-0", "wg0.1"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a:b", "a b", "a\n", "sixteen-octets-x", "wg\0"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?}");
        }
    }
}
