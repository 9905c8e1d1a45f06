//! What a person means by the buttons of a box: switch it off, restart it, or take its configuration.
//!
//! A power button is told by ACPI as pressed and released at once, and one that is held switches the machine off by
//! itself: so its presses are counted. A reset button is held.

use std::time::Duration;

/// A button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// Every machine has one.
    Power,
    /// Boxes made for this have one, mostly behind a hole for a pin.
    Reset,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As at the end of a day; the hypervisor's polite way, too.
    SwitchOff,
    /// The box starts again as it is.
    Restart,
    /// Take the configuration, keep the identity, restart.
    FactoryReset,
}

/// So many presses of the power button in a row are a factory reset: nobody does that by accident.
const PRESSES: u32 = 5;
/// The longest pause in such a row. A box that is to be switched off waits for so long first.
const PAUSE: Duration = Duration::from_secs(2);
/// A reset button that is held for so long is a factory reset.
const HELD: Duration = Duration::from_secs(10);

/// The buttons of one box. Times are since any moment before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buttons {
    /// Presses of the power button in a row, and when the last one came.
    presses: Option<(u32, Duration)>,
    /// Since when the reset button is held.
    held: Option<Duration>,
}

impl Buttons {
    /// Takes a button that was pressed, or released, at `now`.
    pub fn handle(&mut self, now: Duration, button: Button, pressed: bool) -> Option<Order> {
        match (button, pressed) {
            (Button::Power, true) => {
                let before = self.presses.filter(|(_, last)| now.saturating_sub(*last) < PAUSE);
                let count = before.map_or(1, |(count, _)| count + 1);
                self.presses = (count < PRESSES).then_some((count, now));
                (count == PRESSES).then_some(Order::FactoryReset)
            }
            (Button::Power, false) => None,
            (Button::Reset, true) => {
                self.held = Some(now);
                None
            }
            (Button::Reset, false) => {
                let long = self.held.take().map(|since| now.saturating_sub(since) >= HELD)?;
                Some(if long { Order::FactoryReset } else { Order::Restart })
            }
        }
    }

    /// When [`Buttons::poll`] may have something to say, without a button.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let row = self.presses.map(|(_, last)| last + PAUSE);
        row.into_iter().chain(self.held.map(|since| since + HELD)).min()
    }

    /// What the time that has passed until `now` decides.
    pub fn poll(&mut self, now: Duration) -> Option<Order> {
        if self.held.is_some_and(|since| now >= since + HELD) {
            // Its release means nothing any more.
            self.held = None;
            return Some(Order::FactoryReset);
        }
        self.presses.take_if(|(_, last)| now >= *last + PAUSE).map(|_| Order::SwitchOff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Presses the power button at these times, and gives what each did.
    fn power(buttons: &mut Buttons, times: &[u64]) -> Vec<Option<Order>> {
        let press = |at: &u64| {
            let order = buttons.handle(MS(*at), Button::Power, true);
            buttons.handle(MS(*at + 1), Button::Power, false).or(order)
        };
        times.iter().map(press).collect()
    }

    #[test]
    fn one_press_switches_off_after_a_pause() {
        let mut buttons = Buttons::default();
        assert_eq!(buttons.poll_timeout(), None);
        assert_eq!(power(&mut buttons, &[1000]), [None]);
        assert_eq!(buttons.poll_timeout(), Some(MS(3000)));
        assert_eq!(buttons.poll(MS(2999)), None);
        assert_eq!(buttons.poll(MS(3000)), Some(Order::SwitchOff));
        assert_eq!((buttons.poll(MS(9000)), buttons.poll_timeout()), (None, None), "once");
    }

    #[test]
    fn five_in_a_row_are_a_reset_and_fewer_are_not() {
        let mut buttons = Buttons::default();
        let orders = power(&mut buttons, &[0, 1999, 3000, 3100, 3200]);
        assert_eq!(orders, [None, None, None, None, Some(Order::FactoryReset)]);
        assert_eq!(buttons.poll_timeout(), None, "and the box is not switched off on top");
        // A pause begins another row.
        assert_eq!(power(&mut buttons, &[10_000, 10_500, 11_000, 11_500, 13_500]), [None; 5]);
        assert_eq!(buttons.poll(MS(15_500)), Some(Order::SwitchOff));
    }

    #[test]
    fn a_reset_button_restarts_and_held_it_resets_while_it_is_held() {
        let mut buttons = Buttons::default();
        assert_eq!(buttons.handle(MS(0), Button::Reset, true), None);
        assert_eq!(buttons.poll_timeout(), Some(MS(10_000)));
        assert_eq!(buttons.poll(MS(9999)), None);
        assert_eq!(buttons.handle(MS(9999), Button::Reset, false), Some(Order::Restart));

        assert_eq!(buttons.handle(MS(20_000), Button::Reset, true), None);
        assert_eq!(buttons.poll(MS(30_000)), Some(Order::FactoryReset));
        assert_eq!(buttons.handle(MS(31_000), Button::Reset, false), None, "its release");
        assert_eq!(buttons.poll_timeout(), None);
    }
}
