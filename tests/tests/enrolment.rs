//! Foreign programs at the center's door: curl and openssl enrol an edge by EST (RFC 7030) and judge the
//! certificates that come out.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::parts::{Center, Edge, text};
use lab::{Namespace, Plan, Run, Topology, alone};
use std::path::Path;
use verona_tests::site::{PATIENCE, Site};

/// A shell at the place of an edge, in a folder of its own.
struct Shell<'a> {
    place: &'a Namespace,
    folder: &'a Path,
}

impl Shell<'_> {
    fn run(&self, script: &str) -> lab::Result<String> {
        let script = format!("set -eu; cd {}; {script}", self.folder.display());
        self.place.output("sh", &["-c", &script])
    }

    fn ok(&self, script: &str) -> String {
        self.run(script).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Posts `request.b64` to an EST path and writes status, type and body to files.
fn est(path: &str, options: &str) -> String {
    format!(
        "curl -sS --tlsv1.3 --cacert center.pem {options} -H 'Content-Type: application/pkcs10' \
         --data-binary @request.b64 -o answer -w '%{{http_code}} %{{content_type}}' \
         \"$URL/.well-known/est/{path}\""
    )
}

const REQUEST: &str = "openssl ecparam -name prime256v1 -genkey -noout -out $K.key; \
                       openssl req -new -key $K.key -subj /CN=VE-000009 -outform DER | openssl base64 > request.b64";
const READ: &str = "tr -d '[:space:]' < answer | openssl base64 -d -A -out answer.p7; \
                    openssl pkcs7 -inform DER -in answer.p7 -print_certs -out";

#[test]
fn curl_and_openssl_enrol_an_edge() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &[]);
    let added = site
        .center
        .admin(&[
            "edge",
            "add",
            "--owner",
            &site.owner,
            "--name",
            "by hand",
            "--serial",
            "VE-000009",
            "--endpoint",
            "203.0.113.3:51820",
            "--listen-port",
            "51820",
            "--lan",
            "192.168.78.0/24",
        ])
        .unwrap();
    let token = text(&added, "/token").unwrap();
    let folder = run.dir().join("est");
    std::fs::create_dir(&folder).unwrap();
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run.dir().join("factory.json")).unwrap()).unwrap();
    std::fs::write(folder.join("center.pem"), text(&record, "/center_ca").unwrap()).unwrap();
    let shell = Shell { place: &site.net.edge, folder: &folder };
    let url = format!("URL={};", text(&record, "/center").unwrap());
    let with_token = format!("-u VE-000009:{token}");

    // A wrong token first: refused with a problem document, and the right one is not used up by it.
    let wrong = shell.ok(&format!("{url} K=one; {REQUEST}; {}", est("simpleenroll", "-u VE-000009:AAAA")));
    assert_eq!(wrong, "401 application/problem+json", "{}", shell.ok("cat answer"));
    let enrolled = shell.ok(&format!("{url} {}", est("simpleenroll", &with_token)));
    assert!(enrolled.starts_with("200 application/pkcs7-mime"), "{enrolled}: {}", shell.ok("cat answer"));
    shell.ok(&format!("{READ} one.pem"));
    assert_eq!(
        shell.ok("openssl x509 -in one.pem -noout -pubkey"),
        shell.ok("openssl pkey -in one.key -pubout"),
        "the certificate is over the key of the request"
    );

    // The edge CA comes the same way, now with the certificate; openssl verifies the path.
    let own = "--cert one.pem --key one.key";
    let answer = shell.ok(&format!(
        "{url} curl -sS --tlsv1.3 --cacert center.pem {own} -o answer -w '%{{http_code}}' \
         \"$URL/.well-known/est/cacerts\""
    ));
    assert_eq!(answer, "200", "{}", shell.ok("cat answer"));
    shell.ok(&format!("{READ} ca.pem"));
    let verified = shell.ok("openssl verify -purpose sslclient -CAfile ca.pem one.pem");
    assert_eq!(verified.trim(), "one.pem: OK");

    // The token served once: another key is refused with it, the certificate renews itself.
    let thief = shell.ok(&format!("{url} K=two; {REQUEST}; {}", est("simpleenroll", &with_token)));
    assert!(thief.starts_with("401 ") || thief.starts_with("403 ") || thief.starts_with("409 "), "{thief}");
    let renewed = shell.ok(&format!(
        "{url} openssl req -new -key one.key -subj /CN=x -outform DER | openssl base64 > request.b64; {}",
        est("simplereenroll", own)
    ));
    assert!(renewed.starts_with("200 "), "{renewed}: {}", shell.ok("cat answer"));
    let nobody = shell.ok(&format!("{url} {}", est("simplereenroll", "")));
    assert!(nobody.starts_with("401 ") || nobody.starts_with("403 "), "{nobody}");

    // Bad input is told plainly.
    let garbage =
        shell.ok(&format!("{url} echo nonsense > request.b64; {}", est("simpleenroll", &with_token)));
    assert!(garbage.starts_with("400 application/problem+json"), "{garbage}");
}

#[test]
fn a_box_without_an_owner_is_told_to_wait_and_is_at_work_once_it_is_claimed() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let net = Topology::build(&run, &Plan::default()).unwrap();
    let center = Center::start(&net.center).unwrap();
    let owner = center.add_owner("Acme", "10.9.0.0/24").unwrap();
    let claimed_too_early = center.claim_edge(&owner).unwrap_err().to_string();
    assert!(claimed_too_early.contains("no box VE-000001 is waiting"), "{claimed_too_early}");
    let path = run.dir().join("factory.json");
    center.stock_edge(&path).unwrap();
    let twice = center.add_edge(&owner, &run.dir().join("another.json")).unwrap_err().to_string();
    assert!(twice.contains("registered"), "a box in stock is claimed, not registered again: {twice}");

    // A foreign client is told the same by RFC 7030 §4.2.3, and only with the right token.
    let folder = run.dir().join("est");
    std::fs::create_dir(&folder).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::write(folder.join("center.pem"), text(&record, "/center_ca").unwrap()).unwrap();
    let shell = Shell { place: &net.edge, folder: &folder };
    let url = format!("URL={};", text(&record, "/center").unwrap());
    let with = |token: &str| est("simpleenroll", &format!("-D head -u VE-000001:{token}"));
    let token = text(&record, "/token").unwrap();
    let waits = shell.ok(&format!("{url} K=one; {REQUEST}; {}", with(token)));
    assert!(waits.starts_with("202 "), "{waits}: {}", shell.ok("cat answer"));
    let head = shell.ok("cat head").to_ascii_lowercase();
    assert!(head.contains("retry-after: 4"), "{head}");
    let wrong = shell.ok(&format!("{url} {}", with("AAAA")));
    assert!(wrong.starts_with("401 "), "{wrong}");

    let mut edge = Edge::start(&net.edge, &path).unwrap();
    edge.agent.wait_for_log("has no owner yet", PATIENCE).unwrap();
    center.asked_for_owner(PATIENCE).unwrap();
    let id = center.claim_edge(&owner).unwrap();
    center.confirmed(&id, 1, PATIENCE).unwrap();
    let gone = center.admin(&["edge", "unclaimed"]).unwrap();
    assert_eq!(gone, serde_json::json!([]), "nobody waits any more");
    center.claim_edge(&owner).unwrap_err();
}

#[test]
fn the_center_speaks_tls_1_3_only_and_resumes_no_session() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &[]);
    let record = std::fs::read(run.dir().join("factory.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    std::fs::write(run.dir().join("center.pem"), text(&record, "/center_ca").unwrap()).unwrap();
    let shell = Shell { place: &site.net.edge, folder: run.dir() };
    let connect = "openssl s_client -connect 198.51.100.10:8443 -CAfile center.pem -verify_return_error";

    let modern = shell.ok(&format!("echo | {connect} -tls1_3 2>&1"));
    assert!(modern.contains("Verification: OK") && modern.contains("TLSv1.3"), "{modern}");
    assert!(shell.run(&format!("echo | {connect} -tls1_2 2>&1")).is_err());
    // A ticket would let a disabled certificate in again without being shown.
    let tickets = shell.ok(&format!("(sleep 1; echo) | {connect} -tls1_3 -msg 2>&1"));
    assert!(!tickets.contains("NewSessionTicket"), "{tickets}");
}

#[test]
fn openssl_accepts_a_clients_tunnel_certificate() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &["alice"]);
    let alice = site.enrol("alice", false);
    let shell = Shell { place: site.place("alice"), folder: alice.verona.state() };

    let open = shell.ok("find . -type f ! -perm 600");
    assert_eq!(open, "", "files of the client that others can read");
    let identity = std::fs::read(alice.verona.state().join("identity.json")).unwrap();
    let identity: serde_json::Value = serde_json::from_slice(&identity).unwrap();
    for (field, file) in [("/issuer", "issuer.pem"), ("/tunnel_certificate", "tunnel.pem")] {
        let der = text(&identity, field).unwrap();
        shell.ok(&format!("echo {der} | openssl base64 -d -A | openssl x509 -inform DER -out {file}"));
    }
    let verified = shell.ok("openssl verify -purpose sslclient -CAfile issuer.pem tunnel.pem");
    assert_eq!(verified.trim(), "tunnel.pem: OK");
    let told = shell.ok("openssl x509 -in tunnel.pem -noout -text");
    for line in ["Public Key Algorithm: X25519", "Key Agreement", "TLS Web Client Authentication"] {
        assert!(told.contains(line), "no `{line}` in {told}");
    }
    assert!(told.contains(&format!("URI:urn:verona:client:{}", alice.id)), "{told}");
    assert!(!told.to_lowercase().contains(&site.owner.to_lowercase()), "the owner's code is told: {told}");
}
