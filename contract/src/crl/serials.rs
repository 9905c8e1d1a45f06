//! A set of serial numbers that is asked at every handshake and never changes.
//!
//! The numbers lie sorted by a hash, with one word for every one or two of them: where its numbers begin, and
//! in which of 32 classes they are. So "not listed", the usual answer, is one access to memory, and a million
//! numbers take 28 MB. Within one word's numbers the search is binary: a CA that makes its numbers collide
//! slows nobody.

use crate::key::Serial;

/// Serial numbers of at most 20 octets. One that was listed twice counts twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialSet {
    /// Low half: index of the first number. High half: a bit for each class that is there. The last word is
    /// only an end.
    words: Box<[u64]>,
    numbers: Box<[Serial]>,
}

impl SerialSet {
    /// `serials` gives the same `count` numbers each time it is called, fewer than 2^32: twice, because
    /// memory for the octets in between is not to be had.
    pub(super) fn new<I: Iterator<Item = Serial>>(count: usize, serials: impl Fn() -> I) -> Self {
        let spread = count.next_power_of_two();
        let mut words = vec![0_u64; spread + 1];
        for serial in serials() {
            words[place(&serial, spread).0] += 1;
        }
        // From counts to the end of each; putting a number in place then moves it to the begin.
        let mut end = 0;
        for word in &mut words {
            end += *word;
            *word = end;
        }
        let mut numbers = vec![Serial::ZERO; count];
        for serial in serials() {
            let (index, class) = place(&serial, spread);
            let word = &mut words[index];
            *word -= 1;
            if let Some(number) = numbers.get_mut(*word as u32 as usize) {
                *number = serial;
            }
            *word |= class;
        }
        let mut set = Self { words: words.into(), numbers: numbers.into() };
        for index in 0..spread {
            let range = set.range(index);
            if let Some(few @ [_, _, ..]) = set.numbers.get_mut(range) {
                few.sort_unstable();
            }
        }
        set
    }

    /// Whether `serial` is one of them.
    #[must_use]
    pub fn contains(&self, serial: &Serial) -> bool {
        let (index, class) = place(serial, self.words.len() - 1);
        if self.words[index] & class == 0 {
            return false;
        }
        self.numbers.get(self.range(index)).is_some_and(|few| few.binary_search(serial).is_ok())
    }

    /// The numbers of one word.
    fn range(&self, index: usize) -> std::ops::Range<usize> {
        self.words[index] as u32 as usize..self.words[index + 1] as u32 as usize
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// All of them, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Serial> {
        self.numbers.iter()
    }
}

/// Index of a number's word among `spread`, a power of two, and the bit of its class.
fn place(serial: &Serial, spread: usize) -> (usize, u64) {
    let [high @ .., _, _, _, _, _, _, _, _] = serial.as_array();
    let [_, _, _, _, _, _, _, _, _, _, _, _, low @ ..] = serial.as_array();
    let [h0, h1, h2, h3, middle @ ..] = high;
    let top = u64::from(u32::from_be_bytes([*h0, *h1, *h2, *h3]));
    // The halves of a product of 128 bits, folded: every bit of the number reaches every bit of the hash.
    let one = u64::from_be_bytes(*low) ^ 0x9e37_79b9_7f4a_7c15 ^ top.rotate_left(32);
    let other = u64::from_be_bytes(*middle) ^ 0xd1b5_4a32_d192_ed03;
    let product = u128::from(one) * u128::from(other);
    let hash = (product >> 64) as u64 ^ product as u64;
    let class = 1 << (32 + (hash >> 59));
    (hash as usize & (spread - 1), class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn serial(octets: &[u8]) -> Option<Serial> {
        Serial::from_magnitude(octets).ok()
    }

    proptest! {
        #[test]
        fn holds_what_it_was_given_and_nothing_else(
            listed in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=20), 0..200),
            others in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=20), 0..200),
        ) {
            let listed: Vec<_> = listed.iter().filter_map(|octets| serial(octets)).collect();
            let set = SerialSet::new(listed.len(), || listed.iter().copied());
            let model: HashSet<_> = listed.iter().copied().collect();
            prop_assert_eq!(set.len(), listed.len());
            prop_assert_eq!(set.iter().copied().collect::<HashSet<_>>(), model.clone());
            for number in listed.iter().copied().chain(others.iter().filter_map(|octets| serial(octets))) {
                prop_assert_eq!(set.contains(&number), model.contains(&number));
            }
        }
    }

    #[test]
    fn numbers_in_a_row_are_told_apart_from_their_neighbours() {
        for octets in [1_usize, 8, 16, 17, 20] {
            // Every second one, in each width that serial numbers have.
            let number = |low: u16| {
                let mut number = vec![0x5a; octets];
                let at = octets.saturating_sub(2);
                number.truncate(at);
                number.extend(low.to_be_bytes());
                serial(&number).unwrap()
            };
            let even = || (1..5_000).map(|low| number(low * 2));
            let set = SerialSet::new(4_999, even);
            for low in 2..10_000 {
                assert_eq!(set.contains(&number(low)), low % 2 == 0, "{low} in {octets} octets");
            }
        }
    }
}
