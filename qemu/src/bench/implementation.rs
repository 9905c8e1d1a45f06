//! Who is measured: our data plane, the foreign ones, and the bare wire that none of them can beat.
//!
//! A foreign implementation that cannot be had is left out and said so; our own must be there. Every one
//! runs with its own defaults, in the foreground, set up by `wg`.

use super::traffic::REAL_TIME;
use anyhow::{Context, bail};
use lab::{machine, workspace};
use std::path::PathBuf;
use std::str::FromStr;

/// The name of our own in the tables.
pub(super) const OURS: &str = "verona";
/// The name of the bare wire.
pub(super) const VETH: &str = "veth";

/// One line of the tables.
#[derive(Clone, Debug)]
pub(super) struct Implementation {
    pub(super) name: String,
    /// None for the bare wire.
    pub(super) program: Option<Program>,
    /// The receiver admits certified peers only, and has so many others.
    pub(super) others: Option<u32>,
}

/// How a daemon is started.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// What stands before the interface's name.
    pub(super) options: Vec<String>,
}

impl Program {
    /// With real-time priority: as on a machine of its own, whose processors nobody else wants.
    pub(super) fn undisturbed(&self) -> Self {
        let before =
            REAL_TIME.map(str::to_owned).into_iter().chain([self.path.to_string_lossy().into_owned()]);
        Self { path: "chrt".into(), options: before.chain(self.options.iter().cloned()).collect() }
    }
}

/// `NAME=PROGRAM OPTION…`: an implementation that this file does not know.
#[derive(Clone, Debug)]
pub(super) struct Custom(Implementation);

impl FromStr for Custom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, command) = text.split_once('=').ok_or("wants NAME=PROGRAM OPTION…")?;
        let mut words = command.split_whitespace().map(str::to_owned);
        let path = words.next().ok_or("names no program after the =")?.into();
        let program = Some(Program { path, options: words.collect() });
        Ok(Self(Implementation { name: name.to_owned(), program, others: None }))
    }
}

/// The name of our own among so many other certified peers.
pub(super) fn among(others: u32) -> String {
    format!("{OURS}+{others}")
}

/// Our own, built as it ships, and the programs that make its load.
///
/// # Errors
///
/// The build fails.
pub(super) fn ours() -> anyhow::Result<Program> {
    workspace::build_release(&["edge-tunnel", "verona-tests"])?;
    Ok(Program { path: workspace::release_binary("edge-tunnel")?, options: vec!["-f".to_owned()] })
}

/// `ours` first, alone and among `others`, then `peers` by name, then `custom` ones. Installs what is missing.
///
/// # Errors
///
/// A name is unknown.
pub(super) fn gather(
    ours: &Program,
    others: u32,
    peers: &[String],
    custom: &[Custom],
) -> anyhow::Result<Vec<Implementation>> {
    let ours = |name, others| Implementation { name, program: Some(ours.clone()), others };
    let mut all = vec![ours(OURS.to_owned(), None)];
    if others > 0 {
        all.push(ours(among(others), Some(others)));
    }
    for peer in peers.iter().filter(|peer| *peer != OURS) {
        match program(peer) {
            Ok(program) => all.push(Implementation { name: peer.clone(), program, others: None }),
            Err(Missing::Unknown) => bail!(
                "{peer} is no implementation known here; there are wireguard-go, boringtun, boringtun-t1, \
                 gotatun, veth, and --also NAME=COMMAND"
            ),
            Err(Missing::NotHere(error)) => eprintln!("lab: {peer} is left out: {error:#}"),
        }
    }
    all.extend(custom.iter().map(|Custom(implementation)| implementation.clone()));
    Ok(all)
}

enum Missing {
    Unknown,
    NotHere(anyhow::Error),
}

fn program(peer: &str) -> Result<Option<Program>, Missing> {
    let here = |path: lab::Result<PathBuf>, options: &[&str]| {
        let options = options.iter().map(ToString::to_string).collect();
        path.context("it cannot be installed")
            .map(|path| Some(Program { path, options }))
            .map_err(Missing::NotHere)
    };
    let keep_root = "--disable-drop-privileges";
    match peer {
        VETH => Ok(None),
        "wireguard-go" => here(machine::program("wireguard-go"), &["-f"]),
        "boringtun" => here(workspace::install_boringtun_cli(), &["-f", keep_root]),
        // Its four threads reorder a flow; alone, one is faster.
        "boringtun-t1" => here(workspace::install_boringtun_cli(), &["-f", keep_root, "-t", "1"]),
        "gotatun" => here(workspace::install_gotatun_cli(), &["-f", keep_root]),
        _ => Err(Missing::Unknown),
    }
}
