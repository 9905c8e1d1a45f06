//! A configuration that breaks something comes back by itself, and one that breaks nothing stays, whatever was broken
//! before.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use lab::parts::field;
use lab::{Run, address, alone, wait};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use verona_contract::base64;
use verona_contract::config::PAYLOAD_TYPE;
use verona_contract::dsse::Envelope;
use verona_tests::site::{PATIENCE, Site};

/// Seconds on trial.
const CONFIRM_S: u64 = 5;

/// A key of the test's own that the edge believes, too, so that the test can configure what no center would.
fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[0x77; 32]).unwrap()
}

/// The edge believes the test's key from its next start on.
fn trust_the_test(site: &Site) {
    let path = site.edge.state().parent().unwrap().join("factory.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let key = base64::encode(signer().public_key().as_ref());
    record["config_keys"].as_array_mut().unwrap().push(key.into());
    std::fs::write(&path, record.to_string()).unwrap();
}

fn folder(site: &Site) -> PathBuf {
    site.edge.state().join("config")
}

/// Puts a configuration on trial that differs from the one in force by `change`: the agent ends, finds it staged when
/// it starts anew, as after a crash between download and trial. Returns its number.
fn put_on_trial(site: &mut Site, change: impl FnOnce(&mut Value)) -> u64 {
    trust_the_test(site);
    site.edge.agent.crash().unwrap();
    let current: Envelope =
        Envelope::parse(&std::fs::read(folder(site).join("current.json")).unwrap()).unwrap();
    let mut config: Value = serde_json::from_slice(current.payload.0.as_slice()).unwrap();
    // Beyond what the center gives out in this test.
    let seq = config["seq"].as_u64().unwrap() + 1000;
    config["seq"] = seq.into();
    config["confirm_s"] = CONFIRM_S.into();
    change(&mut config);
    let envelope = Envelope::sign(PAYLOAD_TYPE, config.to_string().into_bytes(), &[&signer()]);
    std::fs::write(folder(site).join("staged.json"), serde_json::to_vec(&envelope).unwrap()).unwrap();
    site.edge.agent_again().unwrap();
    seq
}

fn config_state(site: &Site) -> (String, u64) {
    let config = site.edge.edgectl(&["config"]).unwrap();
    let state = field(&config, "state").and_then(Value::as_str).unwrap().to_owned();
    (state, field(&config, "seq").and_then(Value::as_u64).unwrap_or(0))
}

fn wait_for_state(site: &Site, state: &str, seq: u64) {
    let reached = || config_state(site) == (state.to_owned(), seq);
    wait::until(&format!("configuration {seq} to be {state}"), PATIENCE, reached).unwrap_or_else(|error| {
        panic!("{error}: {:?}; the agent says: {}", config_state(site), site.edge.agent.log())
    });
}

fn routes(site: &Site) -> String {
    site.net.edge.output("ip", &["route", "show", "dev", site.edge.interface()]).unwrap()
}

fn condition_codes(site: &Site) -> Vec<String> {
    let status = site.edge.edgectl(&["status"]).unwrap();
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect()
}

/// Everything for the center goes into the tunnel, where nobody takes it.
fn cut_the_center_off(config: &mut Value) {
    config["tunnel"]["routes"] = json!([format!("{}/32", address::CENTER)]);
}

#[test]
fn a_change_that_cuts_the_center_off_is_taken_back() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice"]);
    let before = config_state(&site).1;
    let seq = put_on_trial(&mut site, cut_the_center_off);
    // While it is on trial it is really in force, and an agent that dies meanwhile goes on with it.
    wait::until("the route of the new configuration", PATIENCE, || {
        routes(&site).contains(&address::CENTER.to_string())
    })
    .unwrap();
    site.edge.agent.crash().unwrap();
    site.edge.agent_again().unwrap();

    wait_for_state(&site, "reverted", before);
    assert!(!routes(&site).contains(&address::CENTER.to_string()), "{}", routes(&site));
    assert!(condition_codes(&site).contains(&"config-reverted".to_owned()));
    let told = || {
        let list = site.center.admin(&["log", "list", "--event", "config.reverted"])?;
        Ok(list.to_string().contains("center").then_some(()))
    };
    wait::for_value("the reversion in the log at the center", PATIENCE, told).unwrap();
    let history = site.edge.edgectl(&["config", "history"]).unwrap();
    let fate = |seq: u64| {
        let list = history.as_array().unwrap();
        list.iter().find(|one| one["seq"] == seq).map(|one| one["fate"].as_str().unwrap().to_owned())
    };
    assert_eq!((fate(seq), fate(before)), (Some("reverted".into()), Some("confirmed".into())), "{history}");

    // It is not tried again, also by an agent that starts anew.
    site.edge.agent.crash().unwrap();
    site.edge.agent_again().unwrap();
    wait_for_state(&site, "reverted", before);
    assert!(!routes(&site).contains(&address::CENTER.to_string()), "{}", routes(&site));
}

#[test]
fn a_center_that_was_down_before_reverts_nothing() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice"]);
    site.center.serving.crash().unwrap();
    let seq = put_on_trial(&mut site, |config| config["tunnel"]["routes"] = json!(["10.66.0.0/16"]));
    wait_for_state(&site, "confirmed", seq);
    assert!(routes(&site).contains("10.66.0.0/16"), "{}", routes(&site));
    // The center comes back, and the box is not cut off from it.
    site.center.serve_again().unwrap();
    let reachable = || !condition_codes(&site).contains(&"center-unreachable".to_owned());
    wait::until("the center to be heard", PATIENCE, reachable).unwrap();
}

#[test]
fn a_change_that_the_kernel_refuses_leaves_the_one_before_whole() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice"]);
    let before = config_state(&site).1;
    let addresses = |site: &Site| {
        let shown =
            site.net.edge.output("ip", &["-o", "addr", "show", "dev", site.edge.interface()]).unwrap();
        shown.lines().filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect::<Vec<_>>()
    };
    let was = addresses(&site);
    // The kernel takes the first address and refuses the second: this interface may have no IPv6.
    let knob = format!("net/ipv6/conf/{}/disable_ipv6", site.edge.interface());
    site.net.edge.sysctl(&knob, "1").unwrap();
    put_on_trial(&mut site, |config| {
        config["tunnel"]["addresses"] = json!(["10.77.0.1/16", "fd00:77:1::1/64"]);
        config["tunnel"]["listen_port"] = 51999.into();
    });
    let refused = || condition_codes(&site).contains(&"config-refused".to_owned());
    wait::until("the refusal", PATIENCE, refused).unwrap();
    let whole = || {
        let status = site.edge.edgectl(&["status"]).unwrap();
        let tunnel = &status["tunnel"]["status"];
        addresses(&site)
            .iter()
            .filter(|one| !one.starts_with("fe80"))
            .eq(was.iter().filter(|one| !one.starts_with("fe80")))
            && tunnel["policy_seq"] == before
            && tunnel["listen_port"] == 51820
    };
    wait::until("the configuration before, whole", PATIENCE, whole)
        .unwrap_or_else(|error| panic!("{error}: {:?} {}", addresses(&site), site.edge.agent.log()));
}

#[test]
fn a_technician_confirms_goes_back_and_is_asked_before_he_loses_the_center() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice"]);
    let before = config_state(&site).1;
    let confirm_long = |config: &mut Value| {
        cut_the_center_off(config);
        config["confirm_s"] = 600.into();
    };
    let seq = put_on_trial(&mut site, confirm_long);
    wait::until("the route of the new configuration", PATIENCE, || {
        routes(&site).contains(&address::CENTER.to_string())
    })
    .unwrap();
    let refusal = wait::for_value("a refusal to lose the center", PATIENCE, || {
        let answer = site.edge.edgectl(&["config", "confirm"]);
        Ok(answer
            .err()
            .map(|error| error.to_string())
            .filter(|text| text.contains("--accept-risk=lose-center")))
    });
    refusal.unwrap();
    let diff = site.edge.edgectl(&["config", "diff"]).unwrap().to_string();
    assert!(diff.contains("tunnel.routes") && diff.contains(&address::CENTER.to_string()), "{diff}");
    site.edge.edgectl(&["config", "confirm", "--accept-risk=lose-center"]).unwrap();
    assert_eq!(config_state(&site), ("confirmed".into(), seq));

    let back = site.edge.edgectl(&["config", "rollback"]).unwrap();
    assert_eq!(field(&back, "seq").and_then(Value::as_u64), Some(before), "{back}");
    wait_for_state(&site, "rolled-back", before);
    wait::until("the route to be gone", PATIENCE, || !routes(&site).contains(&address::CENTER.to_string()))
        .unwrap();
    let shown =
        site.edge.edgectl(&["config", "diff", &before.to_string(), &seq.to_string()]).unwrap().to_string();
    let secret = {
        let envelope = Envelope::parse(&std::fs::read(folder(&site).join("current.json")).unwrap()).unwrap();
        let config: Value = serde_json::from_slice(envelope.payload.0.as_slice()).unwrap();
        config["tunnel"]["owners"][0]["psk_root"]["secret"].as_str().unwrap().to_owned()
    };
    let content = site.edge.edgectl(&["config", "show"]).unwrap().to_string();
    assert!(!shown.contains(&secret) && !content.contains(&secret), "a secret is shown");
}

#[test]
fn most_clients_go_only_with_an_admins_leave() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice", "bob", "carol", "dave", "erin", "frank"]);
    let names = ["alice", "bob", "carol", "dave", "erin", "frank"];
    let clients: Vec<String> = names.map(|name| site.enrol(name, true).id).to_vec();
    let pushed = |site: &Site| {
        let config = site.edge.edgectl(&["config"]).unwrap();
        config["content"]["tunnel"]["owners"][0]["clients"].as_array().map_or(0, Vec::len)
    };
    wait::until("all clients to be pushed", PATIENCE, || pushed(&site) == names.len()).unwrap();
    // Gone while the edge does not look: at once, to it.
    site.edge.agent.crash().unwrap();
    for id in &clients[1..] {
        site.center.admin(&["client", "revoke", id]).unwrap();
    }
    // One that was made on the way would take away half of them, which needs no leave.
    let mut newest = (None, Instant::now());
    wait::until("the last configuration", PATIENCE, || {
        let shown = site.center.admin(&["edge", "show", &site.edge_id]).unwrap();
        let seq = field(&shown, "config_seq").and_then(Value::as_u64);
        if seq != newest.0 {
            newest = (seq, Instant::now());
        }
        newest.1.elapsed() > Duration::from_secs(2)
    })
    .unwrap();
    site.edge.agent_again().unwrap();
    let outcome = wait::for_value("the refusal at the center", PATIENCE, || {
        let shown = site.center.admin(&["edge", "show", &site.edge_id])?;
        let outcome = field(&shown, "outcome").map(Value::to_string).unwrap_or_default();
        Ok(outcome.contains("allow_shrink").then_some(outcome))
    });
    assert!(outcome.unwrap().contains("removes 5 of 6 peers"));
    assert_eq!(pushed(&site), names.len(), "nothing was removed");
    // Revoked is revoked all the same: that goes by the list.
    site.center.proof(&clients[1], PATIENCE).unwrap();

    site.center.admin(&["edge", "allow-shrink", &site.edge_id]).unwrap();
    wait::until("the clients to be gone", PATIENCE, || pushed(&site) == 1).unwrap();
    site.center.confirmed(&site.edge_id, 1, PATIENCE).unwrap();
}
