//! `verona-image`: checks the files of the box's root file system, builds and signs images of them, and
//! puts images and factory records onto disks. Each command is a module of its own; here are only the command line and the results.

mod block_map;
mod build;
mod device_table;
mod digest;
mod flash;
mod gpt;
mod inittab;
mod inspect;
mod keys;
mod overlay;
mod progress;
mod provision;
mod repository;
mod sign;

use build::recipe::Edition;
use build::release::{Kind, Release};
use build::tool::Prefix;
use clap::{Args, Parser, Subcommand};
use flash::target::{self, Disk, TargetError};
use flash::{FlashError, Order};
use keys::Keys;
use progress::Steps;
use serde_json::{Value, json};
use std::error::Error;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use verona_contract::config::Version;

#[derive(Parser)]
#[command(version, about = "Builds and checks the firmware images of Verona Edge")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print the result as one JSON document.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Checks an overlay: `rootfs/` against `permissions.txt`, and the inittab.
    CheckOverlay {
        /// The folder that holds both.
        folder: PathBuf,
    },
    /// Builds an image from Debian packages, our programs and the overlay.
    Build(BuildArguments),
    /// Makes and signs the repository that boxes update from.
    #[command(subcommand)]
    Repository(repository::Command),
    /// Writes a factory record onto a box's disk or an image.
    Provision {
        /// The disk or the image.
        #[arg(long)]
        disk: PathBuf,
        /// The record, as `verona-center edge add --record` wrote it.
        #[arg(long)]
        record: PathBuf,
    },
    /// Makes keys for tests: Secure Boot's, and the one that signs images.
    Keys {
        /// Where they go; nobody else may read it.
        folder: PathBuf,
        /// Replace those that sign images, and keep their public halves for one more generation.
        #[arg(long)]
        rotate: bool,
    },
    /// Signs a built image, on any machine that has it and the keys.
    Sign {
        #[command(flatten)]
        place: Place,
        /// The keys, as `keys` makes them.
        #[arg(long)]
        keys: PathBuf,
        /// The build's cache, for its tools.
        #[arg(long, default_value = "target/image/cache")]
        cache: PathBuf,
    },
    /// Explains an image, or a disk.
    Inspect {
        #[command(flatten)]
        place: Place,
        /// A disk, or an image of one, in place of a whole image.
        #[arg(long)]
        disk: Option<PathBuf>,
    },
    /// Writes a signed image onto a disk. Exit status 2: the disk was refused, 3: the image was, 4: the disk is not
    /// finished.
    Flash(FlashArguments),
}

/// Which image.
#[derive(Args)]
struct Place {
    /// For virtual machines, or for boxes.
    #[arg(long, value_enum, default_value = "cloud")]
    edition: Edition,
    /// The folder with its files.
    #[arg(long, default_value = "target/image")]
    output: PathBuf,
}

#[derive(Args)]
struct FlashArguments {
    #[command(flatten)]
    place: Place,
    /// The disk.
    #[arg(required_unless_present = "list")]
    disk: Option<PathBuf>,
    /// Public keys of who may have signed the image, one a line.
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    trusted: Option<PathBuf>,
    /// The disk's serial number, in place of typing it.
    #[arg(long, value_name = "SERIAL", requires = "yes")]
    disk_serial: Option<String>,
    /// Overwrite the disk of that serial number without asking.
    #[arg(long, requires = "disk_serial")]
    yes: bool,
    /// The box's factory record.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// List the disks of this machine.
    #[arg(long)]
    list: bool,
}

#[derive(Args)]
struct BuildArguments {
    /// For virtual machines, or for boxes.
    #[arg(long, value_enum, default_value = "cloud")]
    edition: Edition,
    /// Of the firmware, `major.minor.patch`.
    #[arg(long = "firmware-version", value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    version: Version,
    /// The lowest version that a box with this one may go back to.
    #[arg(long, value_name = "VERSION", default_value = "0.0.0")]
    floor: Version,
    /// The root of trust of firmware updates, a TUF `root.json`; without it a box takes no updates.
    #[arg(long, value_name = "FILE")]
    firmware_root: Option<PathBuf>,
    /// Packages and intermediate files; may be deleted at any time.
    #[arg(long, default_value = "target/image/cache")]
    cache: PathBuf,
    /// Where the artefacts go.
    #[arg(long, default_value = "target/image")]
    output: PathBuf,
    /// The folder with `rootfs/` and `permissions.txt`.
    #[arg(long, default_value = "buildroot-overlay")]
    overlay: PathBuf,
    /// The checkout of our programs.
    #[arg(long, default_value = ".")]
    sources: PathBuf,
    /// A folder with our programs as already built, `verona-init` among them static; without it they are compiled.
    #[arg(long)]
    programs: Option<PathBuf>,
}

/// What a command has to say: for a person, and for a program.
type Outcome = Result<(String, Value), Failure>;

/// A command did not do what it was asked: one line, and an exit status.
struct Failure {
    line: String,
    status: u8,
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let flash = (&error as &dyn Error).downcast_ref::<FlashError>();
        let target = (&error as &dyn Error).downcast_ref::<TargetError>();
        let status = flash.map_or(if target.is_some() { 2 } else { 1 }, FlashError::exit_code);
        Self { line: chain(&error), status }
    }
}

fn main() -> ExitCode {
    let Arguments { command, json } = Arguments::parse();
    let outcome = match command {
        Command::CheckOverlay { folder } => check_overlay(&folder),
        Command::Build(arguments) => build(arguments),
        Command::Repository(command) => repository(command),
        Command::Provision { disk, record } => provision(&disk, &record),
        Command::Keys { folder, rotate } => keys(&folder, rotate),
        Command::Sign { place, keys, cache } => sign(&place, &keys, &cache),
        Command::Inspect { place, disk } => inspect(&place, disk.as_deref()),
        Command::Flash(arguments) => flash(&arguments),
    };
    match outcome {
        Ok((_, document)) if json => println!("{document:#}"),
        Ok((text, _)) => println!("{text}"),
        Err(Failure { line, status }) => {
            eprintln!("verona-image: {line}");
            return ExitCode::from(status);
        }
    }
    ExitCode::SUCCESS
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

fn check_overlay(folder: &Path) -> Outcome {
    let overlay::Report { files, entries } =
        overlay::check(folder).map_err(|findings| Failure { line: findings.join("\n"), status: 1 })?;
    let text = format!("{}: {files} files, {entries} table entries, in order", folder.display());
    Ok((text, json!({ "files": files, "entries": entries })))
}

fn repository(command: repository::Command) -> Outcome {
    let done = repository::run(command).map_err(|error| Failure { line: chain(&error), status: 1 })?;
    let document = json!({ "done": done });
    Ok((done, document))
}

fn build(arguments: BuildArguments) -> Outcome {
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let plan = build::Plan {
        edition: arguments.edition,
        version: arguments.version.to_string(),
        floor: arguments.floor.to_string(),
        firmware_root: arguments.firmware_root.map(absolute),
        sources: absolute(arguments.sources),
        cache: absolute(arguments.cache),
        output: absolute(arguments.output),
        overlay: absolute(arguments.overlay),
        programs: arguments.programs.map(absolute),
    };
    let steps = Steps::start();
    let release = build::run(&plan, &mut |name| steps.next(name))?;
    steps.next("done");
    let mut lines = Vec::new();
    let mut files = serde_json::Map::new();
    for kind in Kind::ALL {
        let path = release.path(kind);
        let octets = std::fs::metadata(&path)?.len();
        lines.push(format!("{:>8.1} MiB  {}", octets as f64 / f64::from(1 << 20), path.display()));
        files.insert(kind.suffix().to_owned(), json!({ "path": path, "octets": octets }));
    }
    lines.push(format!("checksums     {}", release.checksums().display()));
    let document = json!({
        "edition": plan.edition.name(),
        "version": plan.version,
        "seconds": steps.seconds(),
        "files": files,
        "checksums": release.checksums(),
    });
    Ok((lines.join("\n"), document))
}

fn provision(disk: &Path, record: &Path) -> Outcome {
    let record = provision::provision(disk, record)?;
    let text = format!("{}: factory record of {} for {}", disk.display(), record.serial, record.center);
    Ok((text, json!({ "serial": record.serial, "center": record.center })))
}

fn keys(folder: &Path, rotate: bool) -> Outcome {
    let keys = if rotate { Keys::rotate(folder)? } else { Keys::create(folder)? };
    let trusted: Vec<String> = keys.trusted()?.into_iter().map(String::from).collect();
    let text = format!("{}: keys for tests; images are signed by {}", folder.display(), trusted[0]);
    Ok((text, json!({ "folder": folder, "trusted": trusted })))
}

fn sign(place: &Place, keys: &Path, cache: &Path) -> Outcome {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let release = Release::new(&absolute(&place.output), place.edition);
    let cache = absolute(cache);
    let steps = Steps::start();
    let (prefix, work) = (Prefix(cache.join("tools")), cache.join(place.edition.name()));
    sign::sign(&prefix, &release, &Keys::at(&absolute(keys)), &work, &mut |name| steps.next(name))?;
    steps.next("done");
    let signature = release.signature();
    Ok((format!("signed: {}", signature.display()), json!({ "signature": signature })))
}

fn inspect(place: &Place, disk: Option<&Path>) -> Outcome {
    if let Some(disk) = disk {
        let disk = inspect::disk(disk)?;
        return Ok((disk.text(), serde_json::to_value(&disk)?));
    }
    let image = inspect::image(&Release::new(&place.output, place.edition))?;
    Ok((image.text(), serde_json::to_value(&image)?))
}

fn flash(arguments: &FlashArguments) -> Outcome {
    let (Some(path), Some(trusted)) = (&arguments.disk, &arguments.trusted) else {
        let disks = target::disks();
        let lines: Vec<String> = disks.iter().map(Disk::line).collect();
        return Ok((lines.join("\n"), serde_json::to_value(&disks)?));
    };
    let trusted = keys::trusted(trusted)?;
    let release = Release::new(&arguments.place.output, arguments.place.edition);
    let order = Order { release: &release, trusted: &trusted, record: arguments.record.as_deref() };
    let image = flash::verify_image(&order)?;
    let disk = target::disk_at(path)?;
    let serial = match &arguments.disk_serial {
        Some(serial) => serial.clone(),
        None => ask_for_serial(&disk)?,
    };
    let steps = Steps::start();
    let claimed = target::claim(path, &serial)?;
    let box_serial = flash::flash(&order, &image, claimed)?;
    let of = box_serial.as_ref().map_or_else(String::new, |serial| format!(", the box is {serial}"));
    let document = json!({
        "disk": disk.path,
        "disk_serial": disk.serial,
        "box_serial": box_serial,
        "seconds": steps.seconds(),
    });
    Ok((format!("{} is written and read back{of}", path.display()), document))
}

/// Has the operator name the disk, so that a slip in its path overwrites nothing.
fn ask_for_serial(disk: &Disk) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        let line = "without a terminal name the disk by --disk-serial and --yes".to_owned();
        return Err(Failure { line, status: 2 });
    }
    eprintln!("{}\nAll that is on it will be lost. Type its serial number to go on:", disk.line());
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed)?;
    Ok(typed.trim().to_owned())
}
