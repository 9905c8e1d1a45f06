//! The product's programs as processes of a run: center, edge, Verona Client, and a stock WireGuard client.
//!
//! Only command lines and places are decided here, never what an answer should be: that is for the demo and
//! the tests. Programs talk JSON (`--json`), and their answers come back as [`serde_json::Value`]s.

mod appliance;
mod center;
mod edge;
mod stock;
mod verona;

pub use appliance::{Appliance, Start};
pub use center::{Center, PORT as CENTER_PORT};
pub use edge::{Edge, LISTEN_PORT, METRICS, USER as EDGE_USER};
pub use stock::StockClient;
pub use verona::VeronaClient;

use crate::{Error, Namespace, Result, workspace};
use serde_json::Value;
use std::time::Duration;

/// How long a program may take until it is ready. A loaded machine of two cores needs some of it.
const READY: Duration = Duration::from_secs(20);

/// Runs one of the workspace's programs inside to its end and reads the JSON that it prints.
fn ask(place: &Namespace, program: &str, arguments: &[&str]) -> Result<Value> {
    let text = place.output(workspace::binary(program)?, arguments)?;
    serde_json::from_str(&text).map_err(|e| Error::Io {
        doing: format!("read what `{program} {}` printed as JSON: {text:?}", arguments.join(" ")),
        source: e.into(),
    })
}

/// A text of a JSON answer.
///
/// # Errors
///
/// There is none at `pointer` (RFC 6901).
pub fn text<'a>(answer: &'a Value, pointer: &str) -> Result<&'a str> {
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .ok_or_else(|| Error::Environment(format!("no text at {pointer} of {answer}")))
}

/// The first field called `name`, at any depth of a JSON answer.
#[must_use]
pub fn field<'a>(answer: &'a Value, name: &str) -> Option<&'a Value> {
    match answer {
        Value::Object(fields) => {
            fields.get(name).or_else(|| fields.values().find_map(|inner| field(inner, name)))
        }
        Value::Array(items) => items.iter().find_map(|item| field(item, name)),
        _ => None,
    }
}
