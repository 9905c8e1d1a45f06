//! mac1 of several handshake messages at once (whitepaper §5.4.4).
//!
//! A flood is hashed to be refused, and vectors hash eight messages in the time of three. A message waits only for
//! others of its own batch. What a message with the right mac1 deserves is not decided here.

use crate::cookie::macs;
use crate::noise::TAG;
use blake2s_simd::Params;
use blake2s_simd::many::{HashManyJob, hash_many};
use std::net::SocketAddr;
use subtle::ConstantTimeEq;

/// Messages that are hashed together, as many as vectors hold.
pub(crate) const TOGETHER: usize = 8;

/// Messages whose mac1 is not checked yet.
#[derive(Default)]
pub(crate) struct Unchecked<'a> {
    messages: [Option<Message<'a>>; TOGETHER],
    count: usize,
}

/// One of them.
#[derive(Clone, Copy)]
struct Message<'a> {
    /// Of mac1 in the message's family.
    key: &'a [u8; 32],
    from: SocketAddr,
    datagram: &'a [u8],
}

impl<'a> Unchecked<'a> {
    /// Adds one; true when there is no room for more.
    pub(crate) fn push(&mut self, key: &'a [u8; 32], from: SocketAddr, datagram: &'a [u8]) -> bool {
        if let Some(free) = self.messages.get_mut(self.count) {
            *free = Some(Message { key, from, datagram });
            self.count += 1;
        }
        self.count == TOGETHER
    }

    /// Takes them out in order, each with whether its sender knows our public key.
    pub(crate) fn judge(&mut self) -> impl Iterator<Item = (SocketAddr, &'a [u8], bool)> + use<'a> {
        let Self { messages, .. } = std::mem::take(self);
        let verdicts = are_valid(&messages.map(|message| message.map(|it| (it.key, it.datagram))));
        let judged = messages.into_iter().zip(verdicts);
        judged.filter_map(|(message, verdict)| message.map(|it| (it.from, it.datagram, verdict)))
    }
}

/// Whether the sender of one message knows our public key. `key` is the one of the message's family.
pub(crate) fn is_valid(key: &[u8; 32], datagram: &[u8]) -> bool {
    let mut messages = [None; TOGETHER];
    messages[0] = Some((key, datagram));
    are_valid(&messages)[0]
}

fn are_valid(messages: &[Option<(&[u8; 32], &[u8])>; TOGETHER]) -> [bool; TOGETHER] {
    let mut jobs = messages.map(|message| {
        let (key, datagram) = message?;
        let macs = macs(datagram)?;
        Some((HashManyJob::new(Params::new().hash_length(TAG).key(key), macs.body), macs.mac1))
    });
    hash_many(jobs.iter_mut().flatten().map(|(job, _)| job));
    jobs.map(|job| job.is_some_and(|(job, mac1)| job.to_hash().as_bytes().ct_eq(mac1).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::write_macs;
    use proptest::prelude::*;

    #[test]
    fn they_leave_in_the_order_in_which_they_came() {
        let (key, mut datagrams) = ([7; 32], vec![vec![1; 148]; TOGETHER]);
        for (number, datagram) in datagrams.iter_mut().enumerate() {
            datagram[4] = number as u8;
            write_macs(&[if number == 5 { 8 } else { 7 }; 32], None, datagram);
        }
        let from = "192.0.2.1:1".parse().unwrap();
        let mut unchecked = Unchecked::default();
        let full: Vec<_> = datagrams.iter().map(|datagram| unchecked.push(&key, from, datagram)).collect();
        assert_eq!(full.iter().position(|full| *full), Some(TOGETHER - 1));
        let judged: Vec<_> = unchecked.judge().map(|(_, datagram, valid)| (datagram[4], valid)).collect();
        assert_eq!(judged, (0..8).map(|number| (number, number != 5)).collect::<Vec<_>>());
        assert_eq!(unchecked.judge().count(), 0);
        assert!(!unchecked.push(&key, from, &datagrams[0]), "there is room again");
    }

    proptest! {
        /// The other implementation of BLAKE2s, one message a time, is the judge.
        #[test]
        fn each_is_judged_by_its_own_octets(
            lengths in proptest::collection::vec(0_usize..1300, 0..=TOGETHER),
            spoilt in any::<[Option<u16>; TOGETHER]>(),
        ) {
            let keys: Vec<[u8; 32]> = (0..TOGETHER).map(|number| [number as u8 % 3; 32]).collect();
            let mut datagrams: Vec<Vec<u8>> = lengths.iter().map(|length| vec![5; *length]).collect();
            let mut messages = [None; TOGETHER];
            let mut expected = [false; TOGETHER];
            for (number, datagram) in datagrams.iter_mut().enumerate() {
                if datagram.len() >= 2 * TAG {
                    write_macs(&keys[number], None, datagram);
                    expected[number] = true;
                    if let Some(place) = spoilt[number] {
                        let before_mac2 = datagram.len() - TAG;
                        datagram[usize::from(place) % before_mac2] ^= 1;
                        expected[number] = false;
                    }
                }
            }
            for (number, datagram) in datagrams.iter().enumerate() {
                messages[number] = Some((&keys[number], &datagram[..]));
            }
            prop_assert_eq!(are_valid(&messages), expected);
        }
    }
}
