//! Random faults against the product at work, and what must hold all the same.
//!
//! Each episode is a few overlapping faults of [`Schedule`], with clients under load, records written and a client
//! disabled or enabled meanwhile. When the faults are over, within 15 s: who may be in is in; later, when the
//! center was heard again: who may not is not, the edge has the newest configuration, every record that was
//! acknowledged is at the center once, and the status says that all is well. While a fault is in force the status may
//! not deny it.

mod schedule;
mod world;

pub use schedule::{Episode, Fault, Line, Planned, Schedule, Victim};

use crate::{Error, Result, Run};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use world::World;

/// How soon after the last fault everyone is in who may be.
const BACK: Duration = Duration::from_secs(15);

/// How soon everything else is as it should be. After an outage the edge asks the center again within its back-off,
/// which has grown with the outage.
const SETTLED: Duration = Duration::from_secs(90);

/// How long faults go on in one episode.
const EPISODE: Duration = Duration::from_secs(8);

/// How often a record is written during an episode.
const WRITE: Duration = Duration::from_millis(300);

/// How long nothing of a disabled client may arrive to count as cut.
const SILENCE: Duration = Duration::from_millis(500);

/// What to play.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// Draws the schedule.
    pub seed: u64,
    /// No episode begins after this time.
    pub length: Duration,
}

/// What was played.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// How many episodes.
    pub episodes: u32,
    /// How many faults.
    pub faults: u32,
    /// How many records were acknowledged.
    pub records: usize,
    /// The longest time after the last fault until everyone was in who may be.
    pub slowest: Duration,
}

/// Plays until the time is up, and tells each episode to `tell`.
///
/// # Errors
///
/// What did not hold, with the seed and the episode that it was in.
pub fn play(run: &Run, play: Play, mut tell: impl FnMut(&str)) -> Result<Outcome> {
    let mut world = World::build(run)?;
    let mut schedule = Schedule::new(play.seed);
    let mut outcome = Outcome::default();
    let mut acknowledged = BTreeSet::new();
    let begin = Instant::now();
    while outcome.episodes == 0 || begin.elapsed() < play.length {
        outcome.episodes += 1;
        let episode = schedule.episode(EPISODE);
        outcome.faults += u32::try_from(episode.faults.len()).unwrap_or(0);
        let names: Vec<String> = episode.faults.iter().map(|planned| planned.fault.to_string()).collect();
        tell(&format!("{:>4}  {}", outcome.episodes, names.join(", ")));
        let held = suffer(&mut world, &episode, (outcome.episodes, &mut acknowledged))
            .and_then(|()| recover(&world, &acknowledged));
        let took = held.map_err(|error| {
            let (seed, number) = (play.seed, outcome.episodes);
            Error::Environment(format!("seed {seed}, episode {number} ({}): {error}", names.join(", ")))
        })?;
        outcome.slowest = outcome.slowest.max(took);
    }
    outcome.records = acknowledged.len();
    Ok(outcome)
}

/// Makes and ends the faults at their times.
fn suffer(
    world: &mut World,
    episode: &Episode,
    (number, acknowledged): (u32, &mut BTreeSet<String>),
) -> Result<()> {
    let mut steps: Vec<(Duration, bool, Fault)> = Vec::new();
    for Planned { begin, end, fault } in &episode.faults {
        steps.extend([(*begin, true, *fault), (*end, false, *fault)]);
    }
    steps.sort_by_key(|step| step.0);
    let start = Instant::now();
    let (mut written, mut toggled) = (0_u32, false);
    let known = world.config_seq();
    for (at, begins, fault) in steps {
        while start.elapsed() < at {
            // The center may be what is away.
            toggled = toggled || (start.elapsed() > EPISODE / 4 && world.toggle(episode.toggled));
            let body = format!("episode {number} record {written}");
            written += 1;
            if world.append(&body).is_some() {
                acknowledged.insert(body);
            }
            std::thread::sleep(WRITE.min(at.saturating_sub(start.elapsed())));
        }
        if begins {
            world.begin(fault)?;
        } else {
            world.end(fault)?;
        }
        if begins {
            admitted(world, fault)?;
        }
        // What is in force is whole: this one, or one that came since.
        if let (Some(known), Some(now)) = (known, world.config_seq())
            && now < known
        {
            return Err(Error::Environment(format!("configuration {now} is in force after {known}")));
        }
    }
    if !toggled && !world.toggle(episode.toggled) {
        return Err(Error::Environment("the center does not take a change".to_owned()));
    }
    Ok(())
}

/// The status does not deny what is certain.
fn admitted(world: &World, fault: Fault) -> Result<()> {
    if fault != Fault::Kill(Victim::Tunnel) {
        return Ok(());
    }
    let Ok(status) = world.edge.edgectl(&["status"]) else { return Ok(()) };
    match status.to_string().contains("\"tunnel-down\"") {
        true => Ok(()),
        false => Err(Error::Environment("the tunnel is dead and the status does not say so".to_owned())),
    }
}

/// Waits until everything is as it should be; returns how long the clients took.
fn recover(world: &World, acknowledged: &BTreeSet<String>) -> Result<Duration> {
    let begin = Instant::now();
    for client in world.clients.iter().filter(|client| client.enabled) {
        let left = BACK.saturating_sub(begin.elapsed());
        world.soon(&format!("{} to be in", client.verona.interface()), left, || world.reaches(client))?;
    }
    let took = begin.elapsed();
    for client in &world.clients {
        let left = SETTLED.saturating_sub(begin.elapsed());
        if client.changed {
            world.center.proof(&client.id, left)?;
        }
        if !client.enabled {
            let before = World::arrived(client);
            std::thread::sleep(SILENCE);
            if World::arrived(client) != before || world.reaches(client) {
                let name = client.verona.interface();
                return Err(Error::Environment(format!("{name} is disabled, acknowledged, and in")));
            }
        }
    }
    let left = || SETTLED.saturating_sub(begin.elapsed());
    world.center.confirmed(&world.edge_id, 1, left())?;
    // Who was enabled while the faults ended.
    for client in world.clients.iter().filter(|client| client.enabled) {
        world.soon(&format!("{} to be in again", client.verona.interface()), left(), || {
            world.reaches(client)
        })?;
    }
    let mut told = Vec::new();
    world.soon("every acknowledged record at the center", left(), || {
        told = world.told().unwrap_or_default();
        acknowledged.iter().all(|body| told.contains(body))
    })?;
    let unique: BTreeSet<&String> = told.iter().collect();
    if unique.len() != told.len() {
        return Err(Error::Environment("a record is at the center twice".to_owned()));
    }
    if !world.chains_hold()? {
        return Err(Error::Environment("a chain of records is broken".to_owned()));
    }
    let mut refusal = String::new();
    let well = || {
        refusal = world.edge.check("ready").err().map(|error| error.to_string()).unwrap_or_default();
        refusal.is_empty()
    };
    world
        .soon("the status to say that all is well", left(), well)
        .map_err(|error| Error::Environment(format!("{error}: {refusal}")))?;
    Ok(took)
}
