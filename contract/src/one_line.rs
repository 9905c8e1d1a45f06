//! Foreign text in our messages: an error that quotes what it was given must stay one line.
//!
//! JSON's errors repeat the field name that they do not know, and a name may hold any character. In a log a
//! line break is the end of a record, and an escape sequence an order to the terminal.

use std::fmt::{Display, Write as _};

/// The text of `error` with its control characters escaped (`\n`, `\u{1b}`).
#[must_use]
pub fn one_line(error: impl Display) -> String {
    error.to_string().chars().fold(String::new(), |mut line, character| {
        let written = if character.is_control() {
            write!(line, "{}", character.escape_default())
        } else {
            line.write_char(character)
        };
        debug_assert!(written.is_ok(), "a String takes all");
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EdgeConfig;
    use crate::dsse::Envelope;
    use crate::provisioning::FactoryRecord;

    #[test]
    fn no_error_about_json_breaks_its_line() {
        assert_eq!(one_line("a\nb\u{1b}[2Jc é"), "a\\nb\\u{1b}[2Jc é");
        let json = br#"{"a\nb\u001b[2J": 1}"#;
        let errors = [
            EdgeConfig::parse(json).unwrap_err().to_string(),
            Envelope::parse(json).map(|_| ()).unwrap_err().to_string(),
            FactoryRecord::parse(json).map(|_| ()).unwrap_err().to_string(),
        ];
        for error in errors {
            assert!(!error.contains(char::is_control), "{error:?}");
            assert!(error.contains("a\\nb"), "the field is named: {error}");
        }
    }
}
