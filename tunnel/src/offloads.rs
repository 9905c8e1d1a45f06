//! Which batches the data plane shares with the kernel, and for each that it does not, why.
//!
//! An offload starts on and is turned off by the user's switch, by a kernel that lacks it, by the self-test
//! or by a kernel that refuses it at work; never on again while the process lives. All threads see one state.
//! How to do without is the business of [`crate::tun`] and [`crate::udp`], which ask before each batch.

pub(crate) mod self_test;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use verona_contract::control::{OffCause, OffloadState};

/// One kind of batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offload {
    /// The kernel hands over large TCP packets, which we cut (TUN_F_TSO4, TUN_F_TSO6).
    TunTso,
    /// The kernel hands over large UDP packets, which we cut (TUN_F_USO4, TUN_F_USO6; Linux 6.2).
    TunUso,
    /// We write TCP packets of one flow joined.
    TunTcpGro,
    /// We write UDP packets of one flow joined (Linux 6.2).
    TunUdpGro,
    /// We send datagrams of one length to one peer joined (UDP_SEGMENT; Linux 4.18).
    UdpGso,
    /// The kernel hands over received datagrams joined (UDP_GRO; Linux 5.0).
    UdpGro,
}

impl Offload {
    /// Every one there is.
    pub const ALL: [Self; 6] =
        [Self::TunTso, Self::TunUso, Self::TunTcpGro, Self::TunUdpGro, Self::UdpGso, Self::UdpGro];

    /// The name in switches, reports and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TunTso => "tun-tso",
            Self::TunUso => "tun-uso",
            Self::TunTcpGro => "tun-tcp-gro",
            Self::TunUdpGro => "tun-udp-gro",
            Self::UdpGso => "udp-gso",
            Self::UdpGro => "udp-gro",
        }
    }
}

impl fmt::Display for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The offloads that are not to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    off: [bool; Offload::ALL.len()],
}

impl Switches {
    /// These, and `offload` switched off as well.
    #[must_use]
    pub const fn without(mut self, offload: Offload) -> Self {
        self.off[offload as usize] = true;
        self
    }
}

/// Text that names no offload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no offload: expected tun-tso, tun-uso, tun-tcp-gro, tun-udp-gro, udp-gso, udp-gro, with commas, or all"
)]
pub struct UnknownOffload(String);

impl FromStr for Switches {
    type Err = UnknownOffload;

    /// Reads names with commas between them, or `all`. Nothing switches nothing off.
    fn from_str(text: &str) -> Result<Self, UnknownOffload> {
        let named = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        named.into_iter().try_fold(Self::default(), |switches, name| {
            if name == "all" {
                return Ok(Self { off: [true; _] });
            }
            let found = Offload::ALL.into_iter().find(|offload| offload.name() == name);
            found.map(|offload| switches.without(offload)).ok_or_else(|| UnknownOffload(name.to_owned()))
        })
    }
}

/// The state of all offloads, shared by all threads.
#[derive(Debug)]
pub(crate) struct Offloads {
    on: [AtomicBool; Offload::ALL.len()],
    /// Batches that the kernel refused at work; each went out in single pieces.
    refused: AtomicU64,
    /// Why each one is off. Only locked to turn one off and to report.
    reasons: Mutex<[Option<(OffCause, String)>; Offload::ALL.len()]>,
}

impl Offloads {
    pub(crate) fn new(switches: Switches) -> Self {
        let reason = |off: bool| off.then(|| (OffCause::Switch, String::new()));
        Self {
            on: switches.off.map(|off| AtomicBool::new(!off)),
            refused: AtomicU64::new(0),
            reasons: Mutex::new(switches.off.map(reason)),
        }
    }

    pub(crate) fn is_on(&self, offload: Offload) -> bool {
        // No other memory depends on it: a thread that sees it late does one more batch.
        self.on[offload as usize].load(Ordering::Relaxed)
    }

    /// Turns `offload` off for good, and says so in the log. The first reason stands.
    pub(crate) fn turn_off(&self, offload: Offload, cause: OffCause, detail: &str) {
        if !self.on[offload as usize].swap(false, Ordering::Relaxed) {
            return;
        }
        match cause {
            OffCause::SelfTest | OffCause::Refused => tracing::warn!("{offload} is off: {cause}: {detail}"),
            _ => tracing::debug!("{offload} is off: {cause}: {detail}"),
        }
        // A plain value: a panic elsewhere cannot leave it half-changed.
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons[offload as usize] = Some((cause, detail.to_owned()));
    }

    /// Counts a batch that the kernel refused.
    pub(crate) fn count_refusal(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Batches that the kernel refused since start.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Why `offload` is off, if it is.
    pub(crate) fn reason(&self, offload: Offload) -> Option<(OffCause, String)> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)[offload as usize].clone()
    }

    /// Each offload's state by its name.
    pub(crate) fn report(&self) -> BTreeMap<String, OffloadState> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let states = Offload::ALL.into_iter().zip(reasons.iter()).map(|(offload, reason)| {
            let state = match reason {
                None => OffloadState::On,
                Some((cause, detail)) => OffloadState::Off { cause: *cause, detail: detail.clone() },
            };
            (offload.name().to_owned(), state)
        });
        states.collect()
    }
}

impl fmt::Display for Offloads {
    /// One line for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, state)) in self.report().into_iter().enumerate() {
            write!(f, "{}{name} {state}", if number == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_by_name() {
        let two = Switches::default().without(Offload::UdpGso).without(Offload::TunUso);
        assert_eq!("udp-gso, tun-uso".parse(), Ok(two));
        assert_eq!("".parse(), Ok(Switches::default()));
        assert_eq!("all".parse(), Ok(Switches { off: [true; 6] }));
        for bad in ["gso", "udp-gso;udp-gro", "UDP-GSO"] {
            assert!(bad.parse::<Switches>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_reason_stands() {
        let offloads = Offloads::new(Switches::default().without(Offload::UdpGro));
        assert!(!offloads.is_on(Offload::UdpGro) && offloads.is_on(Offload::UdpGso));
        for cause in [OffCause::Kernel, OffCause::Refused] {
            offloads.turn_off(Offload::UdpGro, cause, "later");
            offloads.turn_off(Offload::UdpGso, cause, "no such option");
        }
        let report = offloads.report();
        let off = |cause, detail: &str| OffloadState::Off { cause, detail: detail.to_owned() };
        assert_eq!(report["udp-gro"], off(OffCause::Switch, ""));
        assert_eq!(report["udp-gso"], off(OffCause::Kernel, "no such option"));
        assert_eq!(report["tun-tso"], OffloadState::On);
        assert!(
            offloads
                .to_string()
                .ends_with("udp-gro off (switched off), udp-gso off (kernel lacks it: no such option)")
        );
    }
}
