//! What the box says of itself to those who watch over it: checks, conditions, metrics.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::{Run, alone, wait};
use std::collections::BTreeSet;
use verona_tests::site::{PATIENCE, Site};

/// The line that `edgectl status --check` says no with.
fn check(site: &Site, check: &str) -> Result<(), String> {
    site.edge.check(check).map_err(|error| error.to_string())
}

fn metrics(site: &Site) -> String {
    let url = format!("http://{}/metrics", lab::parts::METRICS);
    site.net.edge.output("curl", &["-sS", "--fail", "--max-time", "10", &url]).unwrap()
}

fn value(text: &str, sample: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

/// The text format 0.0.4: each family once, with its help and type before its samples, each sample once.
fn assert_well_formed(text: &str) {
    assert!(text.ends_with('\n'));
    let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
    let mut family = "";
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap();
            assert!(families.insert(family), "{family} comes twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(name == family && ["gauge", "counter"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (sample, number) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            assert_eq!(name, family, "{line}");
            assert!(
                name.starts_with("verona_") && name.bytes().all(|o| o == b'_' || o.is_ascii_lowercase()),
                "{line}"
            );
            assert!(number.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            assert!(samples.insert(sample), "{sample} comes twice");
        }
    }
    assert!(families.len() > 12, "{text}");
}

#[test]
fn checks_and_metrics_tell_the_truth() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice"]);
    let _alice = site.connect("alice");
    let down = "verona_condition{code=\"tunnel-down\"}";
    for name in ["live", "startup", "ready"] {
        wait::until(&format!("the box to be {name}"), PATIENCE, || check(&site, name).is_ok()).unwrap();
    }
    let text = metrics(&site);
    assert_well_formed(&text);
    assert_eq!(value(&text, down), Some(0.0), "{text}");
    assert_eq!(value(&text, "verona_tunnel_sessions"), Some(1.0), "{text}");
    assert_eq!(value(&text, "verona_center_reachable"), Some(1.0), "{text}");
    assert!(value(&text, "verona_config_seq").is_some_and(|seq| seq >= 1.0), "{text}");

    site.edge.tunnel.crash().unwrap();
    let refusal = check(&site, "ready").unwrap_err();
    assert!(refusal.contains("tunnel-down"), "{refusal}");
    assert_eq!((check(&site, "live"), check(&site, "startup")), (Ok(()), Ok(())), "only what it needs");
    let text = metrics(&site);
    assert_well_formed(&text);
    assert_eq!((value(&text, down), value(&text, "verona_tunnel_up")), (Some(1.0), Some(0.0)), "{text}");

    site.edge.tunnel_again().unwrap();
    wait::until("the box to be ready again", PATIENCE, || check(&site, "ready").is_ok()).unwrap();
    site.edge.agent.crash().unwrap();
    assert!(check(&site, "live").is_err(), "nobody is there to say yes");
}
