//! `POST /v1/logs`: OTLP/HTTP (OpenTelemetry protocol 1.x, logs), protobuf or JSON, gzip allowed.
//!
//! The edge in the records must be the edge of the certificate. Records that claim the place of others are
//! reported as OTLP's partial success and kept as alarms; sending them again would not help.

use super::body::{self, media_type};
use super::caller::EdgeCaller;
use super::failure::Failure;
use crate::center::Center;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use flate2::read::MultiGzDecoder;
use prost::Message as _;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use verona_contract::log::Record;
use verona_contract::otlp::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse, MAX_REQUEST, from_request,
};
use verona_contract::problem::Problem;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// Requests of one edge at once: one that is under way, and one of a connection that the edge has given up.
pub(crate) const MAX_OF_EDGE: usize = 2;

/// Bodies in memory at once, up to 16 MiB each. An edge that sends slowly holds its own share only.
static BODIES: Semaphore = Semaphore::const_new(32);

/// Requests decoded and stored at once; each takes a core. The rest waits, and is sent away after
/// [`PATIENCE`]: edges keep their records and come back.
static SLOTS: Semaphore = Semaphore::const_new(2);
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

/// Takes log records of the calling edge.
#[utoipa::path(post, path = "/v1/logs", tag = "edge",
    request_body(content = Vec<u8>, content_type = "application/x-protobuf",
        description = "opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest, also as JSON, also gzip"),
    responses((status = 200, description = "ExportLogsServiceResponse", content_type = "application/x-protobuf"),
        (status = 400, body = Problem), (status = 403, body = Problem), (status = 413, body = Problem),
        (status = 415, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn ingest(
    State(center): State<Arc<Center>>,
    edge: EdgeCaller,
    request: Request,
) -> Result<Response, Failure> {
    let encoding = match media_type(request.headers()) {
        Some(PROTOBUF) => Encoding::Protobuf,
        Some(JSON) => Encoding::Json,
        _ => return Err(Failure::media_type("application/x-protobuf or application/json")),
    };
    let gzip = is_gzip(request.headers())?;
    let _place = center.log_requests.take(edge.id).ok_or_else(|| {
        Failure::too_many(format!("an edge may send {MAX_OF_EDGE} log requests at once"), 1)
    })?;
    let _body = turn(&BODIES).await?;
    let octets = body::read(request.into_body(), MAX_REQUEST).await?;
    let _slot = turn(&SLOTS).await?;
    let records = tokio::task::spawn_blocking(move || decode(octets, encoding, gzip))
        .await
        .map_err(|_| Failure::bad("log request cannot be decoded"))??;
    if let Some(record) = records.iter().find(|record| record.edge != edge.id) {
        return Err(Failure::forbidden(format!("log record names edge {}, not the caller", record.edge)));
    }
    let stored = center.logs.store(edge.owner, records).await?;
    tracing::debug!(edge = %edge.id, stored.stored, stored.repeated, stored.refused, "log records");
    answer(encoding, stored.refused)
}

async fn turn(semaphore: &'static Semaphore) -> Result<SemaphorePermit<'static>, Failure> {
    let busy = || Failure::unavailable("too many log requests at once", 5);
    tokio::time::timeout(PATIENCE, semaphore.acquire()).await.map_err(|_| busy())?.map_err(|_| busy())
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Failure> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.to_str()) {
        None | Some(Ok("identity")) => Ok(false),
        Some(Ok("gzip")) => Ok(true),
        Some(_) => Err(Failure::media_type("sent with Content-Encoding gzip or identity")),
    }
}

fn decode(octets: Vec<u8>, encoding: Encoding, gzip: bool) -> Result<Vec<Record>, Failure> {
    let octets = if gzip { inflate(&octets)? } else { octets };
    let request: ExportLogsServiceRequest = match encoding {
        Encoding::Protobuf => ExportLogsServiceRequest::decode(octets.as_slice())
            .map_err(|error| Failure::bad(format!("body is not an OTLP logs request: {error}")))?,
        Encoding::Json => body::parse(&octets)?,
    };
    let records = from_request(request).map_err(|error| Failure::bad(error.to_string()))?;
    match records.iter().position(|record| record.seq == 0 || i64::try_from(record.seq).is_err()) {
        Some(index) => Err(Failure::bad(format!("log record {index}: verona.seq must be 1 to 2^63 - 1"))),
        None => Ok(records),
    }
}

/// Inflates up to the limit and not an octet further: a bomb costs what an honest request costs.
fn inflate(octets: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut inflated = Vec::new();
    MultiGzDecoder::new(octets)
        .take(MAX_REQUEST as u64 + 1)
        .read_to_end(&mut inflated)
        .map_err(|error| Failure::bad(format!("body is not gzip: {error}")))?;
    if inflated.len() > MAX_REQUEST { Err(Failure::too_large(MAX_REQUEST)) } else { Ok(inflated) }
}

fn answer(encoding: Encoding, refused: usize) -> Result<Response, Failure> {
    let partial_success = (refused > 0).then(|| ExportLogsPartialSuccess {
        rejected_log_records: i64::try_from(refused).unwrap_or(i64::MAX),
        error_message: "records with these numbers and another content are stored already".to_owned(),
    });
    // The JSON encoding leaves absent fields out; the derived one would write null.
    if partial_success.is_none() && encoding == Encoding::Json {
        return Ok(([(header::CONTENT_TYPE, JSON)], "{}").into_response());
    }
    let response = ExportLogsServiceResponse { partial_success };
    Ok(match encoding {
        Encoding::Protobuf => ([(header::CONTENT_TYPE, PROTOBUF)], response.encode_to_vec()).into_response(),
        Encoding::Json => axum::Json(response).into_response(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_gzip_bomb_stops_at_the_limit() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        for _ in 0..64 {
            encoder.write_all(&zeros).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 128 * 1024);
        let failure = decode(bomb, Encoding::Protobuf, true).unwrap_err();
        assert!(format!("{failure:?}").contains("body must be at most"), "{failure:?}");
    }

    #[test]
    fn wrong_bodies_are_named() {
        for (octets, encoding, gzip, detail) in [
            (b"\xff\xff".to_vec(), Encoding::Protobuf, false, "body is not an OTLP logs request"),
            (b"{".to_vec(), Encoding::Json, false, "body, "),
            (b"plain".to_vec(), Encoding::Json, true, "body is not gzip"),
        ] {
            let failure = decode(octets, encoding, gzip).unwrap_err();
            assert!(format!("{failure:?}").contains(detail), "{failure:?}");
        }
    }
}
