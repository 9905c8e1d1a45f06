//! SIGINT and SIGTERM take a run down; SIGKILL leaves it to the next run.

#![allow(clippy::unwrap_used, reason = "a test's own way to fail")]

use lab::{Run, alone, wait};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Set in a copy of this test program that plays the one to be ended.
const VICTIM: &str = "LAB_TEST_VICTIM";

/// Starts a copy of this program that holds a run, and gives the run's namespace.
fn victim(test: &str) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let name = lines.map_while(Result::ok).find(|line| line.starts_with("verona-")).unwrap();
    assert!(exists(&name));
    (child, name)
}

/// What the copy does: a namespace with a process in it, then nothing.
fn play_victim() {
    let run = Run::start().unwrap();
    let namespace = run.namespace("victim").unwrap();
    let mut command = namespace.command("sleep");
    command.arg("603");
    let _process = run.start_process("sleeper", command).unwrap();
    println!("\n{}", namespace.name());
    let forever = Duration::from_secs(3600);
    wait::until("the end", forever, || false).unwrap();
}

fn exists(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}

fn end_by(signal: &str, test: &str) -> (std::process::ExitStatus, String) {
    let _turn = alone().unwrap();
    let (mut child, name) = victim(test);
    let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    (child.wait().unwrap(), name)
}

#[test]
fn sigterm_takes_the_run_down() {
    if std::env::var_os(VICTIM).is_some() {
        return play_victim();
    }
    let (status, name) = end_by("-TERM", "sigterm_takes_the_run_down");
    assert_eq!(status.code(), Some(128 + 15));
    assert!(!exists(&name));
}

#[test]
fn sigint_takes_the_run_down() {
    if std::env::var_os(VICTIM).is_some() {
        return play_victim();
    }
    let (status, name) = end_by("-INT", "sigint_takes_the_run_down");
    assert_eq!(status.code(), Some(128 + 2));
    assert!(!exists(&name));
}

#[test]
fn after_sigkill_the_next_run_takes_it_down() {
    if std::env::var_os(VICTIM).is_some() {
        return play_victim();
    }
    let (status, name) = end_by("-KILL", "after_sigkill_the_next_run_takes_it_down");
    assert_eq!(status.code(), None);
    assert!(exists(&name));
    drop(Run::start().unwrap());
    assert!(!exists(&name));
}
