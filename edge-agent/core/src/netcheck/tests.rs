use super::*;

fn healthy() -> Observed {
    let uplink = ObservedUplink {
        name: "fiber".into(),
        port: Some(ObservedPort { name: "eth0".into(), exists: true, carrier: true, mtu: 1500 }),
        addresses: vec!["192.168.1.2/24".parse().unwrap()],
        gateway: Some(([192, 168, 1, 1].into(), true)),
        session: None,
        reflection: Some(ObservedReflection {
            own: [192, 168, 1, 2].into(),
            mapped: (Some("203.0.113.1:5".parse().unwrap()), Some("203.0.113.1:5".parse().unwrap())),
            path_mtu: Some(1500),
        }),
    };
    Observed {
        uplinks: vec![uplink],
        names: true,
        center_addresses: Some(Ok(vec![[198, 51, 100, 10].into()])),
        portal: Some(Ok(None)),
        time_servers: (4, 3),
        clock: (true, "synchronised by the kernel".into()),
        center: CenterAnswer::Accepts,
        tunnel_failure: None,
    }
}

fn wrong(seen: &Observed) -> Vec<(Item, Verdict, Option<Remedy>)> {
    let found = findings(seen).into_iter().filter(|finding| finding.verdict != Verdict::Ok);
    found.map(|finding| (finding.item, finding.verdict, finding.remedy)).collect()
}

#[test]
fn a_healthy_box_has_eleven_good_lines() {
    let found = findings(&healthy());
    assert!(found.iter().all(|finding| finding.verdict == Verdict::Ok && finding.remedy.is_none()));
    assert_eq!(found.len(), 11);
}

#[test]
fn each_trouble_has_its_finding() {
    use Remedy as R;
    use Verdict::{Failed, Unknown, Warning};
    type Change = fn(&mut Observed);
    type Wrong = &'static [(Item, Verdict, Option<Remedy>)];
    let table: [(&str, Change, Wrong); 19] = [
        (
            "port",
            |o| o.uplinks[0].port.as_mut().unwrap().exists = false,
            &[(Item::Port, Failed, Some(R::WrongPort))],
        ),
        (
            "cable",
            |o| o.uplinks[0].port.as_mut().unwrap().carrier = false,
            &[(Item::Port, Failed, Some(R::PlugIn))],
        ),
        (
            "address",
            |o| o.uplinks[0].addresses.clear(),
            &[(Item::Address, Failed, Some(R::AskProviderForAddress))],
        ),
        ("no route", |o| o.uplinks[0].gateway = None, &[(Item::Gateway, Failed, Some(R::NoRoute))]),
        (
            "no route, and no need of one",
            |o| (o.uplinks[0].gateway, o.uplinks[0].session) = (None, Some("pp-fiber".into())),
            &[],
        ),
        ("no way out", |o| o.uplinks[0].port = None, &[(Item::Gateway, Failed, Some(R::NoRoute))]),
        (
            "gateway",
            |o| o.uplinks[0].gateway.as_mut().unwrap().1 = false,
            &[(Item::Gateway, Failed, Some(R::RestartProvidersBox))],
        ),
        ("DNS", |o| o.names = false, &[(Item::Names, Failed, Some(R::CheckNameServers))]),
        (
            "name",
            |o| o.center_addresses = Some(Err("no such name".into())),
            &[(Item::Names, Failed, Some(R::CheckCenterName))],
        ),
        ("portal", |o| o.portal = Some(Ok(Some("302".into()))), &[(Item::Portal, Failed, Some(R::LogIn))]),
        ("NTP", |o| o.time_servers.1 = 0, &[(Item::Time, Warning, Some(R::OpenNtp))]),
        ("clock", |o| o.clock.0 = false, &[(Item::Time, Failed, Some(R::OpenNtp))]),
        (
            "refused",
            |o| o.center = CenterAnswer::Refuses("revoked".into()),
            &[(Item::Center, Failed, Some(R::AskVendor))],
        ),
        (
            "intercepted",
            |o| o.center = CenterAnswer::Foreign("unknown issuer".into()),
            &[(Item::Center, Failed, Some(R::TlsIntercepted))],
        ),
        (
            "center away",
            |o| {
                o.center = CenterAnswer::Silent("refused".into());
                o.portal = Some(Err("refused".into()));
                o.uplinks[0].reflection.as_mut().unwrap().mapped = (None, None);
            },
            &[
                (Item::Portal, Unknown, None),
                (Item::Center, Failed, Some(R::OpenHttps)),
                (Item::Udp, Unknown, None),
            ],
        ),
        (
            "UDP",
            |o| o.uplinks[0].reflection.as_mut().unwrap().mapped = (None, None),
            &[(Item::Udp, Failed, Some(R::OpenUdp))],
        ),
        (
            "NAT",
            |o| o.uplinks[0].reflection.as_mut().unwrap().mapped.1 = Some("203.0.113.1:6".parse().unwrap()),
            &[(Item::Nat, Warning, Some(R::ForwardPort))],
        ),
        (
            "narrow",
            |o| o.uplinks[0].reflection.as_mut().unwrap().path_mtu = Some(1280),
            &[(Item::PathMtu, Warning, Some(R::CheckMtu))],
        ),
        (
            "tunnel",
            |o| o.tunnel_failure = Some("no turn".into()),
            &[(Item::Tunnel, Failed, Some(R::RestartBox))],
        ),
    ];
    for (name, change, expected) in table {
        let mut seen = healthy();
        change(&mut seen);
        assert_eq!(wrong(&seen), expected, "{name}");
    }
}

#[test]
fn a_box_without_time_servers_goes_by_the_center() {
    let seen = Observed { time_servers: (0, 0), ..healthy() };
    assert_eq!(wrong(&seen), []);
}

#[test]
fn the_report_says_what_to_do_in_both_languages() {
    let mut seen = healthy();
    seen.uplinks[0].port.as_mut().unwrap().carrier = false;
    seen.portal = Some(Ok(Some("302 to \u{1b}[2J".into())));
    let found = findings(&seen);
    let english = report(&found, Language::En);
    assert!(
        english.contains("FAIL  cable         fiber: eth0: no carrier\n      → Plug the cable in"),
        "{english}"
    );
    assert!(!english.contains('\u{1b}'));
    let japanese = report(&found, Language::Ja);
    assert!(
        japanese.contains("異常  ケーブル      fiber: eth0: no carrier\n      → ケーブルの両端"),
        "{japanese}"
    );
}
