//! The state of the box as Prometheus reads it: text format 0.0.4 over HTTP, on a loopback address only.
//!
//! Off unless the command line gives an address. Names begin with `verona_`, units are base units. Each question
//! computes the state anew, so that no figure outlives what it tells of.

use crate::agent::Agent;
use crate::local::{ConfigState, State};
use edge_agent_core::condition::Code;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::fmt::{Display, Write as _};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at a time; more wait.
const CONNECTIONS: usize = 8;

/// For a whole connection: whoever holds one longer does not read.
const LIMIT: Duration = Duration::from_secs(15);

/// Reads a loopback address.
///
/// # Errors
///
/// The rule.
pub fn loopback(text: &str) -> Result<SocketAddr, &'static str> {
    let address: SocketAddr = text.parse().map_err(|_| "must be address:port")?;
    if address.ip().is_loopback() { Ok(address) } else { Err("must be a loopback address") }
}

/// Serves for ever.
///
/// # Errors
///
/// The address is taken.
pub async fn serve(address: SocketAddr, agent: Arc<Agent>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: the others must end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let agent = agent.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(&agent, request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            // The reader's business: it went away.
            let _ = tokio::time::timeout(LIMIT, connection).await;
            drop(place);
        });
    }
}

async fn answer(agent: &Agent, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let found = request.uri().path() == "/metrics" && request.method() == hyper::Method::GET;
    let (status, text) = if found {
        (StatusCode::OK, text(&agent.state().await))
    } else {
        (StatusCode::NOT_FOUND, String::new())
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// Lines under construction.
#[derive(Default)]
struct Text(String);

impl Text {
    /// One metric with its samples: labels as they are written, and values.
    fn metric(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = (String, f64)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP verona_{name} {help}\n# TYPE verona_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(self.0, "verona_{name}{labels} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: Option<f64>) {
        self.metric(name, "gauge", help, value.map(|value| (String::new(), value)));
    }
}

/// `{name="value"}`. Values are names of ours, without quotes or backslashes.
fn label(name: &str, value: impl Display) -> String {
    let value = value.to_string().replace(['"', '\\', '\n'], "_");
    format!("{{{name}=\"{value}\"}}")
}

fn flag(value: bool) -> Option<f64> {
    Some(if value { 1.0 } else { 0.0 })
}

/// Beyond 2^53 a float loses single units, which no reader would miss.
fn number(value: u64) -> f64 {
    value as f64
}

fn text(state: &State) -> String {
    let mut text = Text::default();
    text.metric("agent_info", "gauge", "The agent and its version.", [(label("version", &state.agent), 1.0)]);
    let there = |code: Code| state.conditions.iter().any(|condition| condition.code == code);
    let conditions = Code::ALL.map(|code| (label("code", code), if there(code) { 1.0 } else { 0.0 }));
    text.metric("condition", "gauge", "1 while the condition is there.", conditions);
    text.gauge("center_reachable", "1 while the center answers.", flag(state.center.reachable));
    let contact = state.center.last_contact_ns.map(|ns| ns as f64 / 1e9);
    text.gauge("center_last_contact_timestamp_seconds", "Last answer of the center.", contact);
    text.gauge("config_seq", "Number of the configuration in force.", state.config.seq.map(number));
    let on_trial = state.config.state == ConfigState::OnTrial;
    text.gauge("config_on_trial", "1 while a newer configuration is on trial.", flag(on_trial));
    let end = state.certificate.as_ref().map(|certificate| certificate.not_after as f64);
    text.gauge("certificate_not_after_timestamp_seconds", "End of the operational certificate.", end);
    text.gauge("clock_trusted", "1 while the wall clock is believed.", flag(state.clock.trusted));
    text.gauge("acks_pending", "Acknowledgements on their way.", Some(state.acks_pending as f64));
    tunnel(&mut text, state);
    spool(&mut text, state);
    text.0
}

fn tunnel(text: &mut Text, state: &State) {
    text.gauge("tunnel_up", "1 while the data plane answers.", flag(state.tunnel.up));
    let Some(status) = &state.tunnel.status else { return };
    text.gauge("tunnel_sessions", "Sessions alive.", Some(status.sessions as f64));
    text.gauge("tunnel_peers", "Certified peers known.", Some(status.records as f64));
    let refused =
        status.counters.refused.iter().map(|(reason, count)| (label("reason", reason), number(*count)));
    text.metric("tunnel_refused_total", "counter", "Handshakes and introductions refused.", refused);
    let totals = status.counters.totals.iter().map(|(what, count)| (label("what", what), number(*count)));
    text.metric("tunnel_events_total", "counter", "What the data plane counts, octets among it.", totals);
}

fn spool(text: &mut Text, state: &State) {
    let Some(usage) = &state.spool else { return };
    text.gauge("spool_bytes", "Log records on the disk.", Some(number(usage.octets)));
    text.gauge("spool_quota_bytes", "What they may take.", Some(number(usage.quota)));
    text.gauge("spool_damaged_segments", "Segments set aside.", Some(usage.damaged as f64));
    text.gauge("spool_refused_records", "Records that the center refused.", Some(number(usage.refused)));
    let unsent = usage
        .streams
        .iter()
        .map(|(stream, one)| (label("stream", stream), number(one.last_seq.saturating_sub(one.sent_seq))));
    text.metric("spool_unsent_records", "gauge", "Records that the center does not have.", unsent);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_only() {
        assert!(loopback("127.0.0.1:9586").is_ok() && loopback("[::1]:9586").is_ok());
        for bad in ["0.0.0.0:9586", "192.0.2.1:9586", "[::]:9586", "9586", "localhost:9586"] {
            assert!(loopback(bad).is_err(), "{bad}");
        }
    }
}
