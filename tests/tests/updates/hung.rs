//! A new system that hangs on a box of hardware: nothing in it can say so, and its watchdog ends it.

use super::Scene;
use lab::alone;
use lab::firmware::Edition;
use lab::vendor::Edit;

/// Nothing of the root comes up: neither the scripts nor a daemon ever feed the watchdog.
const SCRIPTS_HANG: &[Edit] =
    &[("rootfs/etc/init.d/S10modules", "modprobe -a tun ", "sleep 100000\nmodprobe -a tun ")];

/// The agent stands still from the moment on which it has taken the watchdog over.
const AGENT_HANGS: &[Edit] = &[(
    "rootfs/etc/inittab",
    "::shutdown:",
    "::once:/bin/sh -c 'until [ -S /run/verona/agent.sock ]; do usleep 200000; done; killall -STOP edge-agent'\n::shutdown:",
)];

#[test]
#[ignore = "full run: an image of another kernel, five boots, and the watchdog's time twice"]
fn the_watchdog_takes_a_box_back_from_a_system_that_hangs() {
    let _turn = alone().unwrap();
    let mut scene = Scene::start_of(Edition::Generic);
    for (version, hangs) in [("2.0.0", SCRIPTS_HANG), ("3.0.0", AGENT_HANGS)] {
        let image = scene.vendor.build_for(Edition::Generic, version, hangs).unwrap();
        let bitten = scene.bites();
        scene.release_image(version, &image);
        let reason = scene.leaves(version, "1.0.0");
        assert!(reason.starts_with("it did not come up"), "{version}: {reason}");
        assert_eq!(scene.bites(), bitten + 1, "{version}: something else has restarted the box");
    }
}

impl Scene {
    /// How often the watchdog has reset the machine.
    fn bites(&mut self) -> usize {
        self.appliance.machine.qmp.count("WATCHDOG").unwrap()
    }
}
