//! The bill of materials (CycloneDX 1.5, JSON): every Debian package that has a file in the image, and every crate
//! that is linked into our programs.
//!
//! Without a time and with an identifier derived from the content, so that it is the same for the same image.

use super::apt::Package;
use super::tool::{Tool, ToolError};
use crate::digest::{Sha256, hex};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The crates of the checkout could not be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SbomError {
    #[error("asking cargo for the crates of our programs")]
    Cargo(#[from] ToolError),
    #[error("what cargo tells of the crates of our programs has another form than expected")]
    Form,
}

/// What is told of a crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Crate {
    name: String,
    version: String,
    licence: Option<String>,
}

/// Writes the bill for `name` of `version`.
pub(crate) fn bill(name: &str, version: &str, packages: &BTreeSet<&Package>, crates: &[Crate]) -> String {
    let mut components = Vec::new();
    for Package { name, version, architecture, .. } in packages {
        let encoded = version.replace(':', "%3A").replace('+', "%2B");
        components.push(json!({
            "type": "library",
            "name": name,
            "version": version,
            "purl": format!("pkg:deb/debian/{name}@{encoded}?arch={architecture}&distro=bookworm"),
        }));
    }
    for Crate { name, version, licence } in crates {
        let mut component = json!({
            "type": "library",
            "name": name,
            "version": version,
            "purl": format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")),
        });
        if let Some(expression) = licence {
            component["licenses"] = json!([{ "expression": expression.replace('/', " OR ") }]);
        }
        components.push(component);
    }
    let mut document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": { "type": "firmware", "name": name, "version": version } },
        "components": components,
    });
    let sum = hex(&Sha256::of(document.to_string().as_bytes()));
    // A version 8 UUID (RFC 9562 §5.8): the bits that are ours to choose are the checksum's.
    let part = |from: usize, to: usize| sum.get(from..to).unwrap_or_default();
    let serial = format!(
        "urn:uuid:{}-{}-8{}-a{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 15),
        part(15, 18),
        part(18, 30)
    );
    document["serialNumber"] = json!(serial);
    format!("{document:#}\n")
}

/// The crates linked into the programs of `roots`, for the platform of the image.
///
/// # Errors
///
/// cargo cannot tell.
pub(crate) fn crates_of(sources: &Path, roots: &[&str], target: &str) -> Result<Vec<Crate>, SbomError> {
    let tool = Tool::cargo(sources).arguments([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        target,
    ]);
    let metadata: Value = serde_json::from_str(&tool.output()?).map_err(|_| SbomError::Form)?;
    linked(&metadata, roots).ok_or(SbomError::Form)
}

fn linked(metadata: &Value, roots: &[&str]) -> Option<Vec<Crate>> {
    let mut known = BTreeMap::new();
    for package in metadata["packages"].as_array()? {
        known.insert(package["id"].as_str()?, package);
    }
    let mut needs = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array()? {
        let linked = node["deps"].as_array()?.iter().filter(|dependency| is_linked(dependency));
        let ids: Vec<&str> = linked.filter_map(|dependency| dependency["pkg"].as_str()).collect();
        needs.insert(node["id"].as_str()?, ids);
    }
    let mut open: Vec<&str> = Vec::new();
    for root in roots {
        open.push(known.iter().find(|(_, package)| package["name"] == **root)?.0);
    }
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(needs.get(id)?);
        }
    }
    let text = |package: &Value, field: &str| package[field].as_str().map(str::to_owned);
    let mut crates: Vec<Crate> = Vec::new();
    for id in seen {
        let package = known.get(id)?;
        let (name, version) = (text(package, "name")?, text(package, "version")?);
        crates.push(Crate { name, version, licence: text(package, "license") });
    }
    crates.sort();
    Some(crates)
}

/// Neither for tests nor for build scripts only.
fn is_linked(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array();
    kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn what_is_linked_and_nothing_else() {
        let dependency = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let package =
            |name: &str| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/ISC" });
        let packages = ["agent", "serde", "syn", "tempfile", "other"].map(package);
        let metadata = json!({
            "packages": packages,
            "resolve": { "nodes": [
                { "id": "agent", "deps": [
                    dependency("serde", Value::Null),
                    dependency("tempfile", json!("dev")),
                    dependency("syn", json!("build")),
                ] },
                { "id": "serde", "deps": [] },
                { "id": "syn", "deps": [] },
                { "id": "tempfile", "deps": [] },
                { "id": "other", "deps": [] },
            ] },
        });
        let crates = linked(&metadata, &["agent"]).unwrap();
        let names: Vec<_> = crates.iter().map(|of| of.name.as_str()).collect();
        assert_eq!(names, ["agent", "serde"]);
        assert!(linked(&metadata, &["missing"]).is_none());

        let file = PathBuf::new();
        let package = Package {
            name: "dmsetup".into(),
            version: "2:1.02.185-2".into(),
            architecture: "amd64".into(),
            file,
        };
        let bill = bill("verona-edge", "0.1.0", &BTreeSet::from([&package]), &crates);
        assert!(bill.contains("pkg:deb/debian/dmsetup@2%3A1.02.185-2?arch=amd64"), "{bill}");
        assert!(bill.contains("\"MIT OR ISC\""), "{bill}");
    }
}
