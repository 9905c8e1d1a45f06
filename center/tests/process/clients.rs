//! Clients from code to revocation: certificates, proofs, lists, long-polls, owners apart.

use crate::fixture::{BINARY, Center, entropy, identity_tls, tool};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};
use verona_contract::api::RenewRequest;
use verona_contract::cert::{Issuer, Leaf};
use verona_contract::config::{EdgeConfig, PAYLOAD_TYPE};
use verona_contract::control::Cut;
use verona_contract::crl::VerifiedCrl;
use verona_contract::csr::DeviceKey;
use verona_contract::dsse::Envelope;
use verona_contract::key::Secret;
use verona_contract::psk;
use x509_cert::der::pem::{LineEnding, encode_string};

#[test]
fn certificates_keep_to_the_profile() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (_, _, edge) = center.enrolled_edge(&owner, "S-1");
    let (id, code) = center.client(&owner, "alice", &[]);
    let (_, enrolled) = center.enrolled_client(&code);
    let issuer = Issuer::parse(&enrolled.issuer.0).unwrap();
    let leaf = Leaf::parse(&enrolled.tunnel_certificate.0).unwrap();
    assert_eq!(leaf.subject, format!("urn:verona:client:{id}"));
    assert_eq!((&leaf.issuer, &leaf.issuer_key_id), (&issuer.subject, &issuer.key_id));
    assert_eq!(leaf.serial.as_bytes().len(), 16);
    assert_eq!(leaf.addresses, ["10.8.0.16".parse::<std::net::IpAddr>().unwrap()]);
    let ca = center.pem("ca.crt", "CERTIFICATE", &enrolled.issuer.0);
    for (name, der) in [("t", &enrolled.tunnel_certificate.0), ("d", &enrolled.device_certificate.0)] {
        let path = center.pem(name, "CERTIFICATE", der);
        let (ok, text) =
            tool("openssl", &["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", &ca, &path]);
        assert!(ok, "{text}");
        let (_, text) = tool("openssl", &["x509", "-in", &path, "-noout", "-text"]);
        assert!(!text.contains(&owner) && !text.contains("alice"), "{text}");
    }
    let edge = Leaf::parse(&edge.certificate.0).unwrap();
    assert_eq!(edge.addresses, ["10.8.0.1".parse::<std::net::IpAddr>().unwrap()]);
    let profile = &enrolled.profile;
    assert_eq!(profile.addresses[0].to_string(), "10.8.0.16/24");
    assert_eq!(profile.edges[0].public_key, edge.key);
    assert_ne!(profile.edges[0].preshared_key, psk::derive(&Secret::new([0; 32]), &leaf.key, &edge.key));
}

#[test]
fn codes_serve_once_and_keys_belong_to_one_subject() {
    let center = Center::start();
    let (a, b) = (center.owner("A", "10.8.0.0/24"), center.owner("B", "10.9.0.0/24"));
    let (_, code) = center.client(&a, "alice", &[]);
    let (device, tunnel) = (DeviceKey::from_entropy(&entropy()).unwrap(), Secret::new(entropy()));
    assert_eq!(center.enroll(&code, &device, &tunnel).status, 200);
    assert_eq!(center.enroll(&code, &device, &tunnel).status, 200, "the answer was lost");
    let answer = center.enroll(&code, &DeviceKey::from_entropy(&entropy()).unwrap(), &Secret::new(entropy()));
    assert_eq!((answer.status, answer.json()["type"].as_str()), (403, Some("urn:verona:problem:code-used")));
    let (_, other) = center.client(&b, "mallory", &[]);
    let answer = center.enroll(&other, &DeviceKey::from_entropy(&entropy()).unwrap(), &tunnel);
    assert_eq!(answer.status, 409);
    assert!(!answer.problem().contains(&a), "tells nothing of the other owner");
    // A proof by another key than the one in the request.
    let csr = device.request("x", Some(&Secret::new(entropy()).x25519_public().unwrap())).unwrap();
    let code: verona_contract::enrolment::EnrolmentCode = other.parse().unwrap();
    let answer = center.prove(None, "/v1/client/enroll", &Secret::new(entropy()), &csr, |csr, proof| {
        json!({"secret": verona_contract::base64::encode(code.secret.as_slice()), "csr": csr, "proof": proof})
    });
    assert_eq!(answer.status, 403);
    assert!(answer.problem().starts_with("proof: "));
}

#[test]
fn disable_wakes_the_long_poll_and_is_proven_by_the_ack() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (edge, tls, _) = center.enrolled_edge(&owner, "S-1");
    let (id, code) = center.client(&owner, "alice", &[]);
    let (device, enrolled) = center.enrolled_client(&code);
    let issuer = Issuer::parse(&enrolled.issuer.0).unwrap();
    let path = format!("/v1/crl/{}", issuer.key_id);
    assert_eq!(center.get(Some(&device), "/v1/client/profile").status, 200);
    let poll = |number: u64, wait: u64| {
        let fields = format!("If-None-Match: \"{number}\"\r\nPrefer: wait={wait}");
        let answer = center.call(Some(&tls), "GET", &path, &fields, |_| Vec::new());
        (answer, Instant::now())
    };
    assert_eq!(poll(1, 0).0.status, 304);
    let (woken, changed, clicked) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| poll(1, 55));
        std::thread::sleep(Duration::from_millis(700));
        let clicked = Instant::now();
        let body = json!({});
        let changed =
            center.post(Some(&center.operator()), &format!("/v1/admin/clients/{id}/disable"), &body);
        (waiting.join().unwrap(), changed, clicked)
    });
    assert_eq!((woken.0.status, woken.0.field("etag").as_deref()), (200, Some("\"2\"")));
    let wake = woken.1.duration_since(clicked);
    println!("click to woken long-poll, with two TLS handshakes of the test: {wake:?}");
    assert!(wake < Duration::from_secs(2), "{wake:?}");
    assert_eq!((changed.status, &changed.json()["crl_number"]), (200, &json!(2)));

    let list = VerifiedCrl::verify(&woken.0.body, [&issuer]).unwrap();
    let leaf = Leaf::parse(&enrolled.tunnel_certificate.0).unwrap();
    assert!(list.revoked().contains(&leaf.serial));
    assert_eq!((list.number(), list.revoked().len()), (2, 2), "tunnel and device leaf");
    let (crl, ca) =
        (center.pem("l.pem", "X509 CRL", &woken.0.body), center.pem("ca", "CERTIFICATE", &issuer.der));
    let (_, text) = tool("openssl", &["crl", "-in", &crl, "-CAfile", &ca, "-noout", "-text", "-crlnumber"]);
    assert!(
        text.contains("verify OK") && text.contains("Certificate Hold") && text.contains("crlNumber=0x02"),
        "{text}"
    );

    let answer = center.get(Some(&device), "/v1/client/profile");
    assert_eq!(
        (answer.status, answer.json()["type"].as_str()),
        (403, Some("urn:verona:problem:client-disabled"))
    );
    let shown = center.ok(&["client", "show", &id]);
    assert_eq!((&shown["edges"][0]["edge"], &shown["edges"][0]["applied_at"]), (&json!(edge), &Value::Null));
    let cut = Cut { serial: leaf.serial, subject: leaf.subject, key: leaf.key, addresses: vec![] };
    let ack = |number: u64| json!({"kind": "crl", "issuer": issuer.key_id, "crl_number": number, "applied_at_ns": 1, "cut": [cut]});
    let early = center.post(Some(&tls), "/v1/acks", &ack(3));
    assert_eq!((early.status, early.problem()), (400, "ack: list 3 was never made".to_owned()));
    let ack = ack(2);
    assert_eq!(center.post(Some(&tls), "/v1/acks", &ack).status, 204);
    let shown = center.ok(&["client", "show", &id]);
    assert_eq!((&shown["change"]["action"], &shown["change"]["by"]), (&json!("disable"), &json!("operator")));
    let proof = &shown["edges"][0];
    assert_eq!(
        (&proof["cut"], &proof["sessions_cut"], &proof["crl_number"]),
        (&json!(true), &json!(1), &json!(2))
    );
    assert!(proof["confirmed_after_ms"].as_u64().unwrap() < 10_000);
    assert_eq!(proof["cut_after_ms"], Value::Null, "an edge in 1970 cannot tell when it cut");
    assert_eq!(proof["waiting_since"], Value::Null);

    // Repeating says the same; enabling makes the next list; revoking is final.
    assert_eq!(center.ok(&["client", "disable", &id])["crl_number"], 2);
    assert_eq!(center.ok(&["client", "enable", &id])["crl_number"], 3);
    let shown = center.ok(&["client", "show", &id]);
    assert_eq!(
        (&shown["change"]["action"], &shown["edges"][0]["applied_at"]),
        (&json!("enable"), &Value::Null)
    );
    assert_eq!(shown["edges"][0]["waiting_since"], shown["change"]["changed_at"]);
    assert_eq!(shown["history"][0]["change"]["action"], "disable", "what was proven stays so");
    assert_eq!(
        (shown["history"].as_array().unwrap().len(), &shown["history"][0]["edges"][0]["crl_number"]),
        (1, &json!(2))
    );
    assert_eq!(VerifiedCrl::verify(&poll(2, 5).0.body, [&issuer]).unwrap().revoked().len(), 0);
    assert_eq!(center.get(Some(&device), "/v1/client/profile").status, 200);
    assert_eq!(center.ok(&["client", "revoke", &id])["crl_number"], 4);
    assert!(!center.cli(&["client", "enable", &id]).status.success());
    let answer = center.get(Some(&device), "/v1/client/profile");
    assert_eq!(answer.json()["type"], "urn:verona:problem:client-revoked");
}

#[test]
fn pushed_clients_arrive_in_a_signed_configuration() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (id, tls, _) = center.enrolled_edge(&owner, "S-1");
    let fetch = |has: &str| {
        let fields = format!("If-None-Match: {has}\r\nPrefer: wait=20");
        let answer = center.call(Some(&tls), "GET", "/v1/edge/config", &fields, |_| Vec::new());
        assert_eq!(answer.status, 200);
        let key = serde_json::from_value(center.identity()["config_keys"][0].clone()).unwrap();
        let envelope = Envelope::parse(&answer.body).unwrap();
        EdgeConfig::parse(envelope.verify(PAYLOAD_TYPE, &[key], 1).unwrap()).unwrap()
    };
    let first = fetch("\"0\"");
    assert_eq!((first.edge_id.to_string(), first.seq), (id, 1));
    assert_eq!(first.tunnel.addresses[0].to_string(), "10.8.0.1/24");
    assert_eq!((first.tunnel.owners[0].anchors.len(), first.tunnel.owners[0].clients.len()), (2, 0));
    let (client, code) = center.client(&owner, "bob", &["--push"]);
    let (_, enrolled) = center.enrolled_client(&code);
    let second = fetch("\"1\"");
    assert_eq!(second.tunnel.owners[0].clients, std::slice::from_ref(&enrolled.tunnel_certificate));
    center.ok(&["client", "disable", &client]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(fetch("\"0\"").seq, 2, "the list decides about a disabled client, not the configuration");
    center.ok(&["client", "revoke", &client]);
    let third = fetch("\"2\"");
    assert_eq!((third.seq, third.tunnel.owners[0].clients.len()), (3, 0));
}

#[test]
fn renewal_with_a_new_key_ends_the_old_one() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (id, code) = center.client(&owner, "alice", &[]);
    let (tls, enrolled) = center.enrolled_client(&code);
    let device =
        DeviceKey::from_pem(&encode_string("PRIVATE KEY", LineEnding::LF, &tls.key).unwrap()).unwrap();
    let tunnel = Secret::new(entropy());
    let csr = device.request("x", Some(&tunnel.x25519_public().unwrap())).unwrap();
    let answer = center.prove(Some(&tls), "/v1/client/renew", &tunnel, &csr, |csr, proof| {
        serde_json::to_value(RenewRequest { csr, proof }).unwrap()
    });
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let issuer = Issuer::parse(&enrolled.issuer.0).unwrap();
    let list = center.get(Some(&tls), &format!("/v1/crl/{}", issuer.key_id));
    let old = Leaf::parse(&enrolled.tunnel_certificate.0).unwrap().serial;
    assert!(VerifiedCrl::verify(&list.body, [&issuer]).unwrap().revoked().iter().eq(&[old]));
    let shown = center.ok(&["client", "show", &id]);
    assert_eq!(shown["client"]["tunnel_key"], json!(tunnel.x25519_public().unwrap()));
}

#[test]
fn owners_are_apart() {
    let center = Center::start();
    let (a, b) = (center.owner("A", "10.8.0.0/24"), center.owner("B", "10.8.0.0/24"));
    let (of_a, _) = center.client(&a, "alice", &[]);
    let (of_b, _) = center.client(&b, "bob", &[]);
    let (edge_b, tls_b, _) = center.enrolled_edge(&b, "S-B");
    let path = center.path("admin.json");
    let arguments = ["admin", "add", "--owner", &a, "--id", "anna", "--identity-out", path.to_str().unwrap()];
    let operator = center.path("c/operator.json");
    let cli = |arguments: &[&str], identity: &std::path::Path, password: &str| {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--json").env("VERONA_IDENTITY", identity);
        command.env("VERONA_ADMIN_PASSWORD", password).env("VERONA_PASSWORD", password).output().unwrap()
    };
    assert!(!cli(&arguments, &operator, "short").status.success());
    let added = cli(&arguments, &operator, "correct horse battery");
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let listed = cli(&["client", "list"], &path, "correct horse battery");
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &json!(of_a)));
    assert!(!listed.to_string().contains(&a), "an admin sees the owner code");
    for arguments in [
        vec!["client", "show", &of_b],
        vec!["client", "disable", &of_b],
        vec!["edge", "show", &edge_b],
        vec!["client", "add", "--owner", &b, "--name", "x"],
        vec!["client", "list", "--owner", &b],
    ] {
        let output = cli(&arguments, &path, "correct horse battery");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(": no "), "{arguments:?}: {error}");
    }
    assert!(!cli(&["owner", "list"], &path, "correct horse battery").status.success());
    assert!(!cli(&["client", "list"], &path, "wrong horse battery").status.success());
    // The certificate alone is not enough, and an edge is no reader of another owner's lists.
    let identity: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(center.get(Some(&identity_tls(&identity)), "/v1/admin/clients").status, 401);
    let owners = center.ok(&["owner", "list"]);
    let foreign = owners.as_array().unwrap().iter().find(|owner| owner["code"] == json!(a)).unwrap();
    let list = format!("/v1/crl/{}", foreign["client_ca"].as_str().unwrap());
    assert_eq!(center.get(Some(&tls_b), &list).status, 404);
    passwords_cannot_be_tried_all_at_once(&center, &path);
}

/// The count of wrong attempts holds also for those that came before the first was answered.
fn passwords_cannot_be_tried_all_at_once(center: &Center, identity: &std::path::Path) {
    let identity: Value = serde_json::from_slice(&std::fs::read(identity).unwrap()).unwrap();
    let tls = identity_tls(&identity);
    let basic = verona_contract::base64::encode("anna:wrong horse battery");
    let fields = format!("Authorization: Basic {basic}");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let attempt = || center.call(Some(&tls), "GET", "/v1/admin/clients", &fields, |_| Vec::new()).status;
        let attempts: Vec<_> = (0..40).map(|_| scope.spawn(attempt)).collect();
        attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect()
    });
    let tried = statuses.iter().filter(|status| **status == 401).count();
    assert!(tried <= 14, "{tried} of 40 passwords were tried: {statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 40 - tried, "{statuses:?}");
}
