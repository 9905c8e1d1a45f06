//! Which firmware a box should run, where it comes from, and when the box may restart for it.
//!
//! The version is all that a configuration decides: what belongs to it, and whether it may be installed, is for the
//! signed firmware metadata and the box's own rules. So who can compose configurations cannot compose firmware.

use super::{ConfigError, Version};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Seconds over which the boxes of a ring spread their downloads.
const DEFAULT_SPREAD_S: u32 = 300;

/// The update section of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateConfig {
    /// The version that the box should run. A lower one than it runs is refused by the box.
    pub version: Version,
    /// `http://host[:port]/path` of a static web server with the firmware repository, which need not be trusted;
    /// none = the center.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// When the box may restart; none = at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Each box begins within so many seconds of learning of a version, 0 to 86,400. 0 makes ten thousand boxes
    /// download at once; a day makes an urgent fix a day late.
    #[serde(default = "default_spread")]
    pub spread_s: u32,
}

const fn default_spread() -> u32 {
    DEFAULT_SPREAD_S
}

impl UpdateConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fail = |path: &str, rule: &str| {
            Err(ConfigError { path: format!("update.{path}"), rule: rule.to_owned() })
        };
        if let Some(url) = &self.repository
            && (!url.starts_with("http://") || url.len() > 255 || url.contains(['?', '#', '@', ' ']))
        {
            return fail("repository", "http://host[:port]/path, at most 255 characters");
        }
        if self.spread_s > 86_400 {
            return fail("spread_s", "0 to 86400");
        }
        if self.window.as_ref().is_some_and(|window| !(5..=1440).contains(&window.minutes)) {
            return fail("window.minutes", "5 to 1440");
        }
        Ok(())
    }
}

/// When a box may restart. Times are UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Window {
    /// On which it opens; empty = every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// When it opens.
    pub start: TimeOfDay,
    /// How long it is open, 5 to 1440. A shorter one is missed by a box that is just downloading.
    pub minutes: u16,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[allow(missing_docs, reason = "they speak for themselves")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// `HH:MM`, 00:00 to 23:59.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String))]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// Minutes since midnight, below 1440.
    #[must_use]
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

/// Text that is not a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time of day is HH:MM, 00:00 to 23:59")]
pub struct TimeOfDayError;

impl FromStr for TimeOfDay {
    type Err = TimeOfDayError;

    fn from_str(text: &str) -> Result<Self, TimeOfDayError> {
        let number = |part: &str, end: u16| {
            let digits = part.len() == 2 && part.bytes().all(|octet| octet.is_ascii_digit());
            part.parse::<u16>().ok().filter(|value| digits && *value < end).ok_or(TimeOfDayError)
        };
        let (hours, minutes) = text.split_once(':').ok_or(TimeOfDayError)?;
        Ok(Self(number(hours, 24)? * 60 + number(minutes, 60)?))
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = TimeOfDayError;

    fn try_from(text: String) -> Result<Self, TimeOfDayError> {
        text.parse()
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections() {
        let read = |json: &str| {
            let section: UpdateConfig = serde_json::from_str(json).map_err(|error| error.to_string())?;
            section.check().map_err(|error| error.to_string()).map(|()| section)
        };
        let least = read(r#"{"version":"1.2.3"}"#).unwrap();
        assert_eq!((least.spread_s, least.window, least.repository), (300, None, None));
        let full = r#"{"version":"1.2.3","repository":"http://10.0.0.1:8000/firmware",
            "window":{"days":["sat","sun"],"start":"17:30","minutes":120},"spread_s":0}"#;
        let full = read(full).unwrap();
        let window = full.window.clone().unwrap();
        assert_eq!((window.start.minutes(), window.days[1]), (1050, Day::Sun));
        assert_eq!(read(&serde_json::to_string(&full).unwrap()).unwrap(), full);
        for (bad, named) in [
            (r#"{"version":"1.2"}"#, "version"),
            (r#"{"version":"1.2.3","repository":"ftp://host/"}"#, "update.repository"),
            (r#"{"version":"1.2.3","repository":"http://u@host/"}"#, "update.repository"),
            (r#"{"version":"1.2.3","spread_s":86401}"#, "update.spread_s"),
            (r#"{"version":"1.2.3","window":{"start":"01:00","minutes":4}}"#, "update.window.minutes"),
            (r#"{"version":"1.2.3","window":{"start":"24:00","minutes":60}}"#, "time of day"),
            (r#"{"version":"1.2.3","window":{"start":"1:00","minutes":60}}"#, "time of day"),
            (r#"{"version":"1.2.3","force":true}"#, "force"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(named), "{bad}: {error}");
        }
    }
}
