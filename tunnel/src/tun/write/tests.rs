use std::cell::RefCell;

use super::*;
use crate::offloads::Switches;

/// A kernel in place of the interface: what it was given, and what it answers to joined packets. No kernel at hand
/// refuses them.
struct Kernel {
    taken: RefCell<Vec<Vec<u8>>>,
    to_joined: Option<i32>,
    to_single: Option<i32>,
}

impl Kernel {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let octets: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let header = VnetHeader::parse(octets.first_chunk().unwrap()).unwrap();
        let answer = if header.gso.is_some() { self.to_joined } else { self.to_single };
        if let Some(errno) = answer {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.taken.borrow_mut().push(octets);
        Ok(())
    }
}

fn flow(kind: GsoKind) -> Vec<Vec<u8>> {
    let payloads: Vec<Vec<u8>> = (0..5_u8).map(|number| vec![number; 700]).collect();
    crate::offloads::self_test::flow(kind, &payloads)
}

fn queue(packets: &[Vec<u8>]) -> WriteQueue {
    let mut queue = WriteQueue::new();
    for packet in packets {
        queue.space(packet.len()).copy_from_slice(packet);
        queue.push(packet.len());
    }
    queue
}

#[test]
fn what_is_refused_joined_goes_out_singly_and_turns_joining_off() {
    for (kind, offload) in [(GsoKind::Tcp, Offload::TunTcpGro), (GsoKind::Udp, Offload::TunUdpGro)] {
        for errno in [libc::EINVAL, libc::EIO] {
            let offloads = Offloads::new(Switches::default());
            let kernel = Kernel { taken: RefCell::default(), to_joined: Some(errno), to_single: None };
            let packets = flow(kind);
            let mut queue = queue(&packets);
            assert_eq!(queue.flush_to(|parts| kernel.write(parts), VNET_HEADER, &offloads), 0);
            let single: Vec<Vec<u8>> = packets.iter().map(|packet| [&PLAIN, &packet[..]].concat()).collect();
            assert!(kernel.taken.take() == single, "{kind:?}: not the packets that were queued");
            assert_eq!(offloads.reason(offload).map(|(cause, _)| cause), Some(OffCause::Refused));
            assert_eq!(offloads.refusals(), 1);
            let others = Offload::ALL.into_iter().filter(|&other| other != offload);
            assert!(others.into_iter().all(|other| offloads.is_on(other)), "{kind:?}");
        }
    }
}

#[test]
fn an_interface_that_is_down_or_memory_that_lacks_turns_nothing_off() {
    for (to_joined, to_single, failed) in
        [(libc::EIO, Some(libc::EIO), 5), (libc::ENOMEM, None, 0), (libc::EBADFD, Some(libc::EBADFD), 5)]
    {
        let offloads = Offloads::new(Switches::default());
        let kernel = Kernel { taken: RefCell::default(), to_joined: Some(to_joined), to_single };
        let mut queue = queue(&flow(GsoKind::Tcp));
        assert_eq!(queue.flush_to(|parts| kernel.write(parts), VNET_HEADER, &offloads), failed);
        assert!(offloads.is_on(Offload::TunTcpGro), "errno {to_joined}");
    }
}

#[test]
fn joined_as_far_as_it_is_on() {
    let packets = [flow(GsoKind::Tcp), flow(GsoKind::Udp)].concat();
    for (without, messages) in
        [("", 2), ("tun-tcp-gro", 6), ("tun-udp-gro", 6), ("tun-tcp-gro,tun-udp-gro", 10)]
    {
        let offloads = Offloads::new(without.parse().unwrap());
        let kernel = Kernel { taken: RefCell::default(), to_joined: None, to_single: None };
        assert_eq!(queue(&packets).flush_to(|parts| kernel.write(parts), VNET_HEADER, &offloads), 0);
        assert_eq!(kernel.taken.take().len(), messages, "without {without:?}");
    }
}
