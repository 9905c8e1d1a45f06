//! The edge as a box: the firmware image in a virtual machine, with a disk, two network cards and a factory record.

use crate::firmware::Image;
use crate::namespace::checked;
use crate::topology::{LAN_TAP, WAN_TAP};
use crate::vm::{Boot, Card, Disk, Hardware, Machine, copy_image, factory_variables};
use crate::{Namespace, Result, workspace};
use std::path::Path;
use std::process::Command;

/// MiB of memory: four times what the box uses.
const MEMORY: u32 = 256;

/// Past firmware and chooser, or the whole way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// QEMU loads the kernel.
    Direct,
    /// UEFI, boot chooser, unified kernel image.
    Uefi,
}

/// A box. It can be switched off and on again; what it wrote to its disk stays.
#[derive(Debug)]
pub struct Appliance {
    place: Namespace,
    image: Image,
    hardware: Hardware,
    /// The running machine.
    pub machine: Machine,
}

impl Appliance {
    /// Puts `image` and the factory record at `record`, if there is one, onto a new disk, and switches the box on.
    ///
    /// # Errors
    ///
    /// The disk cannot be made, or QEMU does not come up.
    pub fn start(place: &Namespace, image: &Image, record: Option<&Path>, start: Start) -> Result<Self> {
        Self::start_with(place, image, record, start, Vec::new())
    }

    /// As [`Appliance::start`], with further options of QEMU.
    ///
    /// # Errors
    ///
    /// As for [`Appliance::start`].
    pub fn start_with(
        place: &Namespace,
        image: &Image,
        record: Option<&Path>,
        start: Start,
        options: Vec<String>,
    ) -> Result<Self> {
        let disk = fresh_disk(place, image, record)?;
        let hardware = Hardware {
            name: "appliance".to_owned(),
            boot: boot(place, image, start)?,
            disk,
            memory: MEMORY,
            cards: vec![
                Card { tap: WAN_TAP, mac: "52:54:00:76:65:01" },
                Card { tap: LAN_TAP, mac: "52:54:00:76:65:02" },
            ],
            options,
        };
        let machine = Machine::start(place, &hardware)?;
        Ok(Self { place: place.clone(), image: image.clone(), hardware, machine })
    }

    /// Cuts the power and switches the box on again.
    ///
    /// # Errors
    ///
    /// QEMU does not come up.
    pub fn power_cycle(&mut self) -> Result<()> {
        self.machine.cut_power()?;
        self.switch_on()
    }

    /// Switches the box on again after its power was cut.
    ///
    /// # Errors
    ///
    /// QEMU does not come up.
    pub fn switch_on(&mut self) -> Result<()> {
        self.machine = Machine::start(&self.place, &self.hardware)?;
        Ok(())
    }

    /// As [`Appliance::power_cycle`], and from then on it starts by `start`.
    ///
    /// # Errors
    ///
    /// As for [`Appliance::power_cycle`].
    pub fn power_cycle_by(&mut self, start: Start) -> Result<()> {
        self.hardware.boot = boot(&self.place, &self.image, start)?;
        self.power_cycle()
    }

    /// As [`Appliance::power_cycle`], and from then on with these further options of QEMU.
    ///
    /// # Errors
    ///
    /// As for [`Appliance::power_cycle`].
    pub fn power_cycle_with(&mut self, options: Vec<String>) -> Result<()> {
        self.hardware.options = options;
        self.power_cycle()
    }

    /// What it is made of.
    #[must_use]
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// The namespace with its cables.
    #[must_use]
    pub fn place(&self) -> &Namespace {
        &self.place
    }
}

/// The image with its record, below a layer that takes the writes.
fn fresh_disk(place: &Namespace, image: &Image, record: Option<&Path>) -> Result<Disk> {
    let at = |name: &str| place.run().dir().join(name);
    let raw = at("appliance.img");
    copy_image(&image.file("img"), &raw)?;
    if let Some(record) = record {
        let mut command = Command::new(workspace::binary("verona-image")?);
        checked(command.arg("provision").arg("--disk").arg(&raw).arg("--record").arg(record))?;
    }
    Disk::over(&raw, &at("appliance.qcow2"), None)
}

fn boot(place: &Namespace, image: &Image, start: Start) -> Result<Boot> {
    match start {
        Start::Direct => Ok(Boot::Direct {
            kernel: image.file("vmlinuz"),
            initramfs: image.file("initramfs"),
            command_line: image.command_line()?,
        }),
        Start::Uefi => {
            Ok(Boot::Uefi { variables: factory_variables(&place.run().dir().join("appliance.vars"))? })
        }
    }
}
