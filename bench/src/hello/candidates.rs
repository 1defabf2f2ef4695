//! The servers that take part, and how each is started.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::Options;

/// The name of the row that the others are compared with.
pub(super) const FLOOR: &str = "floor";
/// The number of connections for each server, unless it can't serve as many at once.
pub(super) const CONNECTIONS: usize = 16;

/// The libfcgi server's source.
const HELLO_C: &str = include_str!("../../peers/hello.c");

/// A server that may take part.
pub(super) struct Candidate {
    /// The row's name.
    pub(super) name: &'static str,
    /// How many connections it is given.
    pub(super) connections: usize,
    /// Where it will listen.
    pub(super) socket: PathBuf,
    /// What to run, or why it can't run.
    pub(super) command: Result<Command>,
    /// What the table says about it.
    pub(super) note: &'static str,
}

/// All of them, with their sockets in `dir`.
pub(super) fn all(options: &Options, dir: &Path) -> Vec<Candidate> {
    let builtin = |name: &'static str| {
        let socket = dir.join(format!("{name}.sock"));
        let command = serve([OsStr::new(name), socket.as_os_str()]);
        Candidate { name, connections: CONNECTIONS, socket, command, note: "" }
    };
    let mut candidates = vec![builtin(FLOOR)];
    if options.selects("ours") {
        let socket = dir.join("ours.sock");
        candidates.push(Candidate {
            name: "ours",
            connections: CONNECTIONS,
            command: ours(options.ours.as_deref(), &socket),
            socket,
            note: "",
        });
    }
    for name in ["tokio-fastcgi", "cegla-fcgi"] {
        if options.selects(name) {
            candidates.push(builtin(name));
        }
    }
    if options.selects("libfcgi") {
        let socket = dir.join("libfcgi.sock");
        candidates.push(Candidate {
            name: "libfcgi",
            connections: 1,
            command: libfcgi(dir, &socket),
            socket,
            note: "1 connection: it serves one at a time",
        });
    }
    candidates
}

/// This program again, as a server.
pub(crate) fn serve<'a>(args: impl IntoIterator<Item = &'a OsStr>) -> Result<Command> {
    let mut command = Command::new(env::current_exe().context("where is this program?")?);
    command.arg("serve").args(args);
    Ok(command)
}

/// Another program, started through this one so that both end together.
fn exec<'a>(program: &'a Path, arg: &'a OsStr) -> Result<Command> {
    serve([OsStr::new("exec"), OsStr::new("--"), program.as_os_str(), arg])
}

/// This project's example `tokio-hello`, from `--ours` or beside this program.
fn ours(given: Option<&Path>, socket: &Path) -> Result<Command> {
    let program = match given {
        Some(path) if path.is_file() => path.to_owned(),
        Some(path) => bail!("there is no {}", path.display()),
        None => {
            let here = env::current_exe()?;
            let here = here.parent().context("this program has no folder")?;
            let places = ["examples/tokio-hello", "../release/examples/tokio-hello"]
                .map(|place| here.join(place));
            let found = places.into_iter().find(|place| place.is_file());
            found.context(
                "examples/tokio-hello was not found: build it with this profile, or give --ours PATH",
            )?
        }
    };
    let mut address = std::ffi::OsString::from("unix:");
    address.push(socket);
    let mut command = exec(&program, &address)?;
    command.env("FCGI_THREADS", "1");
    Ok(command)
}

/// The libfcgi server, compiled now.
fn libfcgi(dir: &Path, socket: &Path) -> Result<Command> {
    let source = dir.join("hello.c");
    let program = dir.join("hello");
    fs::write(&source, HELLO_C)?;
    let compiled =
        Command::new("cc").arg("-O2").arg("-o").arg(&program).arg(&source).arg("-lfcgi").output();
    let compiled = compiled.context("cannot run cc")?;
    if !compiled.status.success() {
        bail!("cc -lfcgi failed (is libfcgi-dev installed?)");
    }
    exec(&program, socket.as_os_str())
}
