//! The menu on a box's console: what a technician needs who has a cable, and nothing more. No login, and no shell.
//!
//! Whoever is at the console is at the box, and could pull its disk as well. So the menu changes what only keeps the box
//! from its work: where the center is looked for, the configuration, a restart. Every answer is one line.

use super::{EdgectlError, ask, show};
use crate::center::chain;
use crate::local::Request;
use edge_agent_core::netcheck::Language;
use std::io::{self, BufRead, Read as _, Write};
use std::path::Path;
use std::process::Command;

/// The longest line that is read; what is behind it counts as another line.
const MAX_LINE: u64 = 300;

const MENU: &str = "\r
Verona Edge\r
  1  status\r
  2  address of the center\r
  3  restart\r
  4  factory reset: takes the configuration, keeps the identity\r
";

/// Serves the console on standard input and output until the input ends.
///
/// # Errors
///
/// The console is gone.
pub(super) fn run(socket: &Path, restart_with: &Path) -> io::Result<()> {
    let agent =
        |request: &Request| ask(socket, request).map(|reply| show::reply(&reply, Language::default()));
    let restart = || match Command::new(restart_with).status() {
        Ok(status) if status.success() => "restarting".to_owned(),
        Ok(status) => format!("{} ended with {status}", restart_with.display()),
        Err(error) => format!("{}: {error}", restart_with.display()),
    };
    serve(&mut io::stdin().lock(), &mut io::stdout(), &agent, &restart)
}

/// The menu, apart from the terminal, the agent and the machine.
fn serve(
    input: &mut impl BufRead,
    output: &mut impl Write,
    agent: &dyn Fn(&Request) -> Result<String, EdgectlError>,
    restart: &dyn Fn() -> String,
) -> io::Result<()> {
    let told = |request: &Request| agent(request).unwrap_or_else(|error| format!("{}\n", chain(&error)));
    loop {
        write!(output, "{MENU}> ")?;
        output.flush()?;
        let Some(choice) = line(input)? else { return Ok(()) };
        let answer = match choice.as_str() {
            "1" => told(&Request::Status),
            "2" => match question(
                input,
                output,
                "https://host[:port], - for the factory's, nothing to leave it",
            )? {
                address if address.is_empty() => continue,
                address => {
                    let address = (address != "-").then_some(address);
                    told(&Request::SetCenter { address })
                }
            },
            "3" => restart() + "\n",
            "4" => match question(input, output, "type reset to take the configuration")?.as_str() {
                "reset" => told(&Request::Reset),
                _ => "nothing was changed\n".to_owned(),
            },
            _ => continue,
        };
        for line in answer.lines() {
            write!(output, "{line}\r\n")?;
        }
    }
}

fn question(input: &mut impl BufRead, output: &mut impl Write, text: &str) -> io::Result<String> {
    write!(output, "{text}\r\n> ")?;
    output.flush()?;
    Ok(line(input)?.unwrap_or_default())
}

/// One line without its end, and without what a person cannot see; none at the end of the input.
fn line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut octets = Vec::new();
    if input.by_ref().take(MAX_LINE).read_until(b'\n', &mut octets)? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&octets);
    Ok(Some(text.chars().filter(|one| !one.is_control()).collect::<String>().trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// What the agent was asked, and what the console showed.
    fn typed(keys: &str) -> (Vec<String>, String) {
        let asked = RefCell::new(Vec::new());
        let mut shown = Vec::new();
        let agent = |request: &Request| {
            asked.borrow_mut().push(format!("{request:?}"));
            match request {
                Request::SetCenter { address: Some(address) } if !address.starts_with("https://") => {
                    Err(EdgectlError::Refused("no address".into()))
                }
                _ => Ok("done\n".to_owned()),
            }
        };
        let restart = || {
            asked.borrow_mut().push("restart".into());
            "restarting".to_owned()
        };
        serve(&mut keys.as_bytes(), &mut shown, &agent, &restart).unwrap();
        (asked.into_inner(), String::from_utf8(shown).unwrap())
    }

    #[test]
    fn each_choice_asks_for_one_thing() {
        assert_eq!(typed("1\r\n").0, ["Status"]);
        assert_eq!(
            typed("2\nhttps://c.example\n").0,
            [r#"SetCenter { address: Some("https://c.example") }"#]
        );
        assert_eq!(typed("2\n-\n").0, ["SetCenter { address: None }"]);
        assert_eq!(typed("3\n").0, ["restart"]);
        assert_eq!(typed("4\nreset\n").0, ["Reset"]);
        let (asked, shown) = typed("2\nhttp://c\n");
        assert_eq!(asked.len(), 1);
        assert!(shown.contains("no address\r\n"), "{shown}");
    }

    #[test]
    fn a_slip_changes_nothing() {
        for keys in
            ["", "\n", "5\n", "sh\n", "4\nyes\n", "4\n", "2\n\n", "2\n", "\x03\x04\x1b[A\n", "$(reboot)\n"]
        {
            assert_eq!(typed(keys).0, Vec::<String>::new(), "{keys:?}");
        }
        assert!(typed(&"x".repeat(10_000)).0.is_empty());
    }
}
