//! `edgectl button`: carries out what a person means by the box's buttons, as the kernel tells of them
//! (Documentation/input/input.rst). The rules are `edge_agent_core::button`.
//!
//! A process of its own beside the agent, so that a box whose agent does not come up can still be reset.

use super::{EdgectlError, ask};
use crate::center::chain;
use crate::local::Request;
use crate::recovery::Recovery;
use clap::Args;
use edge_agent_core::button::{Button, Buttons, Order};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Octets of `struct input_event` on a 64-bit machine: a time of 16, type and code of 2, value of 4.
const EVENT: usize = 24;
/// EV_KEY.
const KEY: u16 = 1;
/// KEY_POWER and KEY_RESTART (linux/input-event-codes.h).
const BUTTONS: [(u16, Button); 2] = [(116, Button::Power), (408, Button::Reset)];
/// How long until the buttons are looked for again.
const LEFT_ALONE: Duration = Duration::from_secs(60);

/// What `edgectl button` takes.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// The agent's state directory, where a reset is noted if the agent cannot be asked.
    #[arg(long, value_name = "DIR", default_value = "/data/verona")]
    state: PathBuf,
    /// What restarts the box.
    #[arg(long, value_name = "PROGRAM", default_value = "/sbin/reboot")]
    restart_with: PathBuf,
    /// What switches the box off.
    #[arg(long, value_name = "PROGRAM", default_value = "/sbin/poweroff")]
    switch_off_with: PathBuf,
}

impl Settings {
    /// Runs for ever.
    pub(super) fn run(&self, agent: &Path) {
        loop {
            watch(Path::new("/sys/class/input"), Path::new("/dev/input"), |order| {
                self.carry_out(agent, order)
            });
            // There is no button, or what was ordered is under way.
            std::thread::sleep(LEFT_ALONE);
        }
    }

    /// Returns whether it is under way.
    fn carry_out(&self, agent: &Path, order: Order) -> bool {
        let program = match order {
            Order::SwitchOff => &self.switch_off_with,
            Order::Restart => &self.restart_with,
            Order::FactoryReset => match self.reset(agent) {
                // The agent restarts the box.
                Ok(true) => {
                    eprintln!("edgectl: button: factory reset");
                    return true;
                }
                Ok(false) => &self.restart_with,
                Err(error) => {
                    eprintln!("edgectl: button: no factory reset: {error}");
                    return false;
                }
            },
        };
        eprintln!("edgectl: button: {}", program.display());
        let status = Command::new(program).status();
        status
            .inspect_err(|error| eprintln!("edgectl: {}: {error}", program.display()))
            .is_ok_and(|status| status.success())
    }

    /// Returns whether somebody else restarts the box.
    fn reset(&self, agent: &Path) -> Result<bool, String> {
        match ask(agent, &Request::Reset) {
            Ok(_) => Ok(true),
            Err(EdgectlError::Socket { .. }) => {
                Recovery::new(&self.state).order_reset().map(|()| false).map_err(|error| chain(&error))
            }
            Err(error) => Err(chain(&error)),
        }
    }
}

/// Reads the buttons of all devices until none is left, or `carry_out` has something under way that ends the box's
/// present life.
fn watch(devices: &Path, nodes: &Path, mut carry_out: impl FnMut(Order) -> bool) {
    let (events, pressed) = mpsc::channel();
    for node in with_buttons(devices, nodes) {
        let events = events.clone();
        // A thread that cannot be had is a button that does nothing; the others still do.
        let _ = std::thread::Builder::new().name("button".to_owned()).spawn(move || read(&node, &events));
    }
    drop(events);
    let (begun, mut buttons) = (Instant::now(), Buttons::default());
    loop {
        let left = buttons.poll_timeout().map(|at| at.saturating_sub(begun.elapsed()));
        let event = match left {
            Some(left) => pressed.recv_timeout(left),
            None => pressed.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let meant = match event {
            Ok((button, down)) => buttons.handle(begun.elapsed(), button, down),
            Err(RecvTimeoutError::Timeout) => buttons.poll(begun.elapsed()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if meant.is_some_and(&mut carry_out) {
            return;
        }
    }
}

/// Nodes of the devices that have one of the buttons.
fn with_buttons(devices: &Path, nodes: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(devices) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let events = names.filter(|name| name.starts_with("event"));
    let has_one = |name: &String| {
        let keys = fs::read_to_string(devices.join(name).join("device/capabilities/key"));
        keys.is_ok_and(|keys| BUTTONS.iter().any(|(code, _)| has(&keys, *code)))
    };
    events.filter(has_one).map(|name| nodes.join(name)).collect()
}

/// Whether a bitmap as sysfs prints it, words of 64 bits with the highest first, has `code`.
fn has(keys: &str, code: u16) -> bool {
    let word = keys.split_ascii_whitespace().rev().nth(usize::from(code / 64));
    let word = word.and_then(|word| u64::from_str_radix(word, 16).ok());
    word.is_some_and(|word| word >> (code % 64) & 1 == 1)
}

/// Until the device is gone, or nobody listens.
fn read(node: &Path, events: &Sender<(Button, bool)>) {
    if let Err(error) = relay(node, events) {
        eprintln!("edgectl: {}: {error}", node.display());
    }
}

fn relay(node: &Path, events: &Sender<(Button, bool)>) -> io::Result<()> {
    let mut device = File::open(node)?;
    let mut event = [0; EVENT];
    loop {
        device.read_exact(&mut event)?;
        if let Some(event) = parse(&event)
            && events.send(event).is_err()
        {
            return Ok(());
        }
    }
}

/// One of the buttons, and whether it went down. What is neither, and a key that repeats itself, is left out.
fn parse(event: &[u8; EVENT]) -> Option<(Button, bool)> {
    let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event;
    let code = u16::from_ne_bytes([c0, c1]);
    let (_, button) = BUTTONS.into_iter().find(|(number, _)| *number == code)?;
    match (u16::from_ne_bytes([t0, t1]), i32::from_ne_bytes([v0, v1, v2, v3])) {
        (KEY, 0) => Some((button, false)),
        (KEY, 1) => Some((button, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> [u8; EVENT] {
        let mut event = [0; EVENT];
        event[16..18].copy_from_slice(&kind.to_ne_bytes());
        event[18..20].copy_from_slice(&code.to_ne_bytes());
        event[20..].copy_from_slice(&value.to_ne_bytes());
        event
    }

    #[test]
    fn presses_and_releases_of_the_two_buttons_and_nothing_else() {
        assert_eq!(parse(&event(1, 116, 1)), Some((Button::Power, true)));
        assert_eq!(parse(&event(1, 408, 0)), Some((Button::Reset, false)));
        for (kind, code, value) in [(1, 116, 2), (1, 30, 1), (0, 116, 1), (1, 116, -1)] {
            assert_eq!(parse(&event(kind, code, value)), None, "{kind} {code} {value}");
        }
    }

    #[test]
    fn devices_by_the_keys_that_they_have() {
        // A power button, a keyboard without one, one of a board's own.
        let power = "10000000000000 0";
        assert!(has(power, 116) && !has(power, 408) && !has(power, 52));
        assert!(has("1000000 0 0 0 0 0 0", 408));
        assert!(!has("", 116) && !has("nonsense 0", 116));
        let folder = tempfile::tempdir().unwrap();
        for (name, keys) in
            [("event0", power), ("event1", "3"), ("mouse0", power), ("event2", "1000000 0 0 0 0 0 0")]
        {
            let capabilities = folder.path().join(name).join("device/capabilities");
            fs::create_dir_all(&capabilities).unwrap();
            fs::write(capabilities.join("key"), keys).unwrap();
        }
        let mut found = with_buttons(folder.path(), Path::new("/dev/input"));
        found.sort();
        assert_eq!(found, ["/dev/input/event0", "/dev/input/event2"].map(PathBuf::from));
    }

    #[test]
    fn a_row_of_presses_from_a_device_is_an_order() {
        let folder = tempfile::tempdir().unwrap();
        let (devices, nodes) = (folder.path().join("sys"), folder.path().join("dev"));
        let capabilities = devices.join("event0/device/capabilities");
        for folder in [&capabilities, &nodes] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(capabilities.join("key"), "10000000000000 0").unwrap();
        let presses = [event(1, 116, 1), event(0, 0, 0), event(1, 116, 0)].concat().repeat(5);
        fs::write(nodes.join("event0"), presses).unwrap();
        let mut orders = Vec::new();
        // Until the end of the file: the device is gone then.
        watch(&devices, &nodes, |order| {
            orders.push(order);
            false
        });
        assert_eq!(orders, [Order::FactoryReset]);
    }

    #[test]
    fn a_reset_without_an_agent_is_noted_for_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let (state, restarted) = (folder.path().to_owned(), folder.path().join("restarted"));
        let program = folder.path().join("restart");
        fs::write(&program, format!("#!/bin/sh\ntouch {}\n", restarted.display())).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let settings = Settings { state, restart_with: program, switch_off_with: "/bin/false".into() };
        assert!(!settings.carry_out(folder.path(), Order::SwitchOff), "a program that fails");
        assert!(settings.carry_out(&folder.path().join("no.sock"), Order::FactoryReset));
        assert!(Recovery::new(folder.path()).carry_out().unwrap() && restarted.exists());
    }
}
