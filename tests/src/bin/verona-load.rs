//! The load of `cargo lab bench`: a certified edge's policy, its clients by the thousand, its attackers.
//!
//! Each command is a process in a namespace of the benchmark and prints JSON lines. What the figures mean is
//! for the benchmark to say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the benchmark reports a load that fails as it is")]

use boringtun::noise::TunnResult;
use clap::{Parser, Subcommand};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use verona_contract::control::Command as Ask;
use verona_tests::flood::{Flood, Kind, Plan, Stranger};
use verona_tests::gate::Control;
use verona_tests::owner::Owner;
use verona_tests::session;
use verona_tests::swarm::Swarm;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Gives the edge behind a control socket its policy, its list and a clock that it believes.
    Admit {
        control: PathBuf,
        /// Introduced clients that it may hold.
        #[arg(long, default_value_t = 60_000)]
        max_clients: u32,
    },
    /// Prints the configuration of a stock client whose certificate is pushed.
    Stock { number: usize, endpoint: SocketAddr },
    /// Plays clients that introduce themselves, until it is killed.
    Swarm {
        edge: SocketAddr,
        #[arg(long)]
        clients: u32,
        /// The first one's number.
        #[arg(long, default_value_t = 0)]
        first: u32,
        /// How many begin in a second.
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// Ends, successful or not, after so many seconds.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Floods the edge with forgeries until it is killed.
    Flood {
        edge: SocketAddrV4,
        kind: Kind,
        /// Datagrams a second.
        #[arg(long, default_value_t = 50_000)]
        rate: u32,
        /// Source addresses.
        #[arg(long, default_value_t = 0)]
        sources: u16,
    },
    /// Hands an interface large UDP frames for each address in turn, paced by what was taken, until it is killed.
    Blast { interface: String, to: Vec<Ipv4Addr> },
    /// Measures sealing and opening of a packet of 1420 octets by the protocol engine.
    Cipher,
}

fn main() {
    match Arguments::parse().command {
        Command::Admit { control, max_clients } => admit(&control, max_clients),
        Command::Stock { number, endpoint } => print!("{}", Owner::default().stock_config(number, endpoint)),
        Command::Swarm { edge, clients, first, rate, seconds } => {
            swarm(edge, first..first + clients, rate, seconds.map(Duration::from_secs));
        }
        Command::Flood { edge, kind, rate, sources } => {
            flood(kind, Plan { to: edge, per_second: rate, sources });
        }
        Command::Blast { interface, to } => blast(&interface, &to),
        Command::Cipher => cipher(),
    }
}

fn admit(control: &std::path::Path, max_clients: u32) {
    let (owner, mut control) = (Owner::default(), Control::connect(control));
    control.ask(Ask::SetClock { trusted: true }).unwrap();
    let loaded = control.ask(Ask::LoadPolicy(Box::new(owner.policy(max_clients)))).unwrap();
    control.load_crl(&owner.empty_list()).unwrap();
    println!("{}", serde_json::to_string(&loaded).unwrap());
}

fn swarm(edge: SocketAddr, numbers: std::ops::Range<u32>, rate: u32, limit: Option<Duration>) {
    let (owner, mut swarm) = (Owner::default(), Swarm::here().unwrap());
    let (edge, clients) = (owner.edge(edge), numbers.len());
    let identities: Vec<_> = numbers.map(|number| owner.client(number, 0)).collect();
    let begin = Instant::now();
    for (number, identity) in identities.into_iter().enumerate() {
        let at = begin + Duration::from_secs_f64(number as f64 / f64::from(rate));
        swarm.add(identity, &edge, at);
    }
    let limit = limit.unwrap_or(Duration::from_secs(600));
    let all = swarm.run(limit, |swarm| swarm.live() == clients).unwrap();
    let mut times: Vec<f64> = swarm.times().iter().map(Duration::as_secs_f64).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).or(times.last()).copied();
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({"live": swarm.live(), "all": all, "seconds": seconds, "p50_s": at(0.5), "max_s": times.last()})
    );
    if limit == Duration::from_secs(600) {
        swarm.run(Duration::MAX / 4, |_| false).unwrap();
    }
}

fn flood(kind: Kind, plan: Plan) {
    let owner = Owner::default();
    let edge = owner.edge(plan.to.into());
    let stranger = Stranger { edge, owner: owner.authority(), victim: owner.victim() };
    let pool = kind.datagrams(&stranger, 1024);
    let flood = Flood::from_socket(UdpSocket::bind("0.0.0.0:0").unwrap(), plan, pool);
    loop {
        let before = flood.sent();
        std::thread::sleep(Duration::from_secs(1));
        let after = flood.sent();
        let (datagrams, time) = (after.datagrams - before.datagrams, after.time - before.time);
        println!("{}", json!({"per_second": datagrams as f64 / time.as_secs_f64()}));
    }
}

/// Payload of a segment, and what a frame has of them: the kernel's most.
const SEGMENT: u16 = 1360;
const FRAME: usize = 44 * SEGMENT as usize;
/// Octets handed over that the other side has not taken yet, at most.
const WINDOW: u64 = 16 << 20;

/// The pages of a file go from hand to hand, uncopied: what this process uses of the machine, the daemon lacks.
fn blast(interface: &str, to: &[Ipv4Addr]) {
    let mut file = File::from(memfd_create("frame", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all(&vec![0x5a; FRAME]).unwrap();
    let sockets: Vec<UdpSocket> = to.iter().map(|target| blaster(*target)).collect();
    let (mut offered, begin) = (0_u64, taken(interface));
    loop {
        while offered.saturating_sub(taken(interface) - begin) > WINDOW {
            std::thread::sleep(Duration::from_micros(200));
        }
        for socket in sockets.iter().cycle().take(16) {
            let sent = sendfile(socket, &file, Some(&mut 0), FRAME).unwrap();
            assert_eq!(sent, FRAME);
            offered += FRAME as u64;
        }
    }
}

/// A socket of which each datagram is many for `target`.
fn blaster(target: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    setsockopt(&socket, sockopt::SndBufForce, &(16 << 20)).unwrap();
    setsockopt(&socket, sockopt::UdpGsoSegment, &i32::from(SEGMENT)).unwrap();
    socket.connect((target, 9)).unwrap();
    socket
}

/// Octets that whoever reads behind `interface` has taken (proc_pid_net(5), dev).
fn taken(interface: &str) -> u64 {
    let table = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    let counters = table.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    counters.unwrap().split_whitespace().nth(8).unwrap().parse().unwrap()
}

/// Packets that are sealed, then opened.
const ROUND: usize = 128;

fn cipher() {
    let (mut one, mut other) = session::pair();
    let mut packet = vec![0; 1420];
    packet[..4].copy_from_slice(&[0x45, 0, 0x05, 0x8c]);
    let (mut sealed, mut opened) = (vec![0; 2048 * ROUND], vec![0; 2048]);
    let (mut seal, mut open) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let begin = Instant::now();
        let mut lengths = [0; ROUND];
        for (slot, len) in sealed.chunks_exact_mut(2048).zip(&mut lengths) {
            match one.encapsulate(&packet, slot) {
                TunnResult::WriteToNetwork(datagram) => *len = datagram.len(),
                _ => panic!("not sealed"),
            }
        }
        let middle = Instant::now();
        for (slot, len) in sealed.chunks_exact(2048).zip(lengths) {
            let result = other.decapsulate(None, &slot[..len], &mut opened);
            assert!(matches!(result, TunnResult::WriteToTunnelV4(..)));
        }
        seal.push((middle - begin).as_secs_f64());
        open.push(middle.elapsed().as_secs_f64());
    }
    // The median: most rounds are shorter than a time slice, so that others on the machine do not count.
    let each = |mut rounds: Vec<f64>| {
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2] * 1e9 / ROUND as f64
    };
    println!("{}", json!({"octets": packet.len(), "seal_ns": each(seal), "open_ns": each(open)}));
}
