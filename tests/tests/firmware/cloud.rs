//! The software edition: a machine gets its factory record from its cloud, and its disk is no second box.

use super::{BOOT, PATIENCE};
use lab::parts::{Appliance, Center, Start};
use lab::{Plan, Run, Topology, alone, firmware, metadata};
use std::process::Command;

const UUID: &str = "6b0a7c1a-0000-4000-8000-000000000001";
const ANOTHER_UUID: &str = "6b0a7c1a-0000-4000-8000-000000000002";

fn uuid(number: &str) -> Vec<String> {
    ["-uuid", number].map(str::to_owned).to_vec()
}

#[test]
fn a_virtual_machine_gets_its_record_from_its_cloud_and_a_copy_of_its_disk_is_refused() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let net = Topology::build_for_machine(&run, &Plan::default()).unwrap();
    let center = Center::start(&net.center).unwrap();
    let owner = center.add_owner("Acme", "10.9.0.0/24").unwrap();
    let record = run.dir().join("factory.json");
    let id = center.add_edge(&owner, &record).unwrap();
    let image = firmware::image().unwrap();

    let service = metadata::start(&net.internet, &record).unwrap();
    let mut machine = Appliance::start_with(&net.edge, &image, None, Start::Direct, uuid(UUID)).unwrap();
    let confirmed = center.confirmed(&id, 1, BOOT);
    assert!(confirmed.is_ok(), "{confirmed:?}; the console:\n{}", machine.machine.console.text());
    drop(service);

    machine.power_cycle_with(uuid(ANOTHER_UUID)).unwrap();
    machine.machine.wait_for_console("this disk was copied", BOOT).unwrap();
    let said = machine.machine.console.text();
    assert!(said.contains(&format!("made on machine {UUID}, this is {ANOTHER_UUID}")), "{said}");
    // Back where it belongs it is what it was.
    machine.power_cycle_with(uuid(UUID)).unwrap();
    machine.machine.wait_for_console("edge_agent", BOOT).unwrap();
    let said = machine.machine.console.text();
    assert!(!said.contains("copied") && !said.contains("enrolling"), "{said}");
}

#[test]
#[ignore = "full run: another boot"]
fn a_virtual_machine_takes_its_record_from_a_seed() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let net = Topology::build_for_machine(&run, &Plan::default()).unwrap();
    let center = Center::start(&net.center).unwrap();
    let owner = center.add_owner("Acme", "10.9.0.0/24").unwrap();
    let (folder, seed) = (run.dir().join("seed"), run.dir().join("seed.iso"));
    std::fs::create_dir(&folder).unwrap();
    let id = center.add_edge(&owner, &folder.join("user-data")).unwrap();
    std::fs::write(folder.join("meta-data"), "instance-id: i-1\n").unwrap();
    let mut command = Command::new("genisoimage");
    command.args(["-quiet", "-volid", "cidata", "-joliet", "-rock", "-output"]).arg(&seed).arg(&folder);
    assert!(command.status().unwrap().success());
    let drive = format!("if=none,id=seed,media=cdrom,format=raw,readonly=on,file={}", seed.display());
    let options = ["-device", "virtio-scsi-pci", "-drive", &drive, "-device", "scsi-cd,drive=seed"];
    let options = options.map(str::to_owned).to_vec();
    let image = firmware::image().unwrap();
    let mut machine = Appliance::start_with(&net.edge, &image, None, Start::Direct, options).unwrap();
    machine
        .machine
        .wait_for_console("factory record of VE-000001 from /run/verona/seed/user-data", BOOT)
        .unwrap();
    let confirmed = center.confirmed(&id, 1, PATIENCE);
    assert!(confirmed.is_ok(), "{confirmed:?}; the console:\n{}", machine.machine.console.text());
}
