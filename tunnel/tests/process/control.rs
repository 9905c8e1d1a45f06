//! The control socket as the agent uses it: greeting, order, bounds, refusals.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::pair::{End, Implementation, PATIENCE, Pair};

struct Agent {
    reader: BufReader<UnixStream>,
}

impl Agent {
    fn connect(pair: &Pair) -> Self {
        Self::connect_to(&pair.left)
    }

    fn connect_to(end: &End) -> Self {
        let stream = UnixStream::connect(end.control_socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    fn greeted(pair: &Pair) -> Self {
        Self::connect(pair).greet()
    }

    fn greet(mut self) -> Self {
        let agent = &mut self;
        let reply = agent.ask(r#"{"id":1,"command":{"hello":{"version":2}}}"#);
        assert_eq!(reply["response"]["result"]["Ok"]["hello"]["version"], 2, "{reply}");
        self
    }

    /// Sends a line and reads the next one; `Null` if the connection was closed.
    fn ask(&mut self, line: &str) -> Value {
        // A connection that is closed already shows in the reading.
        let _ = self.reader.get_mut().write_all(format!("{line}\n").as_bytes());
        self.next()
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) | Err(_) => Value::Null,
            Ok(_) => serde_json::from_str(&line).unwrap(),
        }
    }
}

/// The status of one end, from a connection of its own.
pub(crate) fn status(end: &End) -> Value {
    let mut agent = Agent::connect_to(end).greet();
    agent.ask(r#"{"id":2,"command":"status"}"#)["response"]["result"]["Ok"]["status"].take()
}

fn started() -> Pair {
    let pair = Pair::new();
    pair.left.start(Implementation::Ours);
    pair
}

#[test]
fn hello_comes_first_and_versions_must_agree() {
    let pair = started();
    let mut agent = Agent::connect(&pair);
    let reply = agent.ask(r#"{"id":5,"command":"status"}"#);
    assert_eq!(reply, json!({"response": {"id": 5, "result": {"Err": "hello must come first"}}}));
    let reply = agent.ask(r#"{"id":6,"command":{"hello":{"version":999}}}"#);
    assert!(reply["response"]["result"]["Err"].as_str().unwrap().contains("999"), "{reply}");
    let reply = agent.ask(r#"{"id":7,"command":"status"}"#);
    assert_eq!(reply["response"]["result"]["Err"], "hello must come first");
    let mut agent = Agent::greeted(&pair);
    assert!(agent.ask(r#"{"id":8,"command":"status"}"#)["response"]["result"]["Ok"].is_object());
}

#[test]
fn status_tells_what_wg_set() {
    let pair = started();
    pair.left.set(&["listen-port", "4321", "private-key", &pair.left.key_file.to_string_lossy()]);
    let mut agent = Agent::greeted(&pair);
    let reply = agent.ask(r#"{"id":2,"command":"status"}"#);
    let status = &reply["response"]["result"]["Ok"]["status"];
    assert_eq!(status["interface"], json!(pair.left.interface));
    assert_eq!(status["public_key"], json!(pair.left.public_key));
    assert_eq!(status["listen_port"], 0, "the interface is down");
    assert_eq!(status["policy_seq"], Value::Null);
    assert_eq!(status["counters"]["totals"]["send_failed"], 0, "{status}");
    assert!(agent.ask(r#"{"id":3,"command":"peers"}"#)["response"]["result"]["Ok"]["peers"].is_array());
    assert!(agent.ask(r#"{"id":4,"command":"crls"}"#)["response"]["result"]["Ok"]["crls"].is_array());
    let done = agent.ask(r#"{"id":5,"command":{"set-clock":{"trusted":true}}}"#);
    assert_eq!(done, json!({"response": {"id": 5, "result": {"Ok": "done"}}}));
    pair.left.bring_up();
    lab::wait::until("the port in the status", PATIENCE, || {
        agent.ask(r#"{"id":7,"command":"status"}"#)["response"]["result"]["Ok"]["status"]["listen_port"]
            == 4321
    })
    .unwrap();
    let done = agent.ask(r#"{"id":6,"command":"subscribe"}"#);
    assert_eq!(done, json!({"response": {"id": 6, "result": {"Ok": "done"}}}));
}

#[test]
fn bad_lines_are_named_and_the_connection_goes_on() {
    let pair = started();
    let mut agent = Agent::greeted(&pair);
    let table = [
        ("", 0, "request"),
        ("{", 0, "request"),
        ("[]", 0, "request"),
        (r#"{"id":9}"#, 9, "command"),
        (r#"{"id":9,"command":"fly"}"#, 9, "fly"),
        (r#"{"id":9,"command":"status","extra":1}"#, 9, "extra"),
        (r#"{"id":9,"command":{"set-clock":{}}}"#, 9, "trusted"),
        (r#"{"id":9,"command":{"load-crl":{"der":"AAAA"}}}"#, 9, "no policy"),
        (r#"{"id":9,"command":{"load-crl":{"der":"%"}}}"#, 9, "base64"),
        (r#"{"id":9,"command":{"load-policy":{"seq":1}}}"#, 9, "private_key"),
    ];
    for (line, id, part) in table {
        let reply = agent.ask(line);
        let response = &reply["response"];
        assert_eq!(response["id"], id, "{line}: {reply}");
        let error = response["result"]["Err"].as_str().unwrap_or_else(|| panic!("{line}: {reply}"));
        assert!(error.contains(part) && !error.contains('\n'), "{line}: {error}");
    }
    assert!(agent.ask(r#"{"id":10,"command":"status"}"#)["response"]["result"]["Ok"].is_object());
}

#[test]
fn a_line_without_end_is_cut_off_at_the_limit() {
    let pair = started();
    let mut agent = Agent::connect(&pair);
    let block = vec![b'x'; 1 << 20];
    // One block more than the limit; the tunnel stops reading at it.
    for _ in 0..=verona_contract::control::MAX_LINE >> 20 {
        if agent.reader.get_mut().write_all(&block).is_err() {
            break;
        }
    }
    let reply = agent.next();
    assert_eq!(reply["response"]["id"], 0, "{reply}");
    assert!(reply["response"]["result"]["Err"].as_str().unwrap().contains("longer than"), "{reply}");
    assert_eq!(agent.next(), Value::Null);
    Agent::greeted(&pair);
}

#[test]
fn another_user_gets_no_answer() {
    let pair = started();
    let path = pair.left.control_socket();
    // The mode would refuse already; this is the check behind it.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let script = format!(
        r#"use IO::Socket::UNIX; $SIG{{PIPE}} = "IGNORE"; $s = IO::Socket::UNIX->new("{}") or die "connect";
           print $s '{{"id":1,"command":{{"hello":{{"version":2}}}}}}', "\n"; $s->flush;
           print "answer: [", scalar <$s>, "]";"#,
        path.display()
    );
    let arguments = ["--reuid=65534", "--regid=65534", "--clear-groups", "perl", "-e", &script];
    let output = std::process::Command::new("setpriv").args(arguments).output().unwrap();
    let refused = String::from_utf8_lossy(&output.stdout).trim() == "answer: []";
    assert!(refused, "{output:?}");
    Agent::greeted(&pair);
}
