//! The center's wall clock, read in one place.

use jiff::Timestamp;

/// Now, Unix nanoseconds. 64 bits last until the year 2262.
pub(crate) fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Now, Unix seconds.
pub(crate) fn now_s() -> i64 {
    Timestamp::now().as_second()
}

/// A stored time as a type. Times outside jiff's range become its ends.
pub(crate) fn timestamp_ns(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A stored time as a type.
pub(crate) fn timestamp_s(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
