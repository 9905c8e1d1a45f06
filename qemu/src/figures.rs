//! `cargo lab figures`: what the firmware costs. How large it is, how long from power to the first packet of a client
//! through its tunnel, and how much memory it takes with ten clients.

use anyhow::{Context, ensure};
use lab::firmware::{self, Image};
use lab::parts::{Appliance, Center, Start, VeronaClient};
use lab::vm::Accelerator;
use lab::{ClientPlan, Flow, Plan, Run, Topology, address, machine, wait, web, workspace};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The clients, for the memory; and each tries in its own rhythm, so that one of them meets the box as it comes up.
const CLIENTS: [&str; 10] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];
/// A client tries once in five seconds: together they try once in half a second.
const STAGGER: Duration = Duration::from_millis(500);
/// How often a client sends a datagram.
const PACE: Duration = Duration::from_millis(100);
/// A boot by translation takes 20 s of an idle machine, and ten times that of a busy one.
const BOOT: Duration = Duration::from_secs(480);
const PATIENCE: Duration = Duration::from_secs(120);

/// What `cargo lab figures` takes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A folder with a built image, in place of the lab's own, whose programs are of the dev profile.
    #[arg(long, value_name = "DIR")]
    image: Option<PathBuf>,
    /// Boots of each kind.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    boots: u8,
    /// Print the figures as one JSON document.
    #[arg(long)]
    json: bool,
    /// Refuse, with a list, if Debian packages are missing.
    #[arg(long)]
    no_install: bool,
}

/// Seconds from power to the first packet, one for each boot.
type Boots = Vec<f64>;

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    machine::require_privileges()?;
    machine::ensure_packages(!arguments.no_install)?;
    workspace::build()?;
    let image = match &arguments.image {
        Some(folder) => Image::at(folder)?,
        None => firmware::build()?,
    };
    let path = image.file("img.gz");
    let compressed = std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
    let run = Run::start()?;
    let mut bench = Bench::start(&run, &image)?;
    let memory = bench.memory()?;
    let direct = bench.boots(Start::Direct, arguments.boots)?;
    let uefi = bench.boots(Start::Uefi, arguments.boots)?;
    let accelerator = Accelerator::of_host()?.name();
    if arguments.json {
        let document = json!({
            "accelerator": accelerator, "compressed_octets": compressed, "memory_in_use_mib": memory,
            "first_boot_s": bench.first_boot_s, "direct_s": direct, "uefi_s": uefi,
        });
        println!("{document:#}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("compressed image                       {:.1} MB", compressed as f64 / 1e6);
    println!("memory in use with {} clients          {memory:.0} MiB", CLIENTS.len());
    println!("power to enrolled, first boot ({accelerator})    {:.1} s", bench.first_boot_s);
    for (title, boots) in [("kernel loaded by QEMU", &direct), ("UEFI, boot chooser", &uefi)] {
        println!("power to first packet, {title:<22} {}", seconds(boots));
    }
    Ok(ExitCode::SUCCESS)
}

fn seconds(boots: &[f64]) -> String {
    let each: Vec<String> = boots.iter().map(|boot| format!("{boot:.1}")).collect();
    format!("{} s", each.join(" "))
}

/// An enrolled box with its clients.
struct Bench {
    net: Topology,
    appliance: Appliance,
    clients: Vec<VeronaClient>,
    first_boot_s: f64,
    _center: Center,
}

impl Bench {
    fn start(run: &Run, image: &Image) -> anyhow::Result<Self> {
        let clients = CLIENTS.map(|name| ClientPlan { name, nat: false }).to_vec();
        let net = Topology::build_for_machine(run, &Plan { clients })?;
        let center = Center::start(&net.center)?;
        let owner = center.add_owner("Acme", "10.9.0.0/24")?;
        let record = run.dir().join("factory.json");
        let id = center.add_edge(&owner, &record)?;
        let power = Instant::now();
        let appliance = Appliance::start(&net.edge, image, Some(&record), Start::Direct)?;
        center.confirmed(&id, 1, BOOT).with_context(|| appliance.machine.console.text())?;
        let first_boot_s = power.elapsed().as_secs_f64();
        let mut clients = Vec::new();
        for name in CLIENTS {
            let (_, code) = center.add_client(&owner, name, false)?;
            let client = VeronaClient::new(&net.client(name).context("a client's place")?.host, name);
            client.enroll(&code)?;
            clients.push(client);
        }
        Ok(Self { net, appliance, clients, first_boot_s, _center: center })
    }

    /// MiB that the box uses, as `free` counts it, while each client has fetched a page.
    fn memory(&mut self) -> anyhow::Result<f64> {
        let page: SocketAddr = (address::LAN_HOST, 80).into();
        let _web = web::start(&self.net.lan, page)?;
        for client in &mut self.clients {
            client.up()?;
            web::fetch_soon(client.place(), page, PATIENCE)?;
        }
        let memory = self.appliance.machine.memory(PATIENCE)?;
        ensure!(memory.available < memory.total, "the box tells nonsense of its memory: {memory:?}");
        Ok((memory.total - memory.available) as f64 / f64::from(1 << 20))
    }

    fn boots(&mut self, start: Start, count: u8) -> anyhow::Result<Boots> {
        (0..count).map(|_| self.boot(start)).collect()
    }

    /// Seconds from power to the first datagram of any client in the LAN.
    fn boot(&mut self, start: Start) -> anyhow::Result<f64> {
        for client in &mut self.clients {
            client.process = None;
        }
        let power = Instant::now();
        self.appliance.power_cycle_by(start)?;
        let mut flows = Vec::new();
        let first = |flows: &[Flow]| flows.iter().filter_map(|flow| flow.balance().arrivals.first).min();
        for (port, client) in (4000..).zip(&mut self.clients) {
            client.up()?;
            flows.push(Flow::start(client.place(), &self.net.lan, (address::LAN_HOST, port).into(), PACE)?);
            std::thread::sleep(STAGGER);
        }
        let arrived = wait::for_value("a datagram through the tunnel", BOOT, || Ok(first(&flows)))
            .with_context(|| self.appliance.machine.console.text())?;
        Ok(arrived.duration_since(power).as_secs_f64())
    }
}
