//! `GET /v1/firmware/…`: the firmware repository as static files.
//!
//! Anyone may read it, and nobody need believe it: boxes verify its metadata. What is in it is the matter of
//! [`crate::firmware`]. Large files come in pieces only: a stranger makes us hold no more than one.

use super::failure::Failure;
use crate::center::Center;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use verona_contract::api::FIRMWARE_PIECE;
use verona_contract::problem::Problem;

/// A file of the firmware repository, or a piece of it.
#[utoipa::path(get, path = "/v1/firmware/{folder}/{name}", tag = "firmware",
    params(("folder" = String, Path, description = "`metadata` or `targets`"),
        ("name" = String, Path, description = "The file"),
        ("Range" = Option<String>, Header, description = "`bytes=FIRST-LAST`, at most 1 MiB")),
    responses((status = 200, description = "The file", content_type = "application/octet-stream"),
        (status = 206, description = "The piece", content_type = "application/octet-stream"),
        (status = 400, description = "More than 1 MiB is asked for", body = Problem),
        (status = 404, body = Problem), (status = 416, body = Problem)))]
pub(crate) async fn file(
    State(center): State<Arc<Center>>,
    Path((folder, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let unknown = || Failure::not_found("no such file in the firmware repository");
    if !["metadata", "targets"].contains(&folder.as_str()) || !is_name(&name) {
        return Err(unknown());
    }
    let path = center.firmware.join(&folder).join(&name);
    let failed = |error: io::Error| {
        tracing::error!(path = %path.display(), %error, "firmware repository");
        Failure::unavailable("the firmware repository cannot be read", 60)
    };
    let mut file = match tokio::fs::File::open(&path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown()),
        Err(error) => return Err(failed(error)),
    };
    let length = file.metadata().await.map_err(failed)?.len();
    let wanted = headers.get(header::RANGE).and_then(|value| value.to_str().ok()).and_then(parse);
    let in_part = wanted.is_some();
    let range = match wanted {
        // Of two pieces of a file that ends between them the first is meant (RFC 9110 §14.1.2).
        Some(range) if range.start < length => range.start..range.end.min(length),
        Some(_) => return Err(Failure::range(length)),
        None => 0..length,
    };
    if range.end - range.start > FIRMWARE_PIECE {
        return Err(Failure::bad(format!("Range must ask for at most {FIRMWARE_PIECE} octets of this file")));
    }
    let mut octets = Vec::new();
    file.seek(io::SeekFrom::Start(range.start)).await.map_err(failed)?;
    file.take(range.end - range.start).read_to_end(&mut octets).await.map_err(failed)?;
    // Only these two change their content; everything else has its version or its hash in its name.
    let cache = if name == "timestamp.json" { "no-cache" } else { "public, max-age=3600" };
    let fields = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CACHE_CONTROL, cache.to_owned()),
    ];
    // Without a range that we understand, the whole file is meant.
    if !in_part {
        return Ok((fields, octets).into_response());
    }
    let content = format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1));
    Ok((StatusCode::PARTIAL_CONTENT, fields, [(header::CONTENT_RANGE, content)], octets).into_response())
}

/// `bytes=FIRST-LAST`; other forms are as if they were not there.
fn parse(value: &str) -> Option<Range<u64>> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let digits =
        |text: &str| text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let (first, last): (u64, u64) = (digits(first)?, digits(last)?);
    Some(first..last.checked_add(1)?).filter(|range| range.start < range.end)
}

/// No way out of the folder.
fn is_name(name: &str) -> bool {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
    (1..=255).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_names() {
        for (text, range) in [
            ("bytes=0-0", Some(0..1)),
            ("bytes=100-199", Some(100..200)),
            ("bytes=2-1", None),
            ("bytes=-5", None),
            ("bytes=5-", None),
            ("bytes=0-1,3-4", None),
            ("bytes=+1-2", None),
            ("bytes=0-18446744073709551615", None),
            ("octets=0-1", None),
        ] {
            assert_eq!(parse(text), range, "{text}");
        }
        for (name, good) in [
            ("1.root.json", true),
            ("", false),
            (".", false),
            ("..", false),
            (".x", false),
            ("a/b", false),
            ("a%2f", false),
        ] {
            assert_eq!(is_name(name), good, "{name}");
        }
    }
}
