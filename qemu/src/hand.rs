//! `cargo lab up`, `console`, `ps`, `down`: a center and a booted box to work with by hand.
//!
//! A box has no login and no shell. What a person gets is what a technician gets, its serial console, and beside it the
//! center's command line and a client's place.

use anyhow::{Context, bail, ensure};
use lab::parts::{Appliance, Center, Start, VeronaClient};
use lab::vm::Accelerator;
use lab::{ClientPlan, KeptRun, Plan, Run, Topology, address, firmware, kept, machine, web, workspace};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

/// A boot by translation takes 20 s of an idle machine, and ten times that of a busy one.
const BOOT: Duration = Duration::from_secs(480);
/// Ctrl-]: ends `console`, and means nothing to the box.
const LEAVE: u8 = 0x1d;
/// The name of the box's logs and sockets in its run.
const CONSOLE: &str = "appliance.serial";

/// What `cargo lab up` takes.
#[derive(clap::Args)]
pub(crate) struct Up {
    /// Have QEMU load the kernel, past UEFI and boot chooser: faster.
    #[arg(long)]
    direct: bool,
    /// Do not wait until the box is at work.
    #[arg(long)]
    no_wait: bool,
    /// Refuse, with a list, if Debian packages are missing.
    #[arg(long)]
    no_install: bool,
}

/// Brings up a center, a box, a web server in its LAN and an enrolled client, and leaves them running.
pub(crate) fn up(arguments: &Up) -> anyhow::Result<ExitCode> {
    machine::require_privileges()?;
    machine::ensure_packages(!arguments.no_install)?;
    workspace::build()?;
    let image = firmware::build()?;
    let run = Run::start()?;
    let plan = Plan { clients: vec![ClientPlan { name: "alice", nat: true }] };
    let net = Topology::build_for_machine(&run, &plan)?;
    let center = Center::start(&net.center)?;
    let owner = center.add_owner("Acme", "10.9.0.0/24")?;
    let record = run.dir().join("factory.json");
    let id = center.add_edge(&owner, &record)?;
    let start = if arguments.direct { Start::Direct } else { Start::Uefi };
    let appliance = Appliance::start(&net.edge, &image, Some(&record), start)?;
    let _web = web::start(&net.lan, (address::LAN_HOST, 80).into())?;
    let (_, code) = center.add_client(&owner, "alice", false)?;
    let alice = VeronaClient::new(&net.client("alice").context("alice's place")?.host, "alice");
    alice.enroll(&code)?;
    if !arguments.no_wait {
        eprintln!("lab: the box boots under {}", Accelerator::of_host()?.name());
        center.confirmed(&id, 1, BOOT).with_context(|| appliance.machine.console.text())?;
    }
    // Only what has come up is kept.
    run.keep()?;
    let bin = workspace::bin_dir()?;
    let (bin, state) = (bin.display(), alice.state().display());
    let (inside, identity) = (format!("ip netns exec {}", alice.place().name()), center.identity());
    println!(
        "run {run} is up; try\n  cargo lab console    # the box's, Ctrl-] leaves it\n  \
         {inside} {bin}/verona-client --state {state} up -f --interface {interface} &\n  \
         {inside} curl -sS http://{server}/\n  \
         ip netns exec {center} {bin}/verona-center edge show {id} --identity {identity}\n  \
         ls {folder}    # logs of every process\n  cargo lab ps\n  cargo lab down",
        run = run.id(),
        interface = alice.interface(),
        server = address::LAN_HOST,
        center = center.place().name(),
        identity = identity.display(),
        folder = run.dir().display(),
    );
    Ok(ExitCode::SUCCESS)
}

/// Lists what was left running, with its processes.
pub(crate) fn ps() -> anyhow::Result<ExitCode> {
    for KeptRun { id, folder, processes } in kept()? {
        println!("run {id}  {}", folder.display());
        for (pid, line) in processes {
            println!("  {pid:>7}  {line}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes down what was left running, or one run of it.
pub(crate) fn down(id: Option<&str>) -> anyhow::Result<ExitCode> {
    let removed = match id {
        Some(id) => lab::take_down(id).map(|()| vec![id.to_owned()])?,
        None => lab::clean()?,
    };
    match removed.as_slice() {
        [] => println!("nothing is up"),
        ids => println!("took down {}", ids.join(" ")),
    }
    Ok(ExitCode::SUCCESS)
}

/// Joins this terminal to the box's serial console until Ctrl-] or the end of the input.
pub(crate) fn console(id: Option<&str>) -> anyhow::Result<ExitCode> {
    let runs = kept()?.into_iter().filter(|run| id.is_none_or(|id| run.id == id));
    let mut boxes: Vec<KeptRun> = runs.filter(|run| run.folder.join(CONSOLE).exists()).collect();
    let Some(run) = boxes.pop() else { bail!("no box is up: `cargo lab up` starts one") };
    ensure!(boxes.is_empty(), "more than one box is up: name one by --run (`cargo lab ps` lists them)");
    let socket = run.folder.join(CONSOLE);
    let stream =
        UnixStream::connect(&socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    let mut from_box = stream.try_clone().context("cannot read the console")?;
    eprintln!("console of run {}; Ctrl-] leaves it", run.id);
    let raw = Raw::enter()?;
    std::thread::spawn(move || {
        let mut piece = [0; 1024];
        while let Ok(length @ 1..) = from_box.read(&mut piece) {
            let mut output = std::io::stdout();
            if output.write_all(&piece[..length]).and_then(|()| output.flush()).is_err() {
                break;
            }
        }
    });
    let sent = send_keys(&stream);
    drop(raw);
    eprintln!();
    sent.map(|()| ExitCode::SUCCESS)
}

fn send_keys(mut stream: &UnixStream) -> anyhow::Result<()> {
    let mut piece = [0; 1024];
    loop {
        let length = std::io::stdin().read(&mut piece).context("cannot read the keyboard")?;
        let keys = &piece[..length];
        let typed = keys.iter().position(|key| *key == LEAVE);
        stream.write_all(&keys[..typed.unwrap_or(length)]).context("the box's console is gone")?;
        if typed.is_some() || length == 0 {
            return Ok(());
        }
    }
}

/// A terminal that passes every key on as it is; the old ways come back when it is dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> anyhow::Result<Self> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self(None));
        }
        let before = tcgetattr(std::io::stdin()).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).context("cannot set the terminal")?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}
