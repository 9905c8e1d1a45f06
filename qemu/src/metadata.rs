//! A cloud's metadata service as EC2 has it (version 2): a session token by PUT, and with it the user data.
//!
//! One file is the user data of everybody who asks. What a machine makes of it is for the tests.

use crate::{Error, Namespace, Process, Result, wait, workspace};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Where clouds answer.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The one session.
const TOKEN: &str = "c2Vzc2lvbg==";

/// Serves the user data in `file` at `address` until the process ends.
///
/// # Errors
///
/// The address cannot be bound.
pub fn serve(address: SocketAddr, file: &Path) -> Result<()> {
    let listener = TcpListener::bind(address).map_err(Error::io(format!("listen at {address}")))?;
    for stream in listener.incoming().flatten() {
        // A visitor who goes away in the middle is no fault of the service.
        let _ = answer(stream, file);
    }
    Ok(())
}

/// Starts the service as a process of its own on the router `place`, for all who go through it.
///
/// # Errors
///
/// It does not come up.
pub fn start(place: &Namespace, file: &Path) -> Result<Process> {
    place.ip(&format!("addr add {ADDRESS}/32 dev lo"))?;
    let address = SocketAddr::from((ADDRESS, 80));
    let mut command = place.command(workspace::binary("lab")?);
    command.args(["metadata", &address.to_string()]).arg(file);
    let mut process = place.run().start_process("metadata", command)?;
    wait::for_value("the metadata service", Duration::from_secs(10), || {
        process.must_run()?;
        Ok(place.enter(|| TcpStream::connect(address))?.ok())
    })?;
    Ok(process)
}

fn answer(mut stream: TcpStream, file: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let lines = BufReader::new(stream.try_clone()?).lines();
    let head: Vec<String> =
        lines.map_while(std::result::Result::ok).take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let fields = head.iter().filter_map(|line| line.split_once(':'));
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next_back()
    };
    let request = head.first().and_then(|line| line.rsplit_once(' ')).map_or("", |(request, _)| request);
    let body = match request {
        "PUT /latest/api/token" if header("X-aws-ec2-metadata-token-ttl-seconds").is_some() => {
            TOKEN.as_bytes().to_vec()
        }
        "GET /latest/user-data" if header("X-aws-ec2-metadata-token") == Some(TOKEN) => std::fs::read(file)?,
        "GET /latest/user-data" => {
            return write!(stream, "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n");
        }
        _ => return write!(stream, "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n"),
    };
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(&body)
}
