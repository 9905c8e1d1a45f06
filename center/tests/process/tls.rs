//! TLS and HTTP at the edges: versions, key exchange, resumption, wrong requests.

use crate::fixture::{BINARY, Center, Tls, tool};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn tls_1_3_only_post_quantum_and_never_resumed() {
    let center = Center::start();
    let address = format!("127.0.0.1:{}", center.port);
    let ca = center.path("ca.pem");
    std::fs::write(&ca, center.identity()["center_ca"].as_str().unwrap()).unwrap();
    let ca = ca.to_str().unwrap();
    let (ok, text) = tool("openssl", &["s_client", "-connect", &address, "-tls1_2", "-CAfile", ca]);
    assert!(!ok && text.contains("alert protocol version"), "{text}");
    let session = center.path("session");
    let session = session.to_str().unwrap();
    let arguments =
        ["s_client", "-connect", &address, "-CAfile", ca, "-sess_out", session, "-alpn", "http/1.1"];
    let (ok, text) = tool("openssl", &arguments);
    assert!(ok && text.contains("Verify return code: 0 (ok)"), "{text}");
    assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
    assert!(!text.contains("Post-Handshake New Session Ticket"), "{text}");
    let group = center.connect(None).conn.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn preshared_keys_are_not_sent_over_a_key_exchange_without_ml_kem() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (_, edge, _) = center.enrolled_edge(&owner, "S-1");
    let (_, code) = center.client(&owner, "alice", &[]);
    let (client, _) = center.enrolled_client(&code);
    let classic = |tls: Option<&Tls>, method: &str, path: &str, body: Vec<u8>| {
        let kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
        let connection = center.connect_by(tls, provider);
        center.call_over(connection, method, path, "Content-Type: application/json", |_| body)
    };
    for (tls, method, path, body) in [
        (Some(&edge), "GET", "/v1/edge/config", Vec::new()),
        (Some(&client), "GET", "/v1/client/profile", Vec::new()),
        (Some(&client), "POST", "/v1/client/renew", b"{}".to_vec()),
        (None, "POST", "/v1/client/enroll", b"{}".to_vec()),
    ] {
        let answer = classic(tls, method, path, body);
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.problem().contains("over X25519MLKEM768 only"), "{path}: {}", answer.problem());
    }
    // What holds no such key is for foreign programs as well: lists, EST.
    let issuers = center.ok(&["owner", "list"]);
    let list = format!("/v1/crl/{}", issuers[0]["client_ca"].as_str().unwrap());
    assert_eq!(classic(Some(&edge), "GET", &list, Vec::new()).status, 200);
    assert_eq!(center.get(Some(&client), "/v1/client/profile").status, 200);
}

/// Method, path, header field, body, status, part of the detail.
type Row = (&'static str, &'static str, &'static str, Vec<u8>, u16, &'static str);

#[test]
fn wrong_requests_get_problem_documents() {
    let center = Center::start();
    let operator = center.operator();
    let json_type = "Content-Type: application/json";
    let owners = "/v1/admin/owners";
    let table: [Row; 9] = [
        ("GET", "/nothing", "", vec![], 404, "nothing at this path"),
        ("DELETE", owners, "", vec![], 405, "does not take this method"),
        ("POST", owners, "Content-Type: text/plain", b"{}".to_vec(), 415, "application/json"),
        ("POST", owners, json_type, b"{".to_vec(), 400, "body, "),
        (
            "POST",
            owners,
            json_type,
            b"{\"name\":\"x\",\"network\":\"10.0.0.0/40\"}".to_vec(),
            400,
            "network: ",
        ),
        (
            "POST",
            owners,
            json_type,
            b"{\"name\":\"x\",\"network\":\"10.0.0.1/24\"}".to_vec(),
            400,
            "host bits",
        ),
        (
            "POST",
            owners,
            json_type,
            b"{\"name\":\"\",\"network\":\"10.0.0.0/24\"}".to_vec(),
            400,
            "name must",
        ),
        ("POST", owners, json_type, vec![b' '; 300 * 1024], 413, "at most 262144 octets"),
        ("GET", "/v1/admin/logs?limit=0", "", vec![], 400, "limit must be 1 to 1000"),
    ];
    for (method, path, fields, body, status, detail) in table {
        let fields = if fields.is_empty() { "Accept: */*" } else { fields };
        let answer = center.call(Some(&operator), method, path, fields, |_| body);
        assert_eq!(answer.status, status, "{method} {path}");
        let problem = answer.problem();
        assert!(problem.contains(detail) && !problem.contains('\n'), "{method} {path}: {problem}");
    }
    // What the caller sent comes back as a part of one short line.
    let (broken, long) = ("/v1/admin/clients/a%0Ab%1B", format!("/v1/admin/edges/{}", "x".repeat(9000)));
    for path in [broken, &long] {
        let problem = center.get(Some(&operator), path).problem();
        assert!(problem.len() <= 510 && !problem.contains(char::is_control), "{problem:?}");
    }
    for path in ["/v1/admin/owners", "/v1/edge/config", "/v1/client/profile", "/v1/crl/00"] {
        let answer = center.get(None, path);
        assert_eq!(answer.status, 401, "{path}");
        answer.problem();
    }
}

#[test]
fn wrong_codes_are_slowed_down() {
    let center = Center::start();
    let proof = json!({"challenge": "00000000-0000-4000-8000-000000000000", "proof": ""});
    let body = json!({"secret": "AAAAAAAAAAAAAAAAAAAAAA==", "csr": "", "proof": proof});
    let statuses: Vec<u16> = (0..11).map(|_| center.post(None, "/v1/client/enroll", &body).status).collect();
    assert_eq!(statuses[..10], [403; 10]);
    assert_eq!(statuses[10], 429);
}

#[test]
fn sigterm_ends_it_cleanly_and_long_polls_with_it() {
    let mut center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (_, tls, _) = center.enrolled_edge(&owner, "S-1");
    let crl = center.ok(&["crl", "list"])[0]["issuer"].as_str().unwrap().to_owned();
    let (started, pid) = (Instant::now(), center.server_pid().to_string());
    let answer = std::thread::scope(|scope| {
        let poll = scope.spawn(|| {
            let fields = "If-None-Match: \"1\"\r\nPrefer: wait=55";
            center.call(Some(&tls), "GET", &format!("/v1/crl/{crl}"), fields, |_| Vec::new())
        });
        std::thread::sleep(Duration::from_millis(500));
        assert!(tool("kill", &["-TERM", &pid]).0);
        poll.join().unwrap()
    });
    assert_eq!(answer.status, 503);
    assert!(center.wait_for_server().success());
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[test]
fn openapi_names_every_path_of_the_contract() {
    let output = Command::new(BINARY).arg("openapi").output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    use verona_contract::api::*;
    for path in [
        EST_ENROLL,
        EST_REENROLL,
        EST_CACERTS,
        POP_CHALLENGE,
        EDGE_TUNNEL_KEY,
        EDGE_CONFIG,
        ACKS,
        LOGS,
        CLIENT_ENROLL,
        CLIENT_RENEW,
        CLIENT_PROFILE,
        ADMIN_OWNERS,
        ADMIN_EDGES,
        ADMIN_CLIENTS,
        ADMIN_LOGS,
        ADMIN_CHAINS,
        ADMIN_ALARMS,
        ADMIN_CRLS,
        ADMIN_ADMINS,
        "/v1/crl/{issuer}",
        "/v1/admin/clients/{id}/disable",
        "/v1/admin/edges/{id}/allow-shrink",
        "/v1/admin/edges/{id}/update",
        ADMIN_RINGS,
        "/v1/firmware/{folder}/{name}",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    assert!(document["components"]["schemas"]["ClientDetail"].is_object());
}
