//! `edgectl`: the box's local tool. Asks the agent and prints tables for people (times in JST) or JSON for
//! programs (Unix times, which are UTC).

mod button;
mod console;
mod provision;
mod show;
mod table;
mod time;

pub(crate) use table::jst;

use crate::local::{Answer, Reply, Request};
use clap::{Args, Parser, Subcommand};
use edge_agent_core::condition::Check;
use edge_agent_core::journal::Draft;
use edge_agent_core::netcheck::{Language, Verdict};
use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use verona_contract::log::{Severity, Stream};

/// The agent answers at once; only the tunnel behind it may take two seconds, and a look at the lines some more.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// The longest answer: ten thousand long records.
const MAX_ANSWER: u64 = 128 * 1024 * 1024;

/// Shows what the box is doing.
#[derive(Debug, Parser)]
#[command(name = "edgectl", version)]
pub struct Edgectl {
    /// The agent's socket.
    #[arg(long, value_name = "PATH", default_value = "/run/verona/agent.sock", global = true)]
    socket: PathBuf,
    /// Prints JSON, one line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything at a glance: enrolment, center, configuration, tunnel, clock, spool, conditions.
    Status {
        /// Answers by the exit status alone: is the agent `live`, has the box come through its `startup`, is it
        /// `ready` for clients? If not, one line says why.
        #[arg(long, value_name = "CHECK", value_parser = check)]
        check: Option<Check>,
    },
    /// The certified peers of the tunnel.
    Peers,
    /// The revocation list of each issuer.
    Crl,
    /// The configuration: the one in force, the ones before, what differs; and the way back.
    Config {
        #[command(subcommand)]
        command: Option<ConfigCommand>,
    },
    /// The firmware: which runs, which is asked for, what is under way, how the last update ended.
    Update,
    /// The clock: what it shows, whether it is believed and why, who tells the time, what sets it.
    Time,
    /// Looks at the lines: cable, address, gateway, DNS, portal, time, center, UDP, NAT, path MTU. Each trouble with what
    /// to do about it; exit status 1 if something does not work.
    Netcheck {
        /// en or ja.
        #[arg(long, value_name = "LANGUAGE", default_value = "en", value_parser = language)]
        lang: Language,
    },
    /// Packs what whoever helps from afar must know into one file: state, logs, configuration, network; no secrets.
    Support {
        /// The file, which must not be there yet. Left out: named by serial number and time, here.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// The newest log records on the disk, or a new one.
    Logs(Logs),
    /// Look for the center at another address; the factory record's pins stay.
    SetCenter {
        /// `https://host[:port]`; left out: the factory record's again.
        address: Option<String>,
    },
    /// Take the configuration away and restart. Keys, certificates and the log stay: the box comes back as itself.
    Reset {
        /// What is lost by it: `configuration`.
        #[arg(long, value_name = "RISK", required = true)]
        accept_risk: ResetRisk,
    },
    /// Take the factory record from the cloud that this system runs in, unless it has one.
    #[command(hide = true)]
    Provision(provision::Provision),
    /// Carry out what a person means by the box's buttons.
    #[command(hide = true)]
    Button(button::Settings),
    /// The menu on the box's console, for a person without any other way in. It has no shell.
    Console {
        /// What restarts the box.
        #[arg(long, value_name = "PROGRAM", default_value = "/sbin/reboot")]
        restart_with: PathBuf,
    },
}

/// What a reset takes.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ResetRisk {
    /// The box has none until its center gives it one.
    Configuration,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
struct Logs {
    /// One stream: flow, system, auth or audit.
    #[arg(long)]
    stream: Option<Stream>,
    /// How many at most.
    #[arg(long, default_value_t = 200)]
    count: usize,
    #[command(subcommand)]
    append: Option<LogsCommand>,
}

#[derive(Debug, Subcommand)]
enum LogsCommand {
    /// Appends a record and returns when it is on the disk.
    Append {
        /// flow, system, auth or audit.
        #[arg(long)]
        stream: Stream,
        /// Stable name of what happened, such as `door.opened`.
        #[arg(long)]
        event: String,
        /// debug, info, warn or error.
        #[arg(long, default_value = "info", value_parser = severity)]
        severity: Severity,
        /// `key=value`; may be repeated.
        #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = attribute)]
        attributes: Vec<(String, String)>,
        /// For a person to read.
        body: String,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// The configuration in force, without secrets. Also without a subcommand.
    Show,
    /// What the one on trial changes; or what the one in force has changed; or what differs between two.
    Diff {
        /// Its number.
        before: Option<u64>,
        /// Its number.
        after: Option<u64>,
    },
    /// The newest twenty and what became of them.
    History,
    /// Goes back: ends the trial, or puts the one before, or the one named, on trial.
    Rollback {
        /// Its number.
        seq: Option<u64>,
    },
    /// Confirms the one on trial now, although something does not work that worked before.
    Confirm {
        /// What may be lost by it: `lose-center`.
        #[arg(long, value_name = "RISK")]
        accept_risk: Option<Risk>,
    },
}

/// What cannot be mended from afar.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Risk {
    /// The center does not reach the box any more.
    LoseCenter,
}

fn check(text: &str) -> Result<Check, &'static str> {
    match text {
        "live" => Ok(Check::Live),
        "startup" => Ok(Check::Startup),
        "ready" => Ok(Check::Ready),
        _ => Err("must be live, startup or ready"),
    }
}

fn language(text: &str) -> Result<Language, &'static str> {
    match text {
        "en" => Ok(Language::En),
        "ja" => Ok(Language::Ja),
        _ => Err("must be en or ja"),
    }
}

fn severity(text: &str) -> Result<Severity, String> {
    serde_json::from_value(text.into()).map_err(|_| "must be debug, info, warn or error".to_owned())
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EdgectlError {
    /// No agent, or it went away.
    #[error("agent socket {path}: cannot {action}")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It said something that this version does not understand.
    #[error("the agent's answer does not read: {0}")]
    Answer(#[from] serde_json::Error),
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// The answer to a check is no.
    #[error("{0}")]
    Check(String),
    /// The cloud has no factory record for it.
    #[error(transparent)]
    Provision(#[from] provision::ProvisionError),
    /// A file cannot be made.
    #[error("cannot write {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nobody reads what is printed.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl Edgectl {
    /// Asks and prints.
    ///
    /// # Errors
    ///
    /// [`EdgectlError`].
    pub fn run(self) -> Result<(), EdgectlError> {
        let check = match self.command {
            Command::Status { check } => check,
            _ => None,
        };
        if let Command::Console { restart_with } = &self.command {
            return console::run(&self.socket, restart_with).map_err(EdgectlError::Output);
        }
        if let Command::Button(settings) = &self.command {
            settings.run(&self.socket);
            return Ok(());
        }
        if let Command::Provision(provision) = &self.command {
            eprintln!("edgectl: {}", provision.run()?);
            return Ok(());
        }
        let output = match &self.command {
            Command::Support { output } => output.clone(),
            _ => None,
        };
        let language = match self.command {
            Command::Netcheck { lang } => lang,
            _ => Language::default(),
        };
        let mut reply = ask(&self.socket, &request(self.command))?;
        if let Reply::Support { name, archive } = &mut reply {
            let path = output.unwrap_or_else(|| PathBuf::from(&*name));
            save(&path, archive.as_ref())?;
            *name = path.to_string_lossy().into_owned();
        }
        if let (Some(check), Reply::Status(state)) = (check, &reply) {
            return match check.failing(&state.conditions) {
                None => Ok(()),
                Some(condition) => {
                    Err(EdgectlError::Check(format!("{}: {}", condition.code, condition.detail)))
                }
            };
        }
        let text = if self.json { json(&reply)? } else { show::reply(&reply, language) };
        let written = match io::stdout().write_all(text.as_bytes()) {
            // `edgectl logs | head` has what it wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(EdgectlError::Output),
        };
        written.and(verdict(&reply))
    }
}

/// Writes a new file that only its owner reads.
fn save(path: &Path, octets: &[u8]) -> Result<(), EdgectlError> {
    let fail = |source| EdgectlError::File { path: path.to_owned(), source };
    let mut options = std::fs::File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
    file.write_all(octets).and_then(|()| file.sync_all()).map_err(fail)
}

/// What an answer says about the exit status.
fn verdict(reply: &Reply) -> Result<(), EdgectlError> {
    let Reply::Netcheck(findings) = reply else { return Ok(()) };
    match findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count() {
        0 => Ok(()),
        failed => Err(EdgectlError::Check(format!("{failed} of {} checks failed", findings.len()))),
    }
}

fn request(command: Command) -> Request {
    match command {
        // The last two ask for nothing by themselves.
        Command::Status { .. } | Command::Button(_) | Command::Console { .. } | Command::Provision(_) => {
            Request::Status
        }
        Command::Peers => Request::Peers,
        Command::Crl => Request::Crl,
        Command::Config { command: None | Some(ConfigCommand::Show) } => Request::Config,
        Command::Config { command: Some(ConfigCommand::History) } => Request::ConfigHistory,
        Command::Config { command: Some(ConfigCommand::Diff { before, after }) } => {
            Request::ConfigDifference { before, after }
        }
        Command::Config { command: Some(ConfigCommand::Rollback { seq }) } => Request::RollBackConfig { seq },
        Command::Config { command: Some(ConfigCommand::Confirm { accept_risk }) } => {
            Request::ConfirmConfig { lose_center: matches!(accept_risk, Some(Risk::LoseCenter)) }
        }
        Command::Update => Request::Update,
        Command::SetCenter { address } => Request::SetCenter { address },
        Command::Reset { accept_risk: ResetRisk::Configuration } => Request::Reset,
        Command::Time => Request::Time,
        Command::Netcheck { .. } => Request::Netcheck,
        Command::Support { .. } => Request::Support,
        Command::Logs(Logs { stream, count, append: None }) => Request::Logs { stream, count },
        Command::Logs(Logs {
            append: Some(LogsCommand::Append { stream, event, severity, attributes, body }),
            ..
        }) => {
            let attributes: BTreeMap<String, String> = attributes.into_iter().collect();
            Request::AppendLog(Draft { stream, severity, event, body, attributes })
        }
    }
}

fn ask(path: &Path, request: &Request) -> Result<Reply, EdgectlError> {
    let fail = |action| move |source| EdgectlError::Socket { path: path.to_owned(), action, source };
    let mut stream = UnixStream::connect(path).map_err(fail("connect"))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(fail("prepare"))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).map_err(fail("write"))?;
    let mut answer = Vec::new();
    let read = BufReader::new(stream.take(MAX_ANSWER)).read_until(b'\n', &mut answer);
    read.map_err(fail("read"))?;
    if answer.last() != Some(&b'\n') {
        return Err(fail("read")(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice::<Answer>(&answer)?.map_err(EdgectlError::Refused)
}

/// The content of the reply alone: a program knows what it asked.
fn json(reply: &Reply) -> Result<String, EdgectlError> {
    let text = match reply {
        Reply::Status(state) => serde_json::to_string(state),
        Reply::Peers(peers) => serde_json::to_string(peers),
        Reply::Crl(lists) => serde_json::to_string(lists),
        Reply::Config(config) => serde_json::to_string(config),
        Reply::ConfigHistory(revisions) => serde_json::to_string(revisions),
        Reply::ConfigDifference(difference) => serde_json::to_string(difference),
        Reply::ConfigChosen { seq } => serde_json::to_string(&serde_json::json!({ "seq": seq })),
        Reply::Update(info) => serde_json::to_string(info),
        Reply::CenterSet => serde_json::to_string(&serde_json::json!({})),
        Reply::ResetOrdered { restarts } => {
            serde_json::to_string(&serde_json::json!({ "restarts": restarts }))
        }
        Reply::Time(time) => serde_json::to_string(time),
        Reply::Netcheck(findings) => serde_json::to_string(findings),
        Reply::Support { name, archive } => {
            serde_json::to_string(&serde_json::json!({ "file": name, "octets": archive.as_ref().len() }))
        }
        Reply::Logs(records) => serde_json::to_string(records),
        Reply::Appended { stream, seq } => {
            serde_json::to_string(&serde_json::json!({ "stream": stream, "seq": seq }))
        }
    };
    Ok(text? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_becomes_a_request() {
        let parse = |arguments: &[&str]| {
            Edgectl::try_parse_from(std::iter::once(&"edgectl").chain(arguments))
                .map(|one| request(one.command))
        };
        let append = ["logs", "append", "--stream", "audit", "--event", "e", "--attribute", "k=v=w", "body"];
        match parse(&append).unwrap() {
            Request::AppendLog(draft) => {
                assert_eq!((draft.stream, draft.body.as_str()), (Stream::Audit, "body"));
                assert_eq!(draft.attributes["k"], "v=w");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(parse(&["logs", "--json"]).unwrap(), Request::Logs { stream: None, count: 200 }));
        assert!(parse(&["logs", "append", "--stream", "nonsense", "--event", "e", "b"]).is_err());
        assert!(parse(&["status", "extra"]).is_err());
        assert!(
            parse(&["status", "--check", "ready"]).is_ok() && parse(&["status", "--check", "well"]).is_err()
        );
        assert!(matches!(parse(&["config"]).unwrap(), Request::Config));
        assert!(matches!(
            parse(&["config", "confirm", "--accept-risk=lose-center"]).unwrap(),
            Request::ConfirmConfig { lose_center: true }
        ));
        assert!(parse(&["config", "confirm", "--accept-risk=anything"]).is_err());
        assert!(parse(&["reset"]).is_err(), "not by a slip");
        assert!(matches!(parse(&["reset", "--accept-risk=configuration"]).unwrap(), Request::Reset));
        assert!(matches!(
            parse(&["config", "rollback", "7"]).unwrap(),
            Request::RollBackConfig { seq: Some(7) }
        ));
    }
}
