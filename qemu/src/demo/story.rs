//! The story of the demo, step by step. Every step asserts what it tells.

use super::account::{Account, Done, milliseconds};
use super::gateway::Gateway;
use anyhow::{Context, Result, bail, ensure};
use lab::firmware::Image;
use lab::parts::{Center, StockClient, VeronaClient, field};
use lab::{ClientPlan, Download, Plan, Process, Run, Topology, Wiretap, address, wait, web, workspace};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

/// The clients' network.
const NETWORK: &str = "10.9.0.0/24";
/// The page in the edge's LAN.
const LAN_SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(address::LAN_HOST), 80);
/// The bar: from the click to the last packet delivered.
const CUT_WITHIN: Duration = Duration::from_secs(1);
/// A download that is silent for so long is cut.
const SILENCE: Duration = Duration::from_millis(1500);
/// What another client's download may stand still while someone is cut.
const UNHARMED: Duration = Duration::from_millis(500);
/// For steps that wait on several programs on a loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that runs.
pub(crate) struct Scene {
    center: Center,
    edge: Gateway,
    alice: Registered,
    bob: StockClient,
    net: Topology,
    _web: Process,
    _mallory: StockClient,
}

/// A client as the center knows it.
struct Registered {
    id: String,
    client: VeronaClient,
}

/// Plays the whole story.
pub(crate) fn play(run: &Run, image: Option<&Image>, account: &mut Account) -> Result<Scene> {
    let net = account.step(|| networks(run, image))?;
    let tap = Wiretap::start(&net.internet)?;
    let (center, owner) = account.step(|| start_center(&net))?;
    let (mut edge, edge_id) = account.step(|| enrol_edge(run, &net, image, &center, &owner))?;
    let web = account.step(|| start_web(&net))?;
    let (mut alice, bob) = account.step(|| enrol_clients(&net, &center, &owner, &edge_id))?;
    account.step(|| connect_alice(&mut alice.client, &tap))?;
    let bob_tunnel = account.step(|| connect_bob(&bob.client, &tap))?;
    let mallory = account.step(|| refuse_mallory(&net, &center, &edge))?;
    let bob_download = Download::start(bob_tunnel.place(), LAN_SERVER).context("bob's download")?;
    account.step(|| disable_alice(&center, &alice, &bob_download))?;
    account.step(|| enable_alice(&center, &alice, &bob_download))?;
    account.step(|| read_logs(&center, &edge_id, &alice))?;
    edge.must_run()?;
    Ok(Scene { center, edge, alice, bob: bob_tunnel, net, _web: web, _mallory: mallory })
}

fn networks(run: &Run, image: Option<&Image>) -> Result<Done<Topology>> {
    let client = |name, nat| ClientPlan { name, nat };
    let plan = Plan { clients: vec![client("alice", true), client("bob", false), client("mallory", false)] };
    let net = match image {
        None => Topology::build(run, &plan)?,
        Some(_) => Topology::build_for_machine(run, &plan)?,
    };
    Ok(Done {
        what: "networks: internet, center, edge, LAN, 3 clients".into(),
        note: format!("run {}, alice behind a NAT", run.id()),
        figures: json!({ "run": run.id() }),
        value: net,
    })
}

fn start_center(net: &Topology) -> Result<Done<(Center, String)>> {
    let center = Center::start(&net.center)?;
    let owner = center.add_owner("Acme", NETWORK)?;
    Ok(Done {
        what: "center and signer up, owner registered".into(),
        note: format!("two processes, clients' network {NETWORK}"),
        figures: json!({ "network": NETWORK }),
        value: (center, owner),
    })
}

fn enrol_edge(
    run: &Run,
    net: &Topology,
    image: Option<&Image>,
    center: &Center,
    owner: &str,
) -> Result<Done<(Gateway, String)>> {
    let record = run.dir().join("factory.json");
    let id = center.add_edge(owner, &record)?;
    let mut edge = Gateway::start(net, image, &record, &id)?;
    let seq = edge.confirmed(center, PATIENCE)?;
    let what = match image {
        None => format!("edge enrolled, config {seq} confirmed"),
        Some(_) => format!("edge booted from its image, enrolled, config {seq}"),
    };
    Ok(Done {
        what,
        note: edge.started()?,
        figures: json!({ "config_seq": seq, "acks": 1, "edges": 1, "booted": image.is_some() }),
        value: (edge, id),
    })
}

fn start_web(net: &Topology) -> Result<Done<Process>> {
    let web = web::start(&net.lan, LAN_SERVER)?;
    let alice = net.client("alice").context("alice's place")?;
    ensure!(web::fetch(&alice.host, LAN_SERVER).is_err(), "alice reaches the LAN without a tunnel");
    Ok(Done {
        what: "web server in the LAN".into(),
        note: format!("http://{LAN_SERVER}/, out of reach without a tunnel"),
        figures: json!({ "address": LAN_SERVER.to_string() }),
        value: web,
    })
}

fn enrol_clients(
    net: &Topology,
    center: &Center,
    owner: &str,
    edge: &str,
) -> Result<Done<(Registered, Registered)>> {
    let enrol = |name, push| -> Result<Registered> {
        let place = &net.client(name).with_context(|| format!("{name}'s place"))?.host;
        let (id, code) = center.add_client(owner, name, push)?;
        let client = VeronaClient::new(place, name);
        client.enroll(&code)?;
        ensure!(client.enroll(&code).is_err(), "{name}'s enrolment code serves twice");
        Ok(Registered { id, client })
    };
    let alice = enrol("alice", false)?;
    let before = center.confirmed(edge, 1, PATIENCE)?;
    let bob = enrol("bob", true)?;
    let seq = center.confirmed(edge, before + 1, PATIENCE)?;
    Ok(Done {
        what: "alice and bob enrolled by one-time code".into(),
        note: format!("bob's certificate pushed with config {seq}"),
        figures: json!({ "config_seq": seq }),
        value: (alice, bob),
    })
}

/// From the first initiation that was answered to its response, as the line saw it.
fn handshake(tap: &Wiretap, client: std::net::IpAddr) -> Result<Duration> {
    let seen = tap.datagrams();
    let response = seen.iter().find(|d| d.kind() == 2 && d.to.ip() == client).context("no response seen")?;
    let initiation =
        seen.iter().rev().find(|d| d.kind() == 1 && d.from.ip() == client && d.at <= response.at);
    Ok(response.at.duration_since(initiation.context("no initiation seen")?.at)?)
}

/// Milliseconds, for what takes less than one.
fn fine_ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

fn connect_alice(alice: &mut VeronaClient, tap: &Wiretap) -> Result<Done<()>> {
    alice.up()?;
    web::fetch_soon(alice.place(), LAN_SERVER, PATIENCE).context("alice")?;
    let outside = "192.0.2.2".parse()?; // of her NAT router
    let took = handshake(tap, outside)?;
    let seen = tap.datagrams();
    let introduction = seen.iter().find(|d| d.kind() == 0x10 && d.from.ip() == outside);
    let size = introduction.context("no introduction seen")?.payload.len();
    ensure!(size == 640 || size == 1232, "an introduction of {size} octets");
    Ok(Done {
        what: "alice (Verona Client) through the tunnel".into(),
        note: format!("introduction {size} B, handshake {:.1} ms, GET / 200", fine_ms(took)),
        figures: json!({ "introduction_octets": size, "handshake_ms": fine_ms(took), "status": 200 }),
        value: (),
    })
}

fn connect_bob(bob: &VeronaClient, tap: &Wiretap) -> Result<Done<StockClient>> {
    let stock = StockClient::wireguard_go(bob.place(), "bob", &bob.export()?)?;
    web::fetch_soon(bob.place(), LAN_SERVER, PATIENCE).context("bob")?;
    let outside = "192.0.2.6".parse()?;
    let took = handshake(tap, outside)?;
    let introduced = tap.datagrams().iter().any(|d| d.kind() == 0x10 && d.from.ip() == outside);
    ensure!(!introduced, "a stock client sent an introduction");
    Ok(Done {
        what: "bob (stock WireGuard) through the tunnel".into(),
        note: format!("certificate pushed by the center, handshake {:.1} ms, GET / 200", fine_ms(took)),
        figures: json!({ "handshake_ms": fine_ms(took), "status": 200 }),
        value: stock,
    })
}

fn refuse_mallory(net: &Topology, center: &Center, edge: &Gateway) -> Result<Done<StockClient>> {
    let place = &net.client("mallory").context("mallory's place")?.host;
    let edge_key = edge.public_key(center)?;
    let own_key = place.output("wg", &["genkey"])?;
    let config = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.9.0.66/32\n[Peer]\nPublicKey = {}\n\
         Endpoint = {}:{}\nAllowedIPs = 192.168.77.0/24\n",
        own_key.trim(),
        edge_key.trim(),
        address::EDGE,
        lab::parts::LISTEN_PORT,
    );
    let mallory = StockClient::wireguard_go(place, "mallory", &config)?;
    let key = mallory.show("public-key")?;
    let reason = wait::for_value("mallory's refusal at the edge", PATIENCE, || {
        if web::fetch(place, LAN_SERVER).is_ok() {
            return Err(lab::Error::Environment("mallory reached the LAN".into()));
        }
        edge.refusal_of(center, key.trim())
    })?;
    let handshakes = mallory.show("latest-handshakes")?;
    ensure!(handshakes.trim().ends_with("\t0"), "mallory has a handshake: {handshakes}");
    let refused = edge.refused("unknown_key")?;
    Ok(Done {
        what: "mallory refused".into(),
        note: refused.map_or(reason.clone(), |count| format!("{reason} (edge counter unknown_key {count})")),
        figures: json!({ "unknown_key": refused, "reason": reason }),
        value: mallory,
    })
}

fn disable_alice(center: &Center, alice: &Registered, bob: &Download) -> Result<Done<()>> {
    let download = Download::start(alice.client.place(), LAN_SERVER).context("alice's download")?;
    wait::until("both downloads to run", PATIENCE, || {
        download.arrivals().octets > 100_000 && bob.arrivals().octets > 100_000
    })?;
    let (click, clicked_at) = (Instant::now(), SystemTime::now());
    center.admin(&["client", "disable", &alice.id])?;
    wait::until("alice's download to stop", PATIENCE, || {
        download.arrivals().last.is_some_and(|last| last.elapsed() > SILENCE)
    })?;
    let last = download.arrivals().last.context("alice's download never began")?;
    let cut = last.saturating_duration_since(click);
    ensure!(cut <= CUT_WITHIN, "alice's last packet came {} ms after the click", milliseconds(cut));
    let proof = center.proof(&alice.id, PATIENCE)?;
    ensure!(field(&proof, "cut") == Some(&Value::Bool(true)), "the edge cut no session: {proof}");
    let ack = ack_after(clicked_at, &proof)?;
    ensure!(web::fetch(alice.client.place(), LAN_SERVER).is_err(), "alice reaches the LAN though disabled");
    let gap = unharmed(bob)?;
    Ok(Done {
        what: "alice disabled while downloading".into(),
        note: format!(
            "last packet +{} ms, edge ack +{ack} ms, bob unharmed (longest gap {} ms)",
            milliseconds(cut),
            milliseconds(gap)
        ),
        figures: json!({
            "last_packet_ms": milliseconds(cut),
            "edge_ack_ms": ack,
            "other_longest_gap_ms": milliseconds(gap),
        }),
        value: (),
    })
}

/// Milliseconds from the click to the ack at the center. The center counts from when it took the order, which is
/// the time that the command needed to reach it later; everything here runs by one clock.
fn ack_after(clicked_at: SystemTime, proof: &Value) -> Result<u64> {
    let changed_at = field(proof, "changed_at").and_then(Value::as_str).context("no time of the change")?;
    let changed_at: jiff::Timestamp = changed_at.parse().context("the time of the change")?;
    let clicked_at = jiff::Timestamp::try_from(clicked_at).context("the time of the click")?;
    let reached = u64::try_from(changed_at.duration_since(clicked_at).as_millis()).unwrap_or(0);
    let waited = field(proof, "confirmed_after_ms").and_then(Value::as_u64).context("no time in the ack")?;
    Ok(reached + waited)
}

/// The longest gap of a download that goes on.
fn unharmed(download: &Download) -> Result<Duration> {
    let now = download.arrivals();
    wait::until("the other download to go on", Duration::from_secs(2), || {
        download.arrivals().count > now.count
    })?;
    let gap = download.arrivals().longest_gap;
    ensure!(gap <= UNHARMED, "the other download stood still for {} ms", milliseconds(gap));
    Ok(gap)
}

fn enable_alice(center: &Center, alice: &Registered, bob: &Download) -> Result<Done<()>> {
    let (click, clicked_at) = (Instant::now(), SystemTime::now());
    center.admin(&["client", "enable", &alice.id])?;
    web::fetch_soon(alice.client.place(), LAN_SERVER, PATIENCE).context("alice")?;
    let back = click.elapsed();
    let proof = center.proof(&alice.id, PATIENCE)?;
    let ack = ack_after(clicked_at, &proof)?;
    let gap = unharmed(bob)?;
    Ok(Done {
        what: "alice enabled again".into(),
        note: format!("GET / 200 +{} ms, edge ack +{ack} ms", milliseconds(back)),
        figures: json!({
            "back_ms": milliseconds(back),
            "edge_ack_ms": ack,
            "other_longest_gap_ms": milliseconds(gap),
        }),
        value: (),
    })
}

/// What the story must have left in the logs at the center.
const TOLD: [&str; 5] =
    ["config.confirmed", "client.admitted", "client.refused", "client.cut", "crl.applied"];

fn read_logs(center: &Center, edge: &str, alice: &Registered) -> Result<Done<()>> {
    for event in TOLD {
        wait::for_value(&format!("a record {event} at the center"), PATIENCE, || {
            let page = center.admin(&["log", "list", "--edge", edge, "--event", event])?;
            let any = field(&page, "records").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
            Ok(any.then_some(()))
        })?;
    }
    let cut = center.admin(&["log", "list", "--edge", edge, "--event", "client.cut"])?;
    let subject = format!("urn:verona:client:{}", alice.id);
    ensure!(cut.to_string().contains(&subject), "the record of the cut does not name {subject}: {cut}");
    let chains = center.admin(&["log", "verify"])?;
    let chains = field(&chains, "chains").unwrap_or(&chains).as_array().context("no list of chains")?.clone();
    let mut records = 0;
    for chain in &chains {
        if chain["unbroken"] != true {
            bail!("a chain is broken: {chain}");
        }
        records += chain["records"].as_u64().context("a chain without a count")?;
    }
    ensure!(records >= 5, "{records} records only");
    Ok(Done {
        what: "logs of all that at the center".into(),
        note: format!("{records} records in {} streams, every chain unbroken", chains.len()),
        figures: json!({ "records": records, "chains": chains.len(), "unbroken": true }),
        value: (),
    })
}

impl Scene {
    /// For a person who kept the scene.
    pub(crate) fn commands_to_try(&self) -> String {
        let bin = workspace::bin_dir().unwrap_or_default();
        let bin = bin.display();
        let in_center = format!("ip netns exec {}", self.center.place().name());
        let identity = self.center.identity();
        let admin =
            |what: &str| format!("{in_center} {bin}/verona-center {what} --identity {}", identity.display());
        let mut lines = vec![
            format!("ip netns exec {} curl -sS http://{LAN_SERVER}/", self.alice.client.place().name()),
            format!("ip netns exec {} wg show {}", self.bob.place().name(), self.bob.interface()),
            format!("ip netns exec {} ping -c 3 {}", self.net.lan.name(), address::EDGE_LAN),
        ];
        lines.extend(self.edge.commands_to_try());
        lines.extend([
            admin("client list"),
            admin(&format!("client disable {}", self.alice.id)),
            admin("log list --limit 20"),
            format!("ls {}    # logs of every process", self.net.lan.run().dir().display()),
            "cargo lab clean    # end it".to_owned(),
        ]);
        format!("\nstill running; try\n  {}", lines.join("\n  "))
    }
}
