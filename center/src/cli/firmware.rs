//! `verona-center firmware`: the repository that edges update from, and which of them get which version.

use super::commands::run;
use super::{Access, FirmwareCommand, roles};
use std::process::ExitCode;
use verona_contract::api::{
    ADMIN_EDGES, ADMIN_RINGS, EDGE_UPDATE, EdgeFirmware, EdgeUpdate, Ring, UpdateEvent,
};
use verona_contract::config::{Day, Window};

pub(super) fn firmware(access: &Access, command: FirmwareCommand) -> anyhow::Result<ExitCode> {
    match command {
        FirmwareCommand::Publish { from, data } => {
            let files =
                roles::runtime(1)?.block_on(crate::firmware::publish(&from, &data.join("firmware")))?;
            println!("{files} files are published");
        }
        FirmwareCommand::Rings => {
            let print = |rings: &Vec<Ring>| rings.iter().for_each(ring);
            run(access, async |api| api.get(ADMIN_RINGS, &[]).await, print)?;
        }
        FirmwareCommand::Ring { name, version, spread } => {
            // Checked by the command line: at most a day.
            let spread_s = u32::try_from(spread).unwrap_or(u32::MAX);
            let body = Ring { name, version, spread_s };
            run(access, async |api| api.post(ADMIN_RINGS, &body).await, ring)?;
        }
        FirmwareCommand::Edge { id, ring, window, any_time } => {
            let path = format!("{ADMIN_EDGES}/{id}/{EDGE_UPDATE}");
            if ring.is_none() && window.is_none() && !any_time {
                run(access, async |api| api.get(&path, &[]).await, show)?;
            } else {
                let body = EdgeUpdate { ring, window, any_time };
                run(access, async |api| api.post(&path, &body).await, show)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn ring(ring: &Ring) {
    println!("{}  version {}  spread over {} s", ring.name, ring.version, ring.spread_s);
}

fn show(firmware: &EdgeFirmware) {
    let wanted = firmware.wanted.map_or_else(|| "as it is".to_owned(), |version| version.to_string());
    let running = firmware.running.map_or_else(|| "not told yet".to_owned(), |version| version.to_string());
    println!("ring {}  wanted {wanted}  running {running}", firmware.ring);
    println!(
        "  may restart {}",
        firmware.window.as_ref().map_or_else(|| "at any time".to_owned(), window_text)
    );
    firmware.history.iter().for_each(event);
}

fn event(event: &UpdateEvent) {
    let reason = event.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    println!("  {}  {} {}{reason}", super::show::jst(event.at), event.version, event.state.as_str());
}

/// As it is typed.
fn window_text(window: &Window) -> String {
    let days: Vec<String> = window.days.iter().map(|day| format!("{day:?}").to_lowercase()).collect();
    let days = if days.is_empty() { "daily".to_owned() } else { days.join(",") };
    format!("{days} {} {} (UTC, minutes)", window.start, window.minutes)
}

/// `daily 17:00 120`, or with days `sat,sun 17:00 120`: UTC, and how many minutes.
pub(super) fn parse_window(text: &str) -> Result<Window, String> {
    let rule = "must be such as \"daily 17:00 120\" or \"sat,sun 17:00 120\": UTC, 5 to 1440 minutes";
    let mut words = text.split_ascii_whitespace();
    let (Some(days), Some(start), Some(minutes), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(rule.to_owned());
    };
    let day = |name: &str| serde_json::from_value::<Day>(name.into()).map_err(|_| rule.to_owned());
    let days = match days {
        "daily" => Vec::new(),
        days => days.split(',').map(day).collect::<Result<_, _>>()?,
    };
    let minutes = minutes.parse().ok().filter(|minutes| (5..=1440).contains(minutes)).ok_or(rule)?;
    Ok(Window { days, start: start.parse().map_err(|_| rule)?, minutes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_as_typed() {
        let window = parse_window("sat,sun 17:00 120").unwrap();
        assert_eq!((window.days.as_slice(), window.minutes), ([Day::Sat, Day::Sun].as_slice(), 120));
        assert_eq!(window_text(&window), "sat,sun 17:00 120 (UTC, minutes)");
        assert!(parse_window("daily 00:00 5").unwrap().days.is_empty());
        for bad in [
            "",
            "daily",
            "daily 17:00",
            "daily 25:00 60",
            "sat;sun 17:00 60",
            "daily 17:00 4",
            "daily 17:00 60 x",
        ] {
            assert!(parse_window(bad).is_err(), "{bad}");
        }
    }
}
