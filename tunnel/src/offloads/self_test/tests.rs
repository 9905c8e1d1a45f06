use super::*;

#[test]
fn this_kernel_passes_in_time() {
    let began = Instant::now();
    let offloads = Offloads::new(Switches::default());
    run(&offloads);
    assert!(began.elapsed() < LIMIT * 2, "{:?}", began.elapsed());
    for offload in Offload::ALL {
        assert_eq!(offloads.reason(offload), None, "{offload}");
    }
}

/// A machine that is busy with other tests may take longer than a start waits.
#[test]
fn every_offload_but_tso_is_tried() {
    let findings =
        thread::spawn(|| test(&Stage::set(Instant::now() + Duration::from_secs(10)))).join().unwrap();
    for offload in Offload::ALL.into_iter().filter(|&offload| offload != Offload::TunTso) {
        let mut of_it = findings.iter().filter(|(tried, _)| *tried == offload).peekable();
        assert!(of_it.peek().is_some(), "{offload}");
        of_it.for_each(|(_, result)| assert_eq!(*result, Ok(()), "{offload}"));
    }
}

#[test]
fn what_differs_turns_off_and_what_cannot_be_tried_does_not() {
    let sent = datagrams();
    let altered = |alter: fn(&mut Vec<Vec<u8>>)| {
        let mut came = sent.clone();
        alter(&mut came);
        let offloads = Offloads::new(Switches::default());
        apply(&offloads, &[(Offload::UdpGso, Came(came).compare(&sent))]);
        offloads.reason(Offload::UdpGso)
    };
    let failed = |detail: &str| Some((OffCause::SelfTest, detail.to_owned()));
    assert_eq!(altered(|_| {}), None);
    assert_eq!(altered(|came| came[3][17] ^= 1), failed("piece 3 differs at octet 17"));
    assert_eq!(altered(|came| came[0].truncate(1199)), failed("piece 0 has 1199 octets, not 1200"));
    assert_eq!(altered(|came| came.swap(0, 5)), failed("piece 0 has 333 octets, not 1200"));
    assert_eq!(altered(|came| came[1].clear()), failed("piece 1 has 0 octets, not 1200"));
    assert_eq!(altered(|came| came.truncate(4)), None);
    assert_eq!(altered(Vec::clear), None);
}
