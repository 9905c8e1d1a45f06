//! The command line: arguments, and what each subcommand runs.

mod api;
mod commands;
mod firmware;
mod groups;
mod roles;
mod show;

use clap::{Args, Parser, Subcommand};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use uuid::Uuid;
use verona_contract::config::{OwnerCode, Version, Window};
use verona_contract::groups::Rule;
use verona_contract::ipnet::IpNet;
use verona_contract::log::Stream;

/// Cloud center of Verona Edge.
#[derive(Debug, Parser)]
#[command(name = "verona-center", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new center: keys, directories, the operator's identity.
    Init(Init),
    /// Run the signer: the process that alone holds the CA keys and the configuration key.
    Sign(Sign),
    /// Run the HTTP API.
    Serve(Serve),
    /// Print the OpenAPI document of the HTTP API.
    Openapi,
    /// Owners.
    Owner {
        #[command(flatten)]
        access: Access,
        #[command(subcommand)]
        command: OwnerCommand,
    },
    /// Edges.
    Edge {
        #[command(flatten)]
        access: Access,
        #[command(subcommand)]
        command: EdgeCommand,
    },
    /// Firmware: the repository that edges update from, rings, and what came of it.
    Firmware {
        #[command(flatten)]
        access: Access,
        #[command(subcommand)]
        command: FirmwareCommand,
    },
    /// Clients.
    Client {
        #[command(flatten)]
        access: Access,
        #[command(subcommand)]
        command: ClientCommand,
    },
    /// Groups of clients, and what each may reach.
    Group {
        #[command(flatten)]
        access: Access,
        #[command(subcommand)]
        command: GroupCommand,
    },
    /// Revocation lists.
    Crl {
        #[command(flatten)]
        access: Access,
        #[command(subcommand)]
        command: CrlCommand,
    },
    /// Log records.
    Log {
        #[command(flatten)]
        access: Access,
        #[command(subcommand)]
        command: LogCommand,
    },
    /// Admins of owners.
    Admin {
        #[command(flatten)]
        access: Access,
        #[command(subcommand)]
        command: AdminCommand,
    },
}

#[derive(Debug, Args)]
struct Init {
    /// Directory to make: `web`, `signer` and `operator.json` go in it.
    #[arg(long)]
    data: PathBuf,
    /// `https://host[:port]` under which edges and clients reach the center.
    #[arg(long)]
    url: String,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Sign {
    /// The signer's directory, `DIR/signer` of `init`.
    #[arg(long)]
    data: PathBuf,
    /// Unix socket to listen on.
    #[arg(long)]
    socket: PathBuf,
    /// Another user, by number, who may ask: the one that runs `serve`. May be repeated.
    #[arg(long)]
    allow_uid: Vec<u32>,
    /// Life of clients' certificates in seconds, 10 to 90 days.
    #[arg(long, default_value_t = 604_800, value_parser = clap::value_parser!(i64).range(10..=7_776_000))]
    client_life: i64,
    /// Life of edges' certificates in seconds, 10 to 1 year.
    #[arg(long, default_value_t = 2_592_000, value_parser = clap::value_parser!(i64).range(10..=31_536_000))]
    edge_life: i64,
    /// Life of the center's server certificate in seconds, 160 to 1 year. It begins 300 s in the past and is
    /// renewed at two thirds.
    #[arg(long, default_value_t = 31_536_000, value_parser = clap::value_parser!(i64).range(160..=31_536_000))]
    server_life: i64,
    /// Seconds from thisUpdate to nextUpdate of a list, 4 to 30 days.
    #[arg(long, default_value_t = 86_400, value_parser = clap::value_parser!(i64).range(4..=2_592_000))]
    crl_life: i64,
}

#[derive(Debug, Args)]
struct Serve {
    /// The serving process's directory, `DIR/web` of `init`.
    #[arg(long)]
    data: PathBuf,
    /// Address and TCP port; port 0 chooses one.
    #[arg(long)]
    listen: SocketAddr,
    /// The signer's Unix socket.
    #[arg(long)]
    signer: PathBuf,
    /// Address on which edges learn how their lines look from outside: STUN on UDP 3478 and 3479. Left out: they do
    /// not learn it.
    #[arg(long, value_name = "ADDRESS")]
    stun: Option<IpAddr>,
    /// Address and TCP port, 80 for edges, of an answer without content by plain HTTP, by which an edge tells a portal
    /// from the center. Left out: it cannot.
    #[arg(long, value_name = "ADDRESS:PORT")]
    nothing: Option<SocketAddr>,
}

/// How to reach the center, and how to print.
#[derive(Debug, Args)]
struct Access {
    /// Identity file of the operator or admin. An admin's password is read from `VERONA_PASSWORD`.
    #[arg(long, global = true, env = "VERONA_IDENTITY", default_value = "operator.json")]
    identity: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum OwnerCommand {
    /// Register an owner; prints its code.
    Add {
        /// For people.
        #[arg(long)]
        name: String,
        /// The clients' network, such as 10.8.0.0/24.
        #[arg(long)]
        network: IpNet,
    },
    /// All owners.
    List,
    /// Give an owner a new root of preshared keys. Edges take keys of the root before, too, until the overlap ends.
    RotatePsk {
        /// The owner's code.
        code: OwnerCode,
        /// A number with s, m, h or d; 0s ends every session now.
        #[arg(long, default_value = "7d", value_parser = seconds)]
        overlap: u64,
    },
}

/// A span of time such as `90s`, `12h` or `7d`, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let rule = "a number with s, m, h or d, such as 12h";
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(rule)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(rule.to_owned()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(|| rule.to_owned())
}

#[derive(Debug, Subcommand)]
enum EdgeCommand {
    /// Register an edge; prints its id and one-time token.
    Add(EdgeAdd),
    /// Register a box that has no owner yet; prints its one-time token. `edge add --claim` gives it one.
    Stock(EdgeStock),
    /// Boxes that have no owner yet.
    Unclaimed,
    /// Edges.
    List {
        /// Only those that something is wrong with, or that are silent for more than three minutes.
        #[arg(long)]
        wrong: bool,
    },
    /// One edge.
    Show {
        /// The edge.
        id: Uuid,
    },
    /// Show an edge's own network as JSON, or replace it: uplinks, local networks, routes, firewall, names.
    Network {
        /// The edge.
        id: Uuid,
        /// A file with the new one. What it leaves out is removed from the box.
        #[arg(long, value_name = "FILE")]
        set: Option<PathBuf>,
    },
    /// Show where an edge's records go besides the center as JSON, or replace it: a customer's collector, by syslog
    /// over TLS.
    Logs {
        /// The edge.
        id: Uuid,
        /// A file with the new one. An empty one, `{}`, is none.
        #[arg(long, value_name = "FILE")]
        set: Option<PathBuf>,
    },
    /// Let the edge's next configuration remove most of what it has; without leave it takes that for an accident.
    AllowShrink {
        /// The edge.
        id: Uuid,
    },
}

#[derive(Debug, Args)]
struct EdgeAdd {
    /// Code of its owner.
    #[arg(long)]
    owner: OwnerCode,
    /// For people.
    #[arg(long)]
    name: String,
    /// Serial number on the box's label.
    #[arg(long)]
    serial: String,
    /// SHA-256 of the device key's SubjectPublicKeyInfo, hex, in place of a token.
    #[arg(long)]
    fingerprint: Option<String>,
    /// host:port under which clients reach it. May be repeated.
    #[arg(long, required = true)]
    endpoint: Vec<String>,
    /// UDP port that it listens on.
    #[arg(long, default_value_t = 51820)]
    listen_port: u16,
    /// Network behind it. May be repeated.
    #[arg(long)]
    lan: Vec<IpNet>,
    /// Write the complete factory record to this new file (mode 0600) in place of printing the token.
    #[arg(long)]
    record: Option<PathBuf>,
    /// The box was registered by `edge stock` and has its factory record.
    #[arg(long, conflicts_with_all = ["record", "fingerprint"])]
    claim: bool,
}

#[derive(Debug, Args)]
struct EdgeStock {
    /// Serial number on the box's label.
    #[arg(long)]
    serial: String,
    /// SHA-256 of the device key's SubjectPublicKeyInfo, hex, in place of a token.
    #[arg(long)]
    fingerprint: Option<String>,
    /// Write the complete factory record to this new file (mode 0600) in place of printing the token.
    #[arg(long)]
    record: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum FirmwareCommand {
    /// Check a repository made by `verona-image repository` and serve it. Runs where `serve` does.
    Publish {
        /// The repository.
        #[arg(long)]
        from: PathBuf,
        /// The serving process's directory, `DIR/web` of `init`.
        #[arg(long)]
        data: PathBuf,
    },
    /// All rings.
    Rings,
    /// Make a ring, or give it another version: its edges begin to update.
    Ring {
        /// Such as `pilot`. An edge is in `stable` unless it was put elsewhere.
        name: String,
        /// The version that its edges should run.
        #[arg(long)]
        version: Version,
        /// Over how long its edges spread their downloads: a number with s, m, h or d, at most a day.
        #[arg(long, default_value = "5m", value_parser = spread)]
        spread: u64,
    },
    /// One edge's firmware; with an option it is changed first.
    Edge {
        /// The edge.
        id: Uuid,
        /// Put it into this ring.
        #[arg(long)]
        ring: Option<String>,
        /// When it may restart: "daily 17:00 120" or "sat,sun 17:00 120", UTC and minutes.
        #[arg(long, value_parser = firmware::parse_window)]
        window: Option<Window>,
        /// It may restart at any time.
        #[arg(long, conflicts_with = "window")]
        any_time: bool,
    },
}

fn spread(text: &str) -> Result<u64, String> {
    seconds(text).and_then(|length| if length <= 86_400 { Ok(length) } else { Err("at most 1d".to_owned()) })
}

#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// Register a client; prints its id and one-time enrolment code.
    Add {
        /// Code of its owner; an admin leaves it out.
        #[arg(long)]
        owner: Option<OwnerCode>,
        /// For people.
        #[arg(long)]
        name: String,
        /// Push its certificate to the edges: for stock WireGuard.
        #[arg(long)]
        push: bool,
    },
    /// Clients.
    List {
        /// Only this owner's.
        #[arg(long)]
        owner: Option<OwnerCode>,
    },
    /// One client, and which edge has put its last change in force.
    Show {
        /// The client.
        id: Uuid,
    },
    /// Put a client's certificates on hold.
    Disable {
        /// The client.
        id: Uuid,
    },
    /// Take the hold back.
    Enable {
        /// The client.
        id: Uuid,
    },
    /// Revoke a client for good.
    Revoke {
        /// The client.
        id: Uuid,
    },
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// Make a group; prints its id. A client in a group may do only what a rule of its groups allows.
    Add {
        /// Code of its owner; an admin leaves it out.
        #[arg(long)]
        owner: Option<OwnerCode>,
        /// For people.
        #[arg(long)]
        name: String,
        /// Such as "allow tcp 192.168.77.0/24 443,8000-8099" or "deny any 10.0.0.0/8". May be repeated: the first
        /// that matches counts.
        #[arg(long)]
        rule: Vec<Rule>,
    },
    /// Groups.
    List,
    /// One group.
    Show {
        /// The group.
        id: Uuid,
    },
    /// Replace a group's rules.
    Rules {
        /// The group.
        id: Uuid,
        /// As in `add`; none at all = nothing is allowed.
        #[arg(long)]
        rule: Vec<Rule>,
    },
    /// Put a client in.
    Join {
        /// The group.
        id: Uuid,
        /// The client.
        client: Uuid,
    },
    /// Take a client out.
    Leave {
        /// The group.
        id: Uuid,
        /// The client.
        client: Uuid,
    },
    /// Remove a group; its members stay clients.
    Remove {
        /// The group.
        id: Uuid,
    },
}

#[derive(Debug, Subcommand)]
enum CrlCommand {
    /// The newest list of each issuer.
    List,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Log records, in the order of arrival.
    List {
        /// Of this edge.
        #[arg(long)]
        edge: Option<Uuid>,
        /// Of this stream: flow, system, auth or audit.
        #[arg(long)]
        stream: Option<Stream>,
        /// Of this event.
        #[arg(long)]
        event: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// Check the hash chains; exit status 1 when one is broken.
    Verify,
    /// Records that were refused because they claim the place of others.
    Alarms,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Register an admin. The password comes from `VERONA_ADMIN_PASSWORD`, or as one line on standard input.
    Add {
        /// Code of the owner.
        #[arg(long)]
        owner: OwnerCode,
        /// Login name.
        #[arg(long)]
        id: String,
        /// Where the admin's identity file goes (new, mode 0600).
        #[arg(long)]
        identity_out: PathBuf,
    },
}

/// Runs a command line.
///
/// # Errors
///
/// What to print in one line.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Init(command) => roles::init(&command),
        Command::Sign(command) => roles::sign(&command),
        Command::Serve(command) => roles::serve(&command),
        Command::Openapi => roles::openapi(),
        Command::Owner { access, command } => commands::owner(&access, command),
        Command::Edge { access, command } => commands::edge(&access, command),
        Command::Firmware { access, command } => firmware::firmware(&access, command),
        Command::Client { access, command } => commands::client(&access, command),
        Command::Group { access, command } => groups::group(&access, command),
        Command::Crl { access, command: CrlCommand::List } => commands::crl_list(&access),
        Command::Log { access, command } => commands::log(&access, command),
        Command::Admin { access, command } => commands::admin(&access, command),
    }
}
