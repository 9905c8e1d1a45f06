//! Firmware updates: what may be installed, what lies where on the disk, what a start of the box proves.
//!
//! Two slots, each a root (squashfs under dm-verity) and a boot partition with the slot's environment and its
//! kernel image. The slot that runs is never written, but for the word that it is good. An update exists for the
//! boot chooser from the moment its environment says so ([`environment`]); everything before that can be lost.

pub mod chooser;
pub mod environment;
pub mod fat;
pub mod gpt;
pub mod kernel_image;
pub mod release;
pub mod trial;
pub mod verity;
pub mod window;

use serde::{Deserialize, Serialize};
use std::fmt;

/// One of the two halves of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    /// `root-a` and `BOOT0`.
    A,
    /// `root-b` and `BOOT1`.
    B,
}

impl Slot {
    /// Both, in the order of the disk.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The one that an update goes to while this one runs.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// GPT name of the root's partition.
    #[must_use]
    pub const fn root(self) -> &'static str {
        match self {
            Self::A => "root-a",
            Self::B => "root-b",
        }
    }

    /// GPT name of the boot partition, which is also the label of its file system.
    #[must_use]
    pub const fn boot(self) -> &'static str {
        match self {
            Self::A => "BOOT0",
            Self::B => "BOOT1",
        }
    }

    /// The slot whose root's partition is called `name`.
    #[must_use]
    pub fn of_root(name: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|slot| slot.root() == name)
    }

    /// Its place in a pair.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}
