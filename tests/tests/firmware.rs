//! The firmware as it leaves the builder, in machines that know nothing but their disks and their cables.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

#[path = "firmware/build.rs"]
mod build;
#[path = "firmware/cloud.rs"]
mod cloud;
#[path = "firmware/secure_boot.rs"]
mod secure_boot;

use lab::parts::{Appliance, CENTER_PORT, Center, Start, VeronaClient, field};
use lab::{ClientPlan, Plan, Run, Topology, address, alone, firmware, wait, web};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// The page in the LAN.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(address::LAN_HOST), 80);
/// A boot by translation takes 20 s of an idle machine, and ten times that of a busy one.
const BOOT: Duration = Duration::from_secs(480);
/// A translated machine on a busy host hears presses that follow each other faster as one.
const BETWEEN_PRESSES: Duration = Duration::from_millis(700);
/// For everything that takes several programs.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_box_comes_up_by_itself_once_it_is_claimed_and_again_after_a_power_cut_without_its_center() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let clients = vec![ClientPlan { name: "alice", nat: false }];
    let net = Topology::build_for_machine(&run, &Plan { clients }).unwrap();
    let mut center = Center::start(&net.center).unwrap();
    let owner = center.add_owner("Acme", "10.9.0.0/24").unwrap();
    let record = run.dir().join("factory.json");
    center.stock_edge(&record).unwrap();
    let image = firmware::image().unwrap();
    let mut appliance = Appliance::start(&net.edge, &image, Some(&record), Start::Uefi).unwrap();
    let said = |appliance: &Appliance| appliance.machine.console.text();

    // Nobody is at the console: it finds its center and waits for its owner.
    let asked = center.asked_for_owner(BOOT);
    assert!(asked.is_ok(), "{asked:?}; the console:\n{}", said(&appliance));
    let claimed = Instant::now();
    let id = center.claim_edge(&owner).unwrap();
    let confirmed = center.confirmed(&id, 1, PATIENCE);
    assert!(confirmed.is_ok(), "{confirmed:?}; the console:\n{}", said(&appliance));
    println!("at work {:.1} s after it was claimed", claimed.elapsed().as_secs_f64());

    let _web = web::start(&net.lan, SERVER).unwrap();
    let (_, code) = center.add_client(&owner, "alice", false).unwrap();
    let mut alice = VeronaClient::new(&net.client("alice").unwrap().host, "alice");
    alice.enroll(&code).unwrap();
    alice.up().unwrap();
    web::fetch_soon(alice.place(), SERVER, PATIENCE).unwrap();

    // Whatever the box needs to serve its clients again is on its own disk.
    center.serving.crash().unwrap();
    appliance.power_cycle().unwrap();
    assert!(web::fetch(alice.place(), SERVER).is_err(), "the tunnel outlived the box");
    let back = web::fetch_soon(alice.place(), SERVER, BOOT);
    assert!(back.is_ok(), "{back:?}; the console:\n{}", said(&appliance));
    center.serve_again().unwrap();
}

#[test]
fn a_technician_at_the_console_mends_the_centers_address_and_resets_the_box_which_comes_back_as_itself() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let net = Topology::build_for_machine(&run, &Plan::default()).unwrap();
    let center = Center::start(&net.center).unwrap();
    let owner = center.add_owner("Acme", "10.9.0.0/24").unwrap();
    let record = run.dir().join("factory.json");
    let id = center.add_edge(&owner, &record).unwrap();
    let right = format!("https://{}:{CENTER_PORT}", address::CENTER);
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains(&right), "{text}");
    std::fs::write(&record, text.replace(&right, "https://198.51.100.99:8443")).unwrap();

    let image = firmware::image().unwrap();
    let mut appliance = Appliance::start(&net.edge, &image, Some(&record), Start::Direct).unwrap();
    let machine = &mut appliance.machine;
    machine.wait_for_console("4  factory reset", BOOT).unwrap();
    machine.wait_for_console("enrolling", BOOT).unwrap();
    // What is no choice, and keys that end programs elsewhere, give the menu again.
    for keys in ["sh\n", "\x03", "$(id)\n"] {
        machine.console.forget();
        machine.console.send(keys).unwrap();
        machine.wait_for_console("4  factory reset", PATIENCE).unwrap();
        assert!(!machine.console.text().contains("uid="), "{}", machine.console.text());
    }
    machine.console.send("2\n").unwrap();
    machine.wait_for_console("https://host[:port]", PATIENCE).unwrap();
    machine.console.send(&format!("{right}\n")).unwrap();
    machine.wait_for_console("the center's address is set", PATIENCE).unwrap();
    let confirmed = center.confirmed(&id, 1, PATIENCE);
    assert!(confirmed.is_ok(), "{confirmed:?}; the console:\n{}", machine.console.text());
    let before = center.admin(&["edge", "show", &id]).unwrap();

    machine.console.forget();
    machine.console.send("4\n").unwrap();
    machine.wait_for_console("type reset", PATIENCE).unwrap();
    machine.console.send("reset\n").unwrap();
    machine.wait_for_console("factory reset: the configuration is gone", BOOT).unwrap();
    machine.console.forget();
    machine.wait_for_console("configuration received", BOOT).unwrap();
    let ordered = wait::for_value("the order in the center's log", PATIENCE, || {
        let page = center.admin(&["log", "list", "--edge", &id, "--event", "reset.ordered"])?;
        Ok(page.to_string().contains("a person at the box").then_some(()))
    });
    assert!(ordered.is_ok(), "{ordered:?}; the console:\n{}", machine.console.text());
    let after = center.admin(&["edge", "show", &id]).unwrap();
    for what in ["id", "tunnel_key", "serial"] {
        assert_eq!(field(&before, what), field(&after, what), "{what}");
    }

    // The same without a console, by the only button that every machine has.
    machine.console.forget();
    wait::for_value("five presses to be a factory reset", PATIENCE, || {
        machine.press_power_button()?;
        std::thread::sleep(BETWEEN_PRESSES);
        Ok(machine.console.text().contains("button: factory reset").then_some(()))
    })
    .unwrap();
    machine.wait_for_console("factory reset: the configuration is gone", BOOT).unwrap();
    machine.console.forget();
    machine.wait_for_console("configuration received", BOOT).unwrap();
    machine.press_power_button().unwrap();
    machine.wait_for_console("button: /sbin/poweroff", PATIENCE).unwrap();
    let off = machine.switched_off(PATIENCE);
    assert!(off.is_ok(), "{off:?}; the console:\n{}", machine.console.text());
}
