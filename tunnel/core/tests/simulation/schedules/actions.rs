//! What may happen next in a schedule: everything that clients, attackers, the agent, the center and the clock
//! can do, chosen by the dice.

use super::cast::{Cast, ISSUERS};
use super::model::Rules;
use crate::dice::Dice;
use verona_contract::config::StalePolicy;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// One step. Numbers name clients and certificates of the cast, and entries of what was recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    /// A client does what it takes to be in: shows its last certificate, begins a handshake, sends a packet.
    Connect { client: usize },
    /// A client shows a certificate. A `late` datagram is only recorded, and may come by a `Replay`.
    Introduce { certificate: usize, late: bool },
    /// A client begins a handshake.
    Initiate { client: usize, late: bool },
    /// A client sends a packet in its newest session, perhaps from another client's inner address.
    Send { client: usize, spoof: bool, late: bool },
    /// An attacker sends what was recorded once more, perhaps from his own address.
    Replay { recorded: u64, elsewhere: bool },
    /// … with one bit changed.
    Alter { recorded: u64, bit: u64 },
    /// An attacker claims a client's key without its private one.
    Forge { client: usize },
    /// The center disables a certificate, for now or for good; the list comes now, or later by `OfferAgain`.
    Disable { certificate: usize, for_good: bool, late: bool },
    /// The center enables what was disabled for now.
    Enable { certificate: usize, late: bool },
    /// Any list that was ever published comes once more.
    OfferAgain { published: u64 },
    /// A list under Acme's name by another key.
    OfferForged { number: u64 },
    /// The box's clock is set, right or wrong, and believed or not.
    SetClock { off: i64, trusted: bool },
    /// Time passes without anybody's doing: milliseconds.
    Wait { time: u64 },
    /// Days pass while the box sleeps.
    Sleep,
    /// The process ends and begins anew; its agent gives it policy and lists, or the policy alone.
    Restart { with_lists: bool },
    /// The agent hands over its newest lists.
    Refill,
    /// Another policy.
    Change { rules: Rules },
    /// A client has a new address.
    Roam { client: usize },
    /// The edge's own side sends to a client.
    Outward { client: usize },
}

/// Rolls the next step. Most steps concern two of the clients and make sessions, so that there is something to
/// lose; the others are the noise around them.
pub(crate) fn choose(cast: &Cast, stars: [usize; 2], dice: &mut Dice) -> Action {
    let client = match dice.below(5) {
        4 => dice.below(cast.clients.len() as u64) as usize,
        star => stars[(star % 2) as usize],
    };
    let own = &cast.clients[client].certificates;
    let certificate = match dice.below(8) {
        0 => dice.below(cast.certificates.len() as u64) as usize,
        any => own[(any % own.len() as u64) as usize],
    };
    let late = dice.chance(15);
    match dice.below(100) {
        0..9 => Action::Connect { client },
        9..15 => Action::Introduce { certificate, late },
        15..22 => Action::Initiate { client, late },
        22..47 => Action::Send { client, spoof: dice.chance(10), late },
        47..55 => Action::Replay { recorded: dice.roll(), elsewhere: dice.chance(50) },
        55..57 => Action::Alter { recorded: dice.roll(), bit: dice.roll() },
        57..58 => Action::Forge { client },
        58..68 => Action::Disable { certificate, for_good: dice.chance(30), late },
        68..73 => Action::Enable { certificate, late },
        73..77 => Action::OfferAgain { published: dice.roll() },
        77 => Action::OfferForged { number: dice.below(20) },
        78..83 => set_clock(dice),
        83..88 => Action::Wait { time: [100, 1_000, 6_000, 31_000, 70_000, 200_000][dice.below(6) as usize] },
        88 => Action::Sleep,
        89..91 => Action::Restart { with_lists: dice.chance(50) },
        91..93 => Action::Refill,
        93..95 => Action::Change { rules: rules(dice) },
        95..97 => Action::Roam { client },
        _ => Action::Outward { client },
    }
}

fn set_clock(dice: &mut Dice) -> Action {
    let offs = [0, 0, HOUR, 2 * DAY, 9 * DAY, 40 * DAY, -2 * HOUR, -2 * DAY, -1_800_000_000];
    Action::SetClock { off: offs[dice.below(offs.len() as u64) as usize], trusted: dice.chance(70) }
}

fn rules(dice: &mut Dice) -> Rules {
    let stale = [StalePolicy::DenyNew, StalePolicy::DenyAll, StalePolicy::Allow][dice.below(3) as usize];
    Rules {
        beta: dice.chance(70),
        acme_next: dice.chance(70),
        frank: dice.chance(70),
        quota: if dice.chance(50) { 100 } else { 1 + dice.below(2) as u32 },
        stale,
    }
}

/// The serial number that a disabled certificate has on its issuer's list; none for issuers without one.
pub(crate) fn listed(cast: &Cast, certificate: usize, dice: &mut Dice) -> Option<(super::cast::Ca, u64)> {
    let chain = &cast.certificates[certificate].chain;
    let (issuer, serial) = chain[dice.below(chain.len() as u64) as usize];
    ISSUERS.contains(&issuer).then_some((issuer, serial))
}
