//! Columns of text and civil times.

use jiff::Timestamp;
use jiff::tz::{TimeZone, offset};

/// Rows under a head, each column as wide as its widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{:width$}", printable(cell)));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    rows.iter().fold(line(&head), |text, row| text + &line(row))
}

/// Text of another program: control characters could move a terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// Unix seconds in Japan, where the boxes are.
pub(crate) fn jst(unix_s: i64) -> String {
    civil(Timestamp::from_second(unix_s).ok(), "%Y-%m-%d %H:%M:%S JST")
}

/// Unix nanoseconds in Japan, with milliseconds.
pub(super) fn jst_ns(unix_ns: i64) -> String {
    civil(Timestamp::from_nanosecond(unix_ns.into()).ok(), "%Y-%m-%d %H:%M:%S%.3f JST")
}

/// The same moment in UTC.
pub(super) fn utc_ns(unix_ns: i64) -> String {
    let time = Timestamp::from_nanosecond(unix_ns.into());
    time.map_or_else(
        |_| "out of range".to_owned(),
        |time| time.strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string(),
    )
}

fn civil(time: Option<Timestamp>, format: &str) -> String {
    let zone = TimeZone::fixed(offset(9));
    time.map_or_else(|| "out of range".to_owned(), |time| time.to_zoned(zone).strftime(format).to_string())
}

/// Octets in a unit that reads.
pub(super) fn octets(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", count as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", count as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_needed() {
        let rows = [vec!["a".to_owned(), "long cell".to_owned()], vec!["bbbb".to_owned(), "c".to_owned()]];
        assert_eq!(table(&["X", "YY"], &rows), "X     YY\na     long cell\nbbbb  c\n");
    }

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
        assert_eq!(table(&["X"], &[vec!["a\u{1b}b".to_owned()]]), "X\na\u{fffd}b\n");
    }

    #[test]
    fn times_are_japanese() {
        assert_eq!(jst(0), "1970-01-01 09:00:00 JST");
        assert_eq!(jst_ns(1_767_225_600_123_000_000), "2026-01-01 09:00:00.123 JST");
        assert_eq!(jst(i64::MAX), "out of range");
        assert_eq!(octets(1536), "1.5 KiB");
    }
}
