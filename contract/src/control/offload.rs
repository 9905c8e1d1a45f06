//! What the data plane and the kernel do in batches, as a report.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Whether one kind of batch is in use. Without it the tunnel works the same, slower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum OffloadState {
    /// In use.
    On,
    /// Not in use until the tunnel starts again.
    Off {
        /// Who or what turned it off.
        cause: OffCause,
        /// What the system said, for people; may be empty.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
}

/// Why a kind of batch is not in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OffCause {
    /// By the tunnel's command line or environment.
    Switch,
    /// The kernel or the descriptor that was passed does not have it.
    Kernel,
    /// What came back at the self-test was not what was sent.
    SelfTest,
    /// The kernel refused it at work.
    Refused,
}

impl fmt::Display for OffCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switch => "switched off",
            Self::Kernel => "kernel lacks it",
            Self::SelfTest => "failed the self-test",
            Self::Refused => "refused at work",
        })
    }
}

impl fmt::Display for OffloadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("on"),
            Self::Off { cause, detail } if detail.is_empty() => write!(f, "off ({cause})"),
            Self::Off { cause, detail } => write!(f, "off ({cause}: {detail})"),
        }
    }
}
