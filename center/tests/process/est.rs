//! EST by curl and openssl alone: what a foreign enrolment client would do.

use crate::fixture::{Center, tool};
use std::path::Path;

fn curl(center: &Center, directory: &Path, arguments: &[&str], path: &str) -> (String, String) {
    let ca = directory.join("ca.pem");
    std::fs::write(&ca, center.identity()["center_ca"].as_str().unwrap()).unwrap();
    let (body, url) = (directory.join("body"), format!("https://127.0.0.1:{}{path}", center.port));
    let fixed =
        ["-s", "--cacert", ca.to_str().unwrap(), "-o", body.to_str().unwrap(), "-w", "%{http_code}", &url];
    let (_, status) = tool("curl", &[&fixed, arguments].concat());
    (status, std::fs::read_to_string(body).unwrap_or_default())
}

/// A P-256 key and its request, by openssl.
fn key_and_request(directory: &Path, name: &str) -> (String, String) {
    let path = |suffix: &str| directory.join(format!("{name}.{suffix}")).to_str().unwrap().to_owned();
    let (key, der, text) = (path("key"), path("der"), path("b64"));
    let made = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key];
    assert!(tool("openssl", &made).0);
    assert!(
        tool("openssl", &["req", "-new", "-key", &key, "-subj", "/CN=x", "-outform", "DER", "-out", &der]).0
    );
    assert!(tool("openssl", &["base64", "-in", &der, "-out", &text]).0);
    (key, text)
}

fn certificate(directory: &Path, name: &str, base64: &str) -> String {
    let path = |suffix: &str| directory.join(format!("{name}.{suffix}")).to_str().unwrap().to_owned();
    std::fs::write(path("p7b64"), base64).unwrap();
    assert!(tool("openssl", &["base64", "-d", "-in", &path("p7b64"), "-out", &path("p7")]).0, "{base64}");
    let arguments = ["pkcs7", "-inform", "DER", "-in", &path("p7"), "-print_certs", "-out", &path("pem")];
    let (ok, text) = tool("openssl", &arguments);
    assert!(ok, "{text}");
    path("pem")
}

/// A certificate that says nothing but which key the caller holds.
fn self_signed(directory: &Path, key: &str) -> String {
    let birth = directory.join("birth.pem").to_str().unwrap().to_owned();
    let arguments = ["req", "-x509", "-new", "-key", key, "-subj", "/CN=birth", "-days", "1", "-out", &birth];
    assert!(tool("openssl", &arguments).0);
    birth
}

const ENROLL: &str = "/.well-known/est/simpleenroll";
const TYPE: [&str; 2] = ["-H", "Content-Type: application/pkcs10"];

#[test]
fn token_enrolment_renewal_and_repetition() {
    let center = Center::start();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (id, token) = center.edge(&owner, "S-1");
    let (key, request) = key_and_request(directory, "device");
    let (data, user) = (format!("@{request}"), format!("S-1:{token}"));
    let post = |user: &str, data: &str| {
        curl(&center, directory, &[&TYPE[..], &["--user", user, "--data-binary", data]].concat(), ENROLL)
    };
    let (status, body) = post("S-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", &data);
    assert_eq!(status, "401", "{body}");
    let (status, body) = post(&user, &data);
    assert_eq!(status, "200", "{body}");
    let leaf = certificate(directory, "leaf", &body);
    let (_, text) = tool("openssl", &["x509", "-in", &leaf, "-noout", "-text"]);
    assert!(text.contains(&format!("URI:urn:verona:edge:{id}")), "{text}");
    assert!(!text.contains(&owner), "the owner code is in the certificate");

    // The answer may have been lost: the same key is answered again, another key is not.
    assert_eq!(post(&user, &data).0, "200");
    let (_, other) = key_and_request(directory, "other");
    let (status, body) = post(&user, &format!("@{other}"));
    assert_eq!(status, "403");
    assert!(body.contains("another device key"), "{body}");

    let mutual = ["--cert", &leaf, "--key", &key];
    let (status, body) = curl(&center, directory, &mutual, "/.well-known/est/cacerts");
    assert_eq!(status, "200", "{body}");
    let ca = certificate(directory, "edge-ca", &body);
    let (ok, text) = tool("openssl", &["verify", "-purpose", "sslclient", "-CAfile", &ca, &leaf]);
    assert!(ok, "{text}");
    let renewal = [&mutual[..], &TYPE, &["--data-binary", &data]].concat();
    let (status, body) = curl(&center, directory, &renewal, "/.well-known/est/simplereenroll");
    assert_eq!(status, "200", "{body}");
    let again = certificate(directory, "again", &body);
    assert_ne!(std::fs::read(again).unwrap(), std::fs::read(leaf).unwrap());

    // Years later, certificate and token have ended: the key that enrolled is enough.
    let birth = self_signed(directory, &key);
    let by_key = [&TYPE[..], &["--cert", &birth, "--key", &key, "--data-binary", &data]].concat();
    let (status, body) = curl(&center, directory, &by_key, ENROLL);
    assert_eq!(status, "200", "{body}");
    let back = certificate(directory, "back", &body);
    let (_, text) = tool("openssl", &["x509", "-in", &back, "-noout", "-text"]);
    assert!(text.contains(&format!("URI:urn:verona:edge:{id}")), "{text}");
}

#[test]
fn a_registered_key_enrols_with_any_certificate_over_it() {
    let center = Center::start();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (key, request) = key_and_request(directory, "device");
    let spki = directory.join("spki").to_str().unwrap().to_owned();
    assert!(tool("openssl", &["pkey", "-in", &key, "-pubout", "-outform", "DER", "-out", &spki]).0);
    let fingerprint = tool("openssl", &["dgst", "-sha256", "-r", &spki]).1;
    let fingerprint = fingerprint.split(' ').next().unwrap();
    let birth = self_signed(directory, &key);
    let data = format!("@{request}");
    let arguments = [&TYPE[..], &["--cert", &birth, "--key", &key, "--data-binary", &data]].concat();
    let (status, body) = curl(&center, directory, &arguments, ENROLL);
    assert_eq!(status, "401", "not registered yet: {body}");
    let edge =
        ["edge", "add", "--owner", &owner, "--name", "e", "--serial", "F-1", "--endpoint", "192.0.2.1:1"];
    center.ok(&[&edge[..], &["--fingerprint", fingerprint]].concat());
    let (status, body) = curl(&center, directory, &arguments, ENROLL);
    assert_eq!(status, "200", "{body}");
    let (_, other) = key_and_request(directory, "other");
    let data = format!("@{other}");
    let arguments = [&TYPE[..], &["--cert", &birth, "--key", &key, "--data-binary", &data]].concat();
    assert_eq!(curl(&center, directory, &arguments, ENROLL).0, "403", "a request of another key");
}
