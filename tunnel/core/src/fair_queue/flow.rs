//! To which flow a datagram from outside belongs, before anything about it is known to be true.

use crate::message::Message;

/// The key for [`FairQueue::push`](super::FairQueue::push): a transport message belongs to the peer that its
/// receiver index names, whatever its source says. All others are one flow, since their sources may be made up at
/// will; they are bounded by their own limits, and cost no peer its turn.
#[must_use]
pub fn flow_of(datagram: &[u8]) -> u64 {
    match Message::parse(datagram) {
        // The low octet counts the sessions of one peer.
        Some(Message::Data { receiver }) => u64::from(receiver >> 8),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_peer_and_all_handshakes_together() {
        let data = |receiver: u32| [&[4, 0, 0, 0][..], &receiver.to_le_bytes(), &[0; 24]].concat();
        assert_eq!(flow_of(&data(0x00ab_cd00)), flow_of(&data(0x00ab_cd07)));
        assert_ne!(flow_of(&data(0x00ab_cd00)), flow_of(&data(0x00ab_ce00)));
        let initiation = [&[1, 0, 0, 0][..], &[7; 144]].concat();
        for other in [&initiation[..], &[], &[4, 0, 0], &[0xff; 100]] {
            assert_eq!(flow_of(other), u64::MAX, "{} octets", other.len());
        }
    }
}
