//! `cargo lab test`: every test of the workspace, with an honest exit code.
//!
//! Three calls of the runner: the simulation (its mock clock must not be compiled into the daemons), the
//! examples in the documentation, and everything else. cargo-nextest runs them if it is installed, plain
//! cargo otherwise. The runners' closing lines are repeated at the very end. A full run has those tests too that
//! are ignored for their length.

use anyhow::{Context, bail};
use lab::{firmware, machine, workspace};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// What `cargo lab test` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Refuse, with a list, if Debian packages are missing.
    #[arg(long)]
    no_install: bool,
    /// Also what takes too long for every day: scale, all schedules of the simulation, every case in QEMU.
    #[arg(long)]
    full: bool,
    /// Run only tests whose names contain one of these.
    filter: Vec<String>,
}

/// One call of a runner.
struct Stage {
    title: &'static str,
    arguments: Vec<String>,
    runner: Runner,
}

#[derive(Clone, Copy, PartialEq)]
enum Runner {
    /// Reports on standard error, ends with a `Summary` line.
    Nextest,
    /// Reports on standard output, one `test result:` line a test program.
    Cargo,
}

/// How a stage ended.
struct Outcome {
    title: &'static str,
    passed: bool,
    /// The runner's own closing lines.
    closing: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    machine::require_privileges().context("cannot run the tests")?;
    machine::ensure_packages(!arguments.no_install)?;
    workspace::build()?;
    firmware::build().context("the tests of the firmware need its image")?;
    workspace::install_boringtun_cli().context("the interop tests need boringtun's own program")?;

    let start = Instant::now();
    let mut outcomes = Vec::new();
    for stage in stages(&arguments.filter, arguments.full) {
        outcomes.push(execute(&stage)?);
    }
    println!("\ntests took {} s", start.elapsed().as_secs());
    for outcome in &outcomes {
        println!("{}: {}", outcome.title, if outcome.passed { "passed" } else { "FAILED" });
        for line in &outcome.closing {
            println!("{line}");
        }
    }
    if outcomes.iter().all(|outcome| outcome.closing.is_empty()) {
        bail!("no test matches {}", arguments.filter.join(" or "));
    }
    Ok(if outcomes.iter().all(|outcome| outcome.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ignored because other tests start them, as processes of their own.
const PROCESSES: [&str; 2] = ["child", "agent_process"];

/// The runner's options for a full run.
fn full_run(nextest: bool) -> Vec<String> {
    if nextest {
        let processes = PROCESSES.map(|name| format!("test(/(^|::){name}$/)")).join(" | ");
        let everything = format!("not ({processes})");
        return ["--profile", "full", "--run-ignored", "all", "-E", &everything].map(str::to_owned).to_vec();
    }
    let skipped = PROCESSES.iter().flat_map(|name| ["--skip", name]);
    ["--include-ignored"].into_iter().chain(skipped).map(str::to_owned).collect()
}

fn stages(filter: &[String], full: bool) -> Vec<Stage> {
    let nextest = has_nextest();
    if !nextest {
        eprintln!("lab: cargo-nextest is not installed, using plain `cargo test`");
    }
    let tests = |title, selection: &[&str]| {
        let own: &[&str] = if nextest {
            &["nextest", "run", "--locked", "--no-fail-fast", "--no-tests=pass"]
        } else {
            &["test", "--locked", "--no-fail-fast"]
        };
        let mut arguments: Vec<String> = own.iter().chain(selection).map(ToString::to_string).collect();
        if !nextest {
            arguments.push("--".to_owned());
        }
        if full {
            arguments.extend(full_run(nextest));
        }
        arguments.extend_from_slice(filter);
        Stage { title, arguments, runner: if nextest { Runner::Nextest } else { Runner::Cargo } }
    };
    let mut stages = vec![tests(
        "simulation",
        &["--package", "edge-tunnel-core", "--features", "mock-clock", "--test", "simulation"],
    )];
    if filter.is_empty() {
        stages.push(Stage {
            title: "documentation",
            arguments: ["test", "--locked", "--workspace", "--doc", "--quiet"].map(str::to_owned).to_vec(),
            runner: Runner::Cargo,
        });
    }
    // Plain cargo would run the examples of the documentation once more.
    let kinds: &[&str] =
        if nextest { &["--workspace"] } else { &["--workspace", "--lib", "--bins", "--tests"] };
    stages.push(tests("workspace", kinds));
    stages
}

fn has_nextest() -> bool {
    Command::new(cargo()).args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs one stage, passing its report on line by line.
fn execute(stage: &Stage) -> anyhow::Result<Outcome> {
    println!("\n== {}: cargo {}", stage.title, stage.arguments.join(" "));
    let mut command = Command::new(cargo());
    command.args(&stage.arguments).current_dir(workspace::root()).stdin(Stdio::null());
    match stage.runner {
        Runner::Nextest => command.stderr(Stdio::piped()),
        Runner::Cargo => command.stdout(Stdio::piped()),
    };
    let mut child = command.spawn().context("cannot start cargo")?;
    let report: Option<Box<dyn Read>> = match stage.runner {
        Runner::Nextest => child.stderr.take().map(|pipe| Box::new(pipe) as _),
        Runner::Cargo => child.stdout.take().map(|pipe| Box::new(pipe) as _),
    };
    let mut closing = Closing::default();
    for line in BufReader::new(report.context("cargo's report is not piped")?).split(b'\n') {
        let line = line.context("cannot read cargo's report")?;
        let line = String::from_utf8_lossy(&line);
        closing.read(stage.runner, &line);
        if stage.runner == Runner::Nextest || !is_empty(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    Ok(Outcome { title: stage.title, passed: status.success(), closing: closing.lines })
}

/// Picks the closing lines out of a runner's report.
#[derive(Default)]
struct Closing {
    lines: Vec<String>,
    in_summary: bool,
}

impl Closing {
    fn read(&mut self, runner: Runner, line: &str) {
        match runner {
            Runner::Nextest => {
                self.in_summary |= line.trim_start().starts_with("Summary [");
                if self.in_summary && !line.contains(" 0 tests run:") {
                    self.lines.push(line.to_owned());
                }
            }
            Runner::Cargo => {
                let failed = line.starts_with("test ") && line.ends_with("... FAILED");
                if failed || (line.starts_with("test result: ") && !is_empty(line)) {
                    self.lines.push(line.to_owned());
                }
            }
        }
    }
}

/// What cargo says about a program without tests, or with none that match.
fn is_empty(line: &str) -> bool {
    line.is_empty() || line == "running 0 tests" || line.contains(" 0 passed; 0 failed;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closing(runner: Runner, report: &str) -> Vec<String> {
        let mut closing = Closing::default();
        report.lines().for_each(|line| closing.read(runner, line));
        closing.lines
    }

    #[test]
    fn the_summary_of_nextest_and_the_failures_after_it_are_kept() {
        let report = "    PASS [   0.2s] a b\n     Summary [   1.0s] 2 tests run: 1 passed, 1 failed\n        FAIL [ 1s] a c";
        assert_eq!(closing(Runner::Nextest, report).len(), 2);
        assert!(closing(Runner::Nextest, "     Summary [ 0.0s] 0 tests run: 0 passed, 9 skipped").is_empty());
    }

    #[test]
    fn a_full_run_has_all_but_the_processes_of_other_tests() {
        let line = |nextest| full_run(nextest).join(" ");
        assert_eq!(
            line(true),
            "--profile full --run-ignored all -E not (test(/(^|::)child$/) | test(/(^|::)agent_process$/))"
        );
        assert_eq!(line(false), "--include-ignored --skip child --skip agent_process");
        let ordinary =
            stages(&[], false).iter().flat_map(|stage| stage.arguments.clone()).collect::<Vec<_>>();
        assert!(!ordinary.iter().any(|argument| argument.contains("ignored")), "{ordinary:?}");
    }

    #[test]
    fn results_of_cargo_are_kept_unless_empty() {
        let report = "test a ... ok\ntest b ... FAILED\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n\
                      test result: ok. 0 passed; 0 failed; 0 ignored";
        assert_eq!(
            closing(Runner::Cargo, report),
            ["test b ... FAILED", "test result: FAILED. 1 passed; 1 failed; 0 ignored"]
        );
    }
}
