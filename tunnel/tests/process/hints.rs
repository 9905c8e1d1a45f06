//! A killed and restarted `edge-tunnel` with a policy, and a stock client that knows nothing of it.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use lab::{Flow, Process, wait};
use verona_contract::base64::{self, Octets};
use verona_contract::config::{CrlPolicy, PskRoot};
use verona_contract::control::{
    Command, Line, OwnerPolicy, PeerEndpoint, Policy, Reply, Request, Response, VERSION,
};
use verona_contract::key::{PublicKey, Secret};
use verona_contract::psk;
use verona_tests::pki::{Authority, LeafPlan};

use crate::pair::{Implementation, Outer, PATIENCE, Pair, secret_file};

/// Fills a tunnel as the agent does: policy, clock, list.
struct Filler {
    authority: Authority,
    policy: Policy,
    list_number: u64,
}

impl Filler {
    fn new(edge: Secret, client: &PublicKey) -> Self {
        let authority = Authority::new(7, "Acme clients");
        let address = "10.9.0.1".parse().unwrap();
        let leaf = authority.leaf(&LeafPlan::new(*client.as_bytes(), 1, address, SystemTime::now()));
        let owner = OwnerPolicy {
            owner: "acme".parse().unwrap(),
            anchors: vec![Octets(authority.certificate().to_vec())],
            intermediates: Vec::new(),
            crl: CrlPolicy::default(),
            psk_root: PskRoot { id: 1, secret: Secret::new([0x77; 32]) },
            psk_previous: None,
            clients: vec![Octets(leaf)],
            identities: Vec::new(),
            sites: Vec::new(),
            max_clients: 10,
        };
        let endpoints = Vec::new();
        let policy = Policy {
            seq: 1,
            private_key: edge,
            certificate: None,
            listen_port: 51_820,
            owners: vec![owner],
            endpoints,
        };
        Self { authority, policy, list_number: 0 }
    }

    fn fill(&mut self, pair: &Pair) -> BufReader<UnixStream> {
        let stream = wait::for_value("the control socket", PATIENCE, || {
            Ok(UnixStream::connect(pair.right.control_socket()).ok())
        });
        let mut connection = BufReader::new(stream.unwrap());
        self.list_number += 1;
        let list = self.authority.crl(self.list_number, &[], SystemTime::now());
        for command in [
            Command::Hello { version: VERSION },
            Command::SetClock { trusted: true },
            Command::LoadPolicy(Box::new(self.policy.clone())),
            Command::LoadCrl { der: Octets(list) },
        ] {
            ask(&mut connection, command);
        }
        connection
    }
}

fn ask(connection: &mut BufReader<UnixStream>, command: Command) -> Reply {
    let mut line = serde_json::to_string(&Request { id: 1, command }).unwrap();
    line.push('\n');
    connection.get_mut().write_all(line.as_bytes()).unwrap();
    let mut line = String::new();
    connection.read_line(&mut line).unwrap();
    match serde_json::from_str(&line).unwrap() {
        Line::Response(Response { result: Ok(reply), .. }) => reply,
        _ => panic!("{line}"),
    }
}

/// Kills the tunnel, starts another one and fills it; how long the flow from the client stood still.
fn restart(pair: &Pair, filler: &mut Filler, tunnel: &mut Process, flow: &Flow) -> Duration {
    tunnel.crash().unwrap();
    let killed = Instant::now();
    *tunnel = pair.right.start_foreground(&pair.run);
    // As the agent does it: the interface is up before or after, in no certain order.
    filler.fill(pair);
    pair.right.bring_up();
    let before = flow.balance().arrivals.count;
    wait::until("traffic", Duration::from_secs(30), || flow.balance().arrivals.count > before).unwrap();
    killed.elapsed()
}

#[test]
fn a_stock_client_follows_a_killed_edge_within_3_s() {
    let pair = Pair::new();
    let (edge, client) = (Secret::new([0x31; 32]), Secret::new([0x32; 32]));
    let (edge_key, client_key) = (edge.x25519_public().unwrap(), client.x25519_public().unwrap());
    let mut filler = Filler::new(edge, &client_key);
    let mut tunnel = pair.right.start_foreground(&pair.run);
    filler.fill(&pair);
    pair.right.bring_up();

    pair.left.start(Implementation::WireguardGo);
    let shared = psk::derive(&filler.policy.owners[0].psk_root.secret, &client_key, &edge_key);
    let file = |name: &str, secret: &Secret| secret_file(&pair.run, name, &base64::encode(secret.expose()));
    let (key_file, psk_file) = (file("client.key", &client), file("client.psk", &shared));
    let (edge_key, endpoint) = (edge_key.to_string(), pair.right.endpoint(Outer::V4));
    pair.left.set(&[
        "listen-port",
        "51820",
        "private-key",
        &key_file.to_string_lossy(),
        "peer",
        &edge_key,
        "preshared-key",
        &psk_file.to_string_lossy(),
        "allowed-ips",
        "0.0.0.0/0",
        "endpoint",
        &endpoint,
    ]);
    pair.left.bring_up();
    pair.left.expect_ping(&pair.right.inner_v4());
    let to: SocketAddr = format!("{}:7000", pair.right.inner_v4()).parse().unwrap();
    let flow = Flow::start(&pair.left.place, &pair.right.place, to, Duration::from_millis(5)).unwrap();
    wait::until("the flow", PATIENCE, || flow.balance().arrivals.count > 100).unwrap();

    filler.policy.endpoints =
        vec![PeerEndpoint { key: client_key, endpoint: pair.left.endpoint(Outer::V4).parse().unwrap() }];
    let gap = restart(&pair, &mut filler, &mut tunnel, &flow);
    println!("with the hint: {gap:?}");
    assert!(gap < Duration::from_secs(3), "{gap:?}");

    // Without it the client waits as long as WireGuard says: so it was the hint.
    filler.policy.endpoints.clear();
    let gap = restart(&pair, &mut filler, &mut tunnel, &flow);
    println!("without: {gap:?}");
    assert!(gap > Duration::from_secs(3), "{gap:?}");
}
