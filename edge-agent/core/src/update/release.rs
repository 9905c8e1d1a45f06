//! A release in the firmware repository, and whether this box may install it.
//!
//! The repository's signed `targets` metadata lists files; two of them, a root and a kernel image, say by their
//! custom fields that they make one version of one edition. TUF protects against old metadata; what is decided here
//! protects the box from a version that it must not go back to, or that it has already failed with.

use serde::{Deserialize, Serialize};
use std::fmt;
use verona_contract::config::Version;

/// The custom fields of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custom {
    /// Which hardware it is for: `cloud` or `generic`.
    pub edition: String,
    /// The release that it belongs to.
    pub version: Version,
    /// What it is.
    pub part: Kind,
}

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A squashfs with its hash tree, as a root partition holds it.
    Root,
    /// A signed unified kernel image.
    Kernel,
}

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name in the repository.
    pub name: String,
    /// Octets.
    pub length: u64,
    /// Of its content.
    pub sha256: [u8; 32],
}

/// Both files of one version for one edition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its version.
    pub version: Version,
    /// The root.
    pub root: Part,
    /// The kernel image.
    pub kernel: Part,
}

/// The repository does not have the release, whole and once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the repository has {found} files of {what} for version {version}, edition {edition}; there must be one"
)]
pub struct ReleaseError {
    what: &'static str,
    version: Version,
    edition: String,
    found: usize,
}

impl Release {
    /// Finds `version` for `edition` among the targets that carry our custom fields.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`].
    pub fn find(targets: &[(Custom, Part)], edition: &str, version: Version) -> Result<Self, ReleaseError> {
        let one = |kind: Kind, what: &'static str| {
            let mine = |custom: &Custom| {
                custom.edition == edition && custom.version == version && custom.part == kind
            };
            let mut parts = targets.iter().filter(|(custom, _)| mine(custom)).map(|(_, part)| part);
            let (first, more) = (parts.next(), parts.count());
            match (first, more) {
                (Some(part), 0) => Ok(part.clone()),
                (first, more) => {
                    let found = usize::from(first.is_some()) + more;
                    Err(ReleaseError { what, version, edition: edition.to_owned(), found })
                }
            }
        };
        Ok(Self {
            version,
            root: one(Kind::Root, "the root")?,
            kernel: one(Kind::Kernel, "the kernel image")?,
        })
    }
}

/// A version that failed on this box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barred {
    /// Which.
    pub version: Version,
    /// Why.
    pub reason: String,
}

/// What the box knows about versions.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The version that runs.
    pub running: Version,
    /// The least version that the running image lets follow it.
    pub floor: Version,
    /// The newest version that ever proved itself here.
    pub highest: Option<Version>,
    /// The versions that failed.
    pub barred: &'a [Barred],
}

/// Why a version is not installed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It runs.
    Runs,
    /// A newer one runs, or did.
    Downgrade {
        /// That one.
        from: Version,
    },
    /// The running image says so.
    BelowFloor(Version),
    /// It failed here before.
    Barred(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => f.write_str("it runs already"),
            Self::Downgrade { from } => write!(f, "it is older than {from}"),
            Self::BelowFloor(floor) => write!(f, "it is below the floor of the running image, {floor}"),
            Self::Barred(reason) => write!(f, "it failed on this box: {reason}"),
        }
    }
}

impl Standing<'_> {
    /// Whether `version` may be installed.
    ///
    /// # Errors
    ///
    /// The first [`Refusal`] that applies.
    pub fn admits(&self, version: Version) -> Result<(), Refusal> {
        if version == self.running {
            return Err(Refusal::Runs);
        }
        let newest = self.highest.map_or(self.running, |highest| highest.max(self.running));
        if version < newest {
            return Err(Refusal::Downgrade { from: newest });
        }
        if version < self.floor {
            return Err(Refusal::BelowFloor(self.floor));
        }
        match self.barred.iter().find(|barred| barred.version == version) {
            Some(barred) => Err(Refusal::Barred(barred.reason.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(edition: &str, version: Version, part: Kind, name: &str) -> (Custom, Part) {
        let custom = Custom { edition: edition.into(), version, part };
        (custom, Part { name: name.into(), length: 1, sha256: [0; 32] })
    }

    #[test]
    fn a_release_is_whole_and_unambiguous() {
        let (one, two) = (Version::new(1, 0, 0), Version::new(2, 0, 0));
        let mut targets = vec![
            target("cloud", one, Kind::Root, "r1"),
            target("cloud", one, Kind::Kernel, "k1"),
            target("generic", one, Kind::Kernel, "g1"),
            target("cloud", two, Kind::Root, "r2"),
        ];
        let release = Release::find(&targets, "cloud", one).unwrap();
        assert_eq!((release.root.name.as_str(), release.kernel.name.as_str()), ("r1", "k1"));
        let error = |targets: &[_], edition, version| {
            Release::find(targets, edition, version).unwrap_err().to_string()
        };
        assert!(error(&targets, "cloud", two).contains("0 files of the kernel image for version 2.0.0"));
        assert!(error(&targets, "generic", one).contains("0 files of the root"));
        targets.push(target("cloud", one, Kind::Root, "other"));
        assert!(error(&targets, "cloud", one).contains("2 files of the root"));
    }

    #[test]
    fn versions_only_grow() {
        let version = |patch| Version::new(1, 0, patch);
        let barred = [Barred { version: version(8), reason: "hung".into() }];
        let standing = Standing { running: version(5), floor: version(3), highest: None, barred: &barred };
        assert_eq!(standing.admits(version(6)), Ok(()));
        assert_eq!(standing.admits(version(5)), Err(Refusal::Runs));
        assert_eq!(standing.admits(version(4)), Err(Refusal::Downgrade { from: version(5) }));
        assert_eq!(standing.admits(version(8)), Err(Refusal::Barred("hung".into())));
        let back = Standing { highest: Some(version(7)), ..standing };
        assert_eq!(back.admits(version(6)), Err(Refusal::Downgrade { from: version(7) }));
        assert_eq!(back.admits(version(9)), Ok(()));
        let floor = Standing { floor: version(9), ..standing };
        assert_eq!(floor.admits(version(7)), Err(Refusal::BelowFloor(version(9))));
    }
}
