//! Whether an uplink carries, from one answer or none in each second.
//!
//! Three seconds of silence are enough to leave it: with the second in which it fails, others carry within five. It
//! must be well for five seconds to be trusted again, or a line that comes and goes would take everyone with it.

/// Rounds without an answer until an uplink does not carry.
pub const SILENT: u32 = 3;
/// Rounds with an answer, one after the other, until it carries again.
pub const WELL: u32 = 5;

/// What is known of one uplink. It is trusted until it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    failed: bool,
    /// Rounds in a row that speak against what is held true.
    against: u32,
}

impl Health {
    /// Whether it carries.
    #[must_use]
    pub const fn carries(self) -> bool {
        !self.failed
    }

    /// Takes what came of one round. Returns whether that changed anything.
    pub const fn round(&mut self, answered: bool) -> bool {
        if answered != self.failed {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = if self.failed { WELL } else { SILENT };
        if self.against < enough {
            return false;
        }
        *self = Self { failed: !self.failed, against: 0 };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rounds: &str) -> String {
        let mut health = Health::default();
        let word = |one: char| {
            health.round(one == '!');
            if health.carries() { '+' } else { '-' }
        };
        rounds.chars().map(word).collect()
    }

    #[test]
    fn fails_after_three_and_is_well_after_five() {
        assert_eq!(run("!!..!...!!!!!"), "++++++".to_owned() + "+" + "-----+");
        assert_eq!(run("...!!!!.!!!!!"), "++----------+", "five in a row");
        assert_eq!(run("!.!.!..!"), "++++++++", "single losses are nothing");
    }
}
