//! Files in reach (Landlock): on top of what the user may do, and also for root.
//!
//! Rules name folders and files, with everything below. One that is not there yet needs no rule of its own if the
//! folder it will be in has one; a rule for something that is missing is left out.

use crate::ConfinementError;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::fmt;
use std::path::PathBuf;

/// The rights that are known here. What a kernel lacks of them is left out.
const KNOWN: ABI = ABI::V6;

/// Writing, making, removing and renaming, without ioctls on devices: the kernel's own rules hold for these.
const WRITING: ABI = ABI::V3;

/// What may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Whatever the user may read.
    Anything,
    /// These only. Besides, no TCP, no abstract socket and no signal to another process.
    Only(Vec<PathBuf>),
}

/// What stays in reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// What may be read.
    pub reading: Reading,
    /// What may be changed, made and removed, and read.
    pub writing: Vec<PathBuf>,
    /// What may be started, and read.
    pub starting: Vec<PathBuf>,
}

/// How far the rules are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLayer {
    /// All of them.
    Whole,
    /// The kernel is older than some of the rights.
    Partly,
    /// The kernel has no Landlock.
    Missing,
}

impl fmt::Display for FileLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "files confined",
            Self::Partly => "files confined as far as this kernel can",
            Self::Missing => "files not confined (this kernel has no Landlock)",
        })
    }
}

impl Files {
    /// Puts the rules in force for the calling thread and all that it starts.
    pub(crate) fn confine(&self) -> Result<FileLayer, ConfinementError> {
        let status = self.restrict().map_err(ConfinementError::Files)?;
        Ok(match status {
            RulesetStatus::FullyEnforced => FileLayer::Whole,
            RulesetStatus::PartiallyEnforced => FileLayer::Partly,
            RulesetStatus::NotEnforced => FileLayer::Missing,
        })
    }

    fn restrict(&self) -> Result<RulesetStatus, RulesetError> {
        let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
        let mut handled = AccessFs::from_write(WRITING) | AccessFs::Execute;
        if matches!(self.reading, Reading::Only(_)) {
            handled = AccessFs::from_all(KNOWN);
            ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN))?.scope(Scope::from_all(KNOWN))?;
        }
        let mut created = ruleset.handle_access(handled)?.create()?;
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        if let Reading::Only(readable) = &self.reading {
            created = allow(created, readable, read & handled)?;
        }
        created = allow(created, &self.writing, (AccessFs::from_write(WRITING) | read) & handled)?;
        created = allow(created, &self.starting, (read | AccessFs::Execute) & handled)?;
        Ok(created.restrict_self()?.ruleset)
    }
}

fn allow(
    mut ruleset: RulesetCreated,
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        if let Ok(fd) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
        }
    }
    Ok(ruleset)
}
