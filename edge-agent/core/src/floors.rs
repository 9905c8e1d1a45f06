//! The timestamp floors of the tunnel's peers, and the form in which they lie on the disk.
//!
//! The tunnel tells them, the shell appends them to a file and reads that file after a restart. A record is
//! `key (32) ‖ timestamp (12) ‖ CRC-32 of both (4, little-endian)`; the last record of a key need not be the
//! highest. What a crash tore is skipped: every other record stands. At most [`MAX_FLOORS`] keys are kept.

use std::collections::{BTreeMap, HashMap};
use verona_contract::control::{Floor, MAX_FLOORS, Tai64n};
use verona_contract::key::PublicKey;

/// Octets of a record.
pub const RECORD: usize = 48;

/// What the peers have proven.
#[derive(Clone, Debug, Default)]
pub struct Floors {
    /// With the number of its last news.
    of_key: HashMap<PublicKey, (u64, Tai64n)>,
    by_news: BTreeMap<u64, PublicKey>,
    news: u64,
}

impl Floors {
    /// Takes a floor; true when it was raised. A key over the bound takes the place of the one longest without
    /// news.
    pub fn raise(&mut self, floor: &Floor) -> bool {
        let before = self.of_key.get(&floor.key).copied();
        if before.is_some_and(|(_, timestamp)| timestamp >= floor.timestamp) {
            return false;
        }
        if let Some((news, _)) = before {
            self.by_news.remove(&news);
        }
        self.news += 1;
        self.of_key.insert(floor.key, (self.news, floor.timestamp));
        self.by_news.insert(self.news, floor.key);
        while self.of_key.len() > MAX_FLOORS
            && let Some((_, oldest)) = self.by_news.pop_first()
        {
            self.of_key.remove(&oldest);
        }
        true
    }

    /// How many keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of_key.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of_key.is_empty()
    }

    /// All of them, those longest without news first.
    pub fn iter(&self) -> impl Iterator<Item = Floor> {
        let floor = |key: &PublicKey| Some(Floor { key: *key, timestamp: self.of_key.get(key)?.1 });
        self.by_news.values().filter_map(floor)
    }
}

/// Appends the record of `floor` to `out`.
pub fn encode(floor: &Floor, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(floor.key.as_bytes());
    out.extend_from_slice(&floor.timestamp.0);
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Reads what [`encode`] wrote. Gives also whether every octet belonged to a sound record; after one that does
/// not, the file must be written anew before something is appended.
#[must_use]
pub fn decode(octets: &[u8]) -> (Floors, bool) {
    let (records, rest) = octets.as_chunks::<RECORD>();
    let mut floors = Floors::default();
    let mut sound = rest.is_empty();
    for record in records {
        match decode_one(record) {
            Some(floor) => {
                floors.raise(&floor);
            }
            None => sound = false,
        }
    }
    (floors, sound)
}

fn decode_one(record: &[u8; RECORD]) -> Option<Floor> {
    let (body, crc) = record.split_at(RECORD - 4);
    if crc != crc32fast::hash(body).to_le_bytes() {
        return None;
    }
    let (key, timestamp) = body.split_at(32);
    let key = PublicKey::new(key.try_into().ok()?).ok()?;
    Some(Floor { key, timestamp: Tai64n(timestamp.try_into().ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(number: u32, timestamp: u8) -> Floor {
        let mut octets = [0x42; 32];
        octets[1..5].copy_from_slice(&number.to_be_bytes());
        Floor { key: PublicKey::new(octets).unwrap(), timestamp: Tai64n([timestamp; 12]) }
    }

    fn file(floors: &[Floor]) -> Vec<u8> {
        let mut out = Vec::new();
        floors.iter().for_each(|floor| encode(floor, &mut out));
        out
    }

    #[test]
    fn the_highest_of_a_key_counts_wherever_it_stands() {
        let octets = file(&[floor(1, 5), floor(2, 3), floor(1, 9), floor(1, 7)]);
        assert_eq!(octets.len(), 4 * RECORD);
        let (floors, sound) = decode(&octets);
        assert!(sound);
        assert_eq!(floors.iter().collect::<Vec<_>>(), [floor(2, 3), floor(1, 9)]);
    }

    #[test]
    fn what_is_torn_or_flipped_costs_one_record() {
        let whole = file(&[floor(1, 1), floor(2, 2), floor(3, 3)]);
        for cut in 1..RECORD {
            let (floors, sound) = decode(&whole[..whole.len() - cut]);
            assert_eq!((floors.len(), sound), (2, false), "{cut} octets short");
        }
        for at in 0..RECORD {
            let mut flipped = whole.clone();
            flipped[RECORD + at] ^= 0x10;
            let (floors, sound) = decode(&flipped);
            assert_eq!((floors.iter().collect::<Vec<_>>(), sound), (vec![floor(1, 1), floor(3, 3)], false));
        }
    }

    #[test]
    fn the_number_is_bounded() {
        let mut floors = Floors::default();
        for number in 0..MAX_FLOORS as u32 {
            assert!(floors.raise(&floor(number, 1)));
        }
        assert!(floors.raise(&floor(0, 2)), "news of an old one");
        assert!(!floors.raise(&floor(0, 1)), "a floor never sinks");
        assert!(floors.raise(&floor(u32::MAX, 1)));
        assert_eq!(floors.len(), MAX_FLOORS);
        assert!(floors.iter().any(|one| one == floor(0, 2)));
        assert!(!floors.iter().any(|one| one.key == floor(1, 1).key), "the longest without news went");
    }
}
