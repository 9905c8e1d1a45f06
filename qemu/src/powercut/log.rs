//! A recorded log of writes, and the states that a power cut could have left (Linux
//! "Documentation/admin-guide/device-mapper/log-writes.rst").
//!
//! What was written before a flush that ended is on the disk. Of what was written since, each write may be there or
//! not, whatever its order, and one of several sectors may be torn.

use crate::{Error, Result};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// One recorded write or flush.
#[derive(Debug)]
struct Entry {
    at: u64,
    /// What was written; none = nothing, or zeros of `length` octets.
    octets: Vec<u8>,
    length: u64,
    /// Everything before it is on the disk when it ends.
    flushes: bool,
    /// It is on the disk when it ends.
    durable: bool,
}

/// A log.
#[derive(Debug)]
pub struct Log {
    entries: Vec<Entry>,
}

/// Numbers that look random and come again from the same seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `end`, which is not 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}

impl Log {
    /// Reads the log at `path`.
    ///
    /// # Errors
    ///
    /// It is none, or cut off.
    pub fn read(path: &Path) -> Result<Self> {
        let fail = || Error::io(format!("read the log {}", path.display()));
        let count = Self::entries_of(path)?;
        let mut file = File::open(path).map_err(fail())?;
        file.seek(SeekFrom::Start(SECTOR)).map_err(fail())?;
        let entries = (0..count).map(|_| Entry::read(&mut file)).collect::<io::Result<_>>().map_err(fail())?;
        Ok(Self { entries })
    }

    /// How many entries a log says that it has.
    pub(super) fn entries_of(path: &Path) -> Result<u64> {
        let fail = || Error::io(format!("read the log {}", path.display()));
        let mut head = [0; 28];
        File::open(path).and_then(|mut file| file.read_exact(&mut head)).map_err(fail())?;
        let [magic, version, count] = [0, 8, 16].map(|at| number(&head, at));
        // A log that nothing was written to has no head yet.
        if magic == 0 {
            return Ok(0);
        }
        if magic != MAGIC || version != 1 || number(&head, 20) >> 32 != SECTOR {
            return Err(fail()(io::Error::other("not a log of sectors of 512 octets")));
        }
        Ok(count)
    }

    /// How many entries there are: each number up to it is a moment at which the power may go.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The moments right after a flush.
    #[must_use]
    pub fn flushes(&self) -> Vec<usize> {
        let flush = |(index, entry): (usize, &Entry)| entry.flushes.then_some(index + 1);
        self.entries.iter().enumerate().filter_map(flush).collect()
    }

    /// Makes `disk` hold again what `base` does, wherever a state may have changed it.
    ///
    /// # Errors
    ///
    /// One of them cannot be read or written.
    pub fn reset(&self, base: &Path, disk: &Path) -> Result<()> {
        let fail = || Error::io(format!("reset {}", disk.display()));
        let from = File::open(base).map_err(fail())?;
        let to = File::options().write(true).open(disk).map_err(fail())?;
        for entry in self.entries.iter().filter(|entry| entry.length > 0) {
            let mut octets = vec![0; usize::try_from(entry.length).unwrap_or(usize::MAX)];
            from.read_exact_at(&mut octets, entry.at).map_err(fail())?;
            to.write_all_at(&octets, entry.at).map_err(fail())?;
        }
        Ok(())
    }

    /// Makes of `disk`, which holds what the recording began with, what a power cut after `moment` entries may leave.
    /// `dice` decide about what was not flushed; without them all of it is there.
    ///
    /// # Errors
    ///
    /// The disk cannot be written.
    pub fn replay(&self, moment: usize, dice: Option<&mut Dice>, disk: &Path) -> Result<()> {
        let fail = || Error::io(format!("replay onto {}", disk.display()));
        let file = File::options().write(true).open(disk).map_err(fail())?;
        let happened = &self.entries[..moment.min(self.entries.len())];
        let flushed = happened.iter().rposition(|entry| entry.flushes).map_or(0, |index| index + 1);
        let mut none = Dice::new(0);
        let (dice, chance) = dice.map_or((&mut none, false), |dice| (dice, true));
        // How much is lost differs, too: often little, sometimes all.
        let kept = if chance { dice.below(5) * 25 } else { 100 };
        for (index, entry) in happened.iter().enumerate() {
            let sure = index < flushed || entry.durable || !chance;
            entry.write(&file, sure, kept, dice).map_err(fail())?;
        }
        Ok(())
    }
}

impl Entry {
    fn read(file: &mut File) -> io::Result<Self> {
        let mut head = [0; SECTOR as usize];
        file.read_exact(&mut head)?;
        let [at, sectors, flags] = [0, 8, 16].map(|at| number(&head, at));
        let length = sectors.checked_mul(SECTOR).filter(|length| *length <= 1 << 30);
        let length = length.ok_or_else(|| io::Error::other("an entry is too long"))?;
        let mut octets = Vec::new();
        if flags & DISCARD == 0 {
            file.take(length).read_to_end(&mut octets)?;
            if (octets.len() as u64) < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Self { at: at * SECTOR, octets, length, flushes: flags & FLUSH != 0, durable: flags & FUA != 0 })
    }

    /// Writes it as a whole if `sure`, and else with a chance of `kept` percent as a whole or in part.
    fn write(&self, file: &File, sure: bool, kept: u64, dice: &mut Dice) -> io::Result<()> {
        if self.length == 0 {
            return Ok(());
        }
        let zeros;
        let octets = if self.octets.is_empty() {
            zeros = vec![0; usize::try_from(self.length).unwrap_or(usize::MAX)];
            &zeros
        } else {
            &self.octets
        };
        if sure {
            return file.write_all_at(octets, self.at);
        }
        if dice.below(100) >= kept {
            return Ok(());
        }
        // One in three is torn: each of its sectors for itself, or as far as the disk had come.
        let sectors = octets.len() as u64 / SECTOR;
        let (torn, end) = (dice.below(6), dice.below(sectors + 1));
        for (index, sector) in octets.chunks(SECTOR as usize).enumerate() {
            let there = match torn {
                0 => dice.below(2) == 0,
                1 => (index as u64) < end,
                _ => true,
            };
            if there {
                file.write_all_at(sector, self.at + index as u64 * SECTOR)?;
            }
        }
        Ok(())
    }
}

fn number(octets: &[u8], at: usize) -> u64 {
    octets[at..at + 8].iter().rev().fold(0, |value, octet| value << 8 | u64::from(*octet))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Write 1 to sector 0, write 1 to sectors 1 to 8, flush, write 2 to sectors 1 to 8, write 2 to sector 0 for good.
    fn log(folder: &Path) -> Log {
        let mut octets = Vec::new();
        for (at, value) in [(0, MAGIC), (8, 1), (16, 5)] {
            octets.resize(at, 0);
            octets.extend(value.to_le_bytes());
        }
        octets.extend((SECTOR as u32).to_le_bytes());
        octets.resize(SECTOR as usize, 0);
        for (sector, sectors, flags, value) in
            [(0, 1, 0, 1), (1, 8, 0, 1), (0, 0, FLUSH, 0), (1, 8, 0, 2), (0, 1, FUA, 2)]
        {
            let start = octets.len();
            for field in [sector, sectors, flags, 0_u64] {
                octets.extend(field.to_le_bytes());
            }
            octets.resize(start + SECTOR as usize, 0);
            octets.resize(octets.len() + (sectors * SECTOR) as usize, value);
        }
        let path = folder.join("log");
        std::fs::write(&path, octets).unwrap();
        Log::read(&path).unwrap()
    }

    #[test]
    fn what_was_flushed_stays_and_the_rest_may_be_torn() {
        let folder = std::env::temp_dir().join(format!("verona-powercut-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (log, disk) = (log(&folder), folder.join("disk"));
        assert_eq!((log.len(), log.flushes()), (5, vec![3]));
        let sectors = |moment, dice: Option<&mut Dice>| -> Vec<u8> {
            std::fs::write(&disk, [0; 9 * 512]).unwrap();
            log.replay(moment, dice, &disk).unwrap();
            std::fs::read(&disk).unwrap().chunks(512).map(|sector| sector[0]).collect()
        };
        assert_eq!(sectors(5, None), [2; 9]);
        assert_eq!(sectors(4, None), [1, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(sectors(0, None), [0; 9]);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let state = sectors(5, Some(&mut Dice::new(seed)));
            assert_eq!(state[0], 2, "it was for good");
            assert!(state[1..].iter().all(|value| [1, 2].contains(value)), "{state:?}");
            seen.insert(state);
            assert_eq!(sectors(3, Some(&mut Dice::new(seed))), [1; 9]);
        }
        assert!(seen.len() > 20 && seen.contains(&vec![2, 1, 1, 1, 1, 1, 1, 1, 1]), "{}", seen.len());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
