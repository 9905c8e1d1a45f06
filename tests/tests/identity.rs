//! Clients with certificates of the owner's own PKI: the key in a file, and in a PKCS#11 token (SoftHSM).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::{ClientPlan, Namespace, Plan, Process, Run, Topology, address, wait, workspace};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};
use uuid::Uuid;
use verona_contract::api::{ClientProfile, EdgeProfile};
use verona_contract::base64;
use verona_contract::config::IdentityClient;
use verona_contract::control::{Command as Ask, PeerInfo, Reply};
use verona_contract::key::{PublicKey, Secret};
use verona_contract::psk;
use verona_tests::gate::{self, Control, Gate, policy, psk_root};
use verona_tests::identity::IdentityKey;
use verona_tests::pki::{Authority, LeafPlan};

const SOON: Duration = Duration::from_secs(20);
const INSIDE: &str = "10.9.0.1";

/// An edge that lists two foreign identities, with the addresses 10.9.0.2 and 10.9.0.3.
struct Scene {
    net: Topology,
    _gate: Gate,
    control: Control,
    authority: Authority,
    edge: Secret,
    keys: [IdentityKey; 2],
}

impl Scene {
    fn new(run: &Run) -> Self {
        let client = |name| ClientPlan { name, nat: false };
        let net = Topology::build(run, &Plan { clients: vec![client("file"), client("token")] }).unwrap();
        let (authority, edge) = (Authority::new(0x31, "Corporate CA"), Secret::new([0x41; 32]));
        let keys = [IdentityKey::p256(0x61), IdentityKey::p256(0x62)];
        let gate = Gate::start(&net.edge, "gate");
        net.edge.address(&gate.interface, &[&format!("{INSIDE}/24")]).unwrap();
        net.edge.ip(&format!("link set {} up", gate.interface)).unwrap();
        let mut control = gate.control();
        control.ask(Ask::SetClock { trusted: true }).unwrap();
        let mut policy = policy(1, &edge, &authority, &[]);
        policy.owners[0].identities = [2_u8, 3].iter().zip(&keys).map(listing).collect();
        control.ask(Ask::LoadPolicy(Box::new(policy))).unwrap();
        control.load_crl(&authority.crl(10, &[], SystemTime::now())).unwrap();
        Self { net, _gate: gate, control, authority, edge, keys }
    }

    /// A certificate as a corporate CA makes it: no name and no address of ours.
    fn certificate(&self, key: usize) -> String {
        let now = SystemTime::now();
        let plan = LeafPlan::new([0; 32], 100 + key as u64, INSIDE.parse().unwrap(), now);
        let not_after = now + Duration::from_secs(30 * 86_400);
        let plan = LeafPlan { subject: String::new(), addresses: Vec::new(), not_after, ..plan };
        let der = self.keys[key].leaf(&self.authority, &plan);
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64::encode(der))
    }

    fn profile(&self, number: u8, client: &PublicKey) -> ClientProfile {
        let edge_key = self.edge.x25519_public().unwrap();
        ClientProfile {
            addresses: vec![format!("10.9.0.{number}/24").parse().unwrap()],
            edges: vec![EdgeProfile {
                edge: Uuid::from_u128(1),
                name: "gate".to_owned(),
                public_key: edge_key,
                preshared_key: psk::derive(&psk_root().secret, client, &edge_key),
                endpoints: vec![format!("{}:{}", address::EDGE, gate::PORT)],
                routes: Vec::new(),
            }],
            dns: Vec::new(),
            mtu: 1420,
            keepalive_s: 25,
            pushed: false,
        }
    }

    fn peers(&mut self) -> Vec<PeerInfo> {
        match self.control.ask(Ask::Peers).unwrap() {
            Reply::Peers(peers) => peers,
            other => panic!("{other:?}"),
        }
    }
}

fn listing((number, key): (&u8, &IdentityKey)) -> IdentityClient {
    IdentityClient {
        key: key.fingerprint(),
        subject: format!("urn:verona:client:00000000-0000-4000-8000-00000000000{number}"),
        addresses: vec![format!("10.9.0.{number}").parse().unwrap()],
    }
}

/// A client's machine.
struct Machine {
    place: Namespace,
    folder: PathBuf,
    interface: String,
}

impl Machine {
    fn new(place: &Namespace, name: &str) -> Self {
        let folder = place.run().dir().join(format!("machine-{name}"));
        std::fs::create_dir(&folder).unwrap();
        Self { place: place.clone(), folder, interface: place.run().interface(name) }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = self.place.command(workspace::binary("verona-client").unwrap());
        command.arg("--state").arg(self.folder.join("state")).args(arguments);
        command.env("SOFTHSM2_CONF", self.folder.join("softhsm2.conf"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.client(arguments).output().unwrap()
    }

    fn public_key(&self) -> PublicKey {
        let output = self.run(&["public-key"]);
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    /// Makes a token of SoftHSM with `key` in it, called `identity`.
    fn token(&self, key: &Path) {
        let tokens = self.folder.join("tokens");
        std::fs::create_dir(&tokens).unwrap();
        self.file("softhsm2.conf", &format!("directories.tokendir = {}\n", tokens.display()));
        let softhsm = |arguments: &[&str]| {
            let mut command = Command::new("softhsm2-util");
            let output = command
                .args(arguments)
                .env("SOFTHSM2_CONF", self.folder.join("softhsm2.conf"))
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        softhsm(&[
            "--init-token",
            "--free",
            "--label",
            "corporate token",
            "--pin",
            "1234",
            "--so-pin",
            "5678",
        ]);
        let key = key.to_string_lossy();
        let import = ["--import", &key, "--token", "corporate token", "--label", "identity", "--id", "01"];
        softhsm(&[&import[..], &["--pin", "1234"]].concat());
    }

    fn up(&self) -> Process {
        let command = self.client(&["up", "-f", "--interface", &self.interface]);
        self.place.run().start_process(&format!("client-{}", self.interface), command).unwrap()
    }

    fn reaches_the_edge(&self) -> bool {
        self.place.output("ping", &["-c", "1", "-W", "1", INSIDE]).is_ok()
    }
}

#[test]
fn keys_in_a_file_and_in_a_token_vouch_for_the_tunnel() {
    let run = Run::start().unwrap();
    let mut scene = Scene::new(&run);
    let machines = [0, 1].map(|at| {
        let name = ["file", "token"][at];
        Machine::new(&scene.net.client(name).unwrap().host, name)
    });
    let mut running = Vec::new();
    for (at, machine) in machines.iter().enumerate() {
        let number = 2 + at as u8;
        let key = machine.public_key();
        let profile = serde_json::to_string(&scene.profile(number, &key)).unwrap();
        let profile = machine.file("profile.json", &profile);
        let certificate = machine.file("certificate.pem", &scene.certificate(at));
        let other = machine.file("other.pem", &scene.certificate(1 - at));
        let private = machine.file("private.pem", &scene.keys[at].private_pem());
        let [profile, certificate, other, private] =
            [&profile, &certificate, &other, &private].map(|path| path.to_string_lossy());
        let import = |certificate: &str, key: [&str; 2]| {
            let (common, profile) = (["import", "--certificate", certificate], ["--profile", &profile]);
            let output = machine.run(&[&common[..], &key, &profile].concat());
            (output.status.success(), String::from_utf8(output.stderr).unwrap())
        };
        let mut uri = String::new();
        if at == 1 {
            machine.token(Path::new(&*private));
            std::fs::remove_file(&*private).unwrap();
            let module = "/usr/lib/softhsm/libsofthsm2.so";
            let named = |object: &str, pin: &str| {
                let pin = machine.file(&format!("pin-{pin}"), &format!("{pin}\n"));
                let pin = pin.display();
                format!(
                    "pkcs11:token=corporate%20token;object={object}?module-path={module}&pin-source={pin}"
                )
            };
            for (wrong, reason) in [
                (named("identity", "9999"), "logging in failed"),
                (named("nobody", "1234"), "0 P-256 private keys are called nobody"),
                (
                    named("identity", "1234").replace("corporate", "private"),
                    "0 tokens are called private token",
                ),
            ] {
                let (done, error) = import(&certificate, ["--pkcs11", &wrong]);
                assert!(!done && error.contains(reason) && error.lines().count() == 1, "{error}");
            }
            uri = named("identity", "1234");
        }
        let key = if at == 1 { ["--pkcs11", uri.as_str()] } else { ["--key", &*private] };
        let (done, error) = import(&other, key);
        assert!(!done && error.contains("not by the certified key"), "{error}");
        assert_eq!(import(&certificate, key), (true, String::new()));
        running.push(machine.up());
        wait::until("a way into the tunnel", SOON, || machine.reaches_the_edge()).unwrap();
    }

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let peers = scene.peers();
    assert_eq!(peers.len(), 2);
    for peer in &peers {
        // The binding's end, not the certificate's.
        assert!((now..=now + 86_400).contains(&peer.not_after), "{peer:?}");
    }
    // The client looks at its tunnel now and then, so its state follows the first packet.
    wait::until("the client to know that it is connected", SOON, || {
        let status = machines[1].run(&["status", "--json"]).stdout;
        String::from_utf8(status).is_ok_and(|status| status.contains(r#""state":"connected""#))
    })
    .unwrap();

    // The corporate CA revokes one certificate.
    scene.control.load_crl(&scene.authority.crl(11, &[101], SystemTime::now())).unwrap();
    assert!(!machines[1].reaches_the_edge());
    assert!(machines[0].reaches_the_edge());
    for process in &mut running {
        process.stop();
    }
}
