//! Two configurations side by side, for people: which path says what, before and after.
//!
//! Secrets are left out on both sides before anything is compared, so no output of this file holds one; long
//! octets are shown by their hash. Lists of plain values are compared as sets: their order means nothing.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use verona_contract::config::EdgeConfig;

/// Fields whose value is nobody's business, wherever they are.
const SECRET: [&str; 5] = ["secret", "password", "private_key", "token", "preshared_key"];

/// In the place of a secret.
const HIDDEN: &str = "(secret)";

/// Text longer than this is octets, and shown by its hash.
const LONG: usize = 80;

/// One line of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Such as `tunnel.owners[0].max_clients`.
    pub path: String,
    /// None = it was not there.
    pub before: Option<String>,
    /// None = it is not there any more.
    pub after: Option<String>,
}

/// `config` without secrets, long octets by their hash.
#[must_use]
pub fn shown(config: &EdgeConfig) -> Value {
    // Plain data always encodes.
    let mut value = serde_json::to_value(config).unwrap_or_default();
    hide(&mut value);
    value
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if SECRET.contains(&name.as_str()) {
                    *value = HIDDEN.into();
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(hide),
        Value::String(text) if text.len() > LONG => {
            let hash = verona_contract::key::to_hex(&digest(&SHA256, text.as_bytes()).as_ref()[..8]);
            *text = format!("{} octets, sha256 {hash}…", text.len() / 4 * 3);
        }
        _ => {}
    }
}

/// What differs, in the order of the paths.
#[must_use]
pub fn changes(before: &EdgeConfig, after: &EdgeConfig) -> Vec<Change> {
    let mut found = Vec::new();
    compare(String::new(), Some(&shown(before)), Some(&shown(after)), &mut found);
    found
}

fn compare(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(path, old.get(name), new.get(name), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if plain(old) && plain(new) => {
            let texts = |values: &[Value]| values.iter().map(text).collect::<BTreeSet<String>>();
            let (old, new) = (texts(old), texts(new));
            let gone = old.difference(&new).map(|one| (Some(one.clone()), None));
            let come = new.difference(&old).map(|one| (None, Some(one.clone())));
            let path = format!("{path}[]");
            found.extend(gone.chain(come).map(|(before, after)| Change {
                path: path.clone(),
                before,
                after,
            }));
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                compare(format!("{path}[{index}]"), old.get(index), new.get(index), found);
            }
        }
        (before, after) if before == after => {}
        (before, after) => {
            found.push(Change { path, before: before.map(text), after: after.map(text) });
        }
    }
}

fn plain(values: &[Value]) -> bool {
    !values.iter().any(|value| value.is_object() || value.is_array())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(change: impl FnOnce(&mut Value)) -> EdgeConfig {
        let mut config = json!({
            "edge_id": uuid::Uuid::nil(), "seq": 1, "issued_at": "2026-01-02T03:04:05Z", "minimum_agent": "0.1.0",
            "tunnel": {
                "addresses": ["10.8.0.1/16"], "listen_port": 51820, "mtu": 1420, "routes": ["10.1.0.0/16", "10.2.0.0/16"],
                "owners": [{
                    "owner": "acme", "anchors": ["MAA="], "crl": { "grace_s": 1, "stale": "deny-new" },
                    "psk_root": { "id": 1, "secret": verona_contract::base64::encode([9; 32]) },
                    "clients": [verona_contract::base64::encode([7; 300])], "max_clients": 10,
                }],
            },
        });
        change(&mut config);
        EdgeConfig::parse(config.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn paths_before_and_after() {
        let before = config(|_| {});
        let after = config(|json| {
            json["seq"] = 2.into();
            json["confirm_s"] = 30.into();
            json["tunnel"]["routes"] = json!(["10.3.0.0/16", "10.1.0.0/16"]);
            json["tunnel"]["owners"][0]["clients"] = json!([]);
            json["tunnel"]["owners"][0]["max_clients"] = 11.into();
            json["tunnel"]["owners"][0]["psk_root"] =
                json!({ "id": 2, "secret": verona_contract::base64::encode([5; 32]) });
        });
        assert_eq!(changes(&before, &before), []);
        let lines: Vec<String> = changes(&before, &after)
            .iter()
            .map(|change| {
                let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".into());
                format!("{} {} > {}", change.path, side(&change.before), side(&change.after))
            })
            .collect();
        let client = &lines[2];
        assert!(client.starts_with("tunnel.owners[0].clients[] 300 octets, sha256 "), "{client}");
        let rest: Vec<&str> = lines.iter().map(String::as_str).filter(|line| line != client).collect();
        assert_eq!(
            rest,
            [
                "confirm_s - > 30",
                "seq 1 > 2",
                "tunnel.owners[0].max_clients 10 > 11",
                "tunnel.owners[0].psk_root.id 1 > 2",
                "tunnel.routes[] 10.2.0.0/16 > -",
                "tunnel.routes[] - > 10.3.0.0/16",
            ]
        );
    }

    #[test]
    fn no_secret_is_shown() {
        let secret = [0x5a; 32];
        let config = config(|json| {
            let root = json!({ "id": 1, "secret": verona_contract::base64::encode(secret) });
            json["tunnel"]["owners"][0]["psk_root"] = root;
        });
        let other = self::config(|_| {});
        let text = shown(&config).to_string() + &format!("{:?}", changes(&other, &config));
        assert!(text.contains(HIDDEN));
        assert!(!text.contains(&verona_contract::base64::encode(secret)), "{text}");
        let config = self::config(|json| {
            let pppoe = json!({ "pppoe": { "user": "user@example.ne.jp", "password": "hunter2hunter2" } });
            json["network"] = json!({ "wan": [{ "name": "fiber", "port": "eth0", "ipv4": pppoe }] });
        });
        let text = shown(&config).to_string() + &format!("{config:?} {:?}", changes(&other, &config));
        assert!(text.contains("user@example.ne.jp") && !text.contains("hunter2"), "{text}");
    }
}
