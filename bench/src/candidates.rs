//! The measured programs, and how to start each of them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use fcgi_testkit::peers::Peer;

use crate::Options;

/// The libfcgi server's source.
const HELLO_C: &str = include_str!("../peers/hello.c");
/// The Go servers' source.
const HELLO_GO: &str = include_str!("../peers/hello.go");

/// This project's adapters, whose examples are named after them.
pub(crate) const ADAPTERS: [&str; 4] = ["tokio", "smol", "async-std", "blocking"];

/// This program, as a server.
pub(crate) fn serve<'a>(args: impl IntoIterator<Item = &'a OsStr>) -> Result<Command> {
    let mut command = Command::new(env::current_exe().context("where is this program?")?);
    command.arg("serve").args(args);
    Ok(command)
}

/// One of this program's own servers, at `socket`.
pub(crate) fn builtin(name: &str, socket: &Path) -> Result<Command> {
    serve([OsStr::new(name), socket.as_os_str()])
}

/// Another program. This program starts it, so that both end together.
pub(crate) fn exec<'a>(program: &'a Path, args: &[&'a OsStr]) -> Result<Command> {
    let start = [OsStr::new("exec"), OsStr::new("--"), program.as_os_str()];
    serve(start.into_iter().chain(args.iter().copied()))
}

/// The example `KIND` of an adapter at `socket`, on one thread.
pub(crate) fn example(
    options: &Options,
    adapter: &str,
    kind: &str,
    socket: &Path,
) -> Result<Command> {
    let program = program(options, &format!("examples/{adapter}-{kind}"))?;
    let mut address = OsString::from("unix:");
    address.push(socket);
    let mut command = exec(&program, &[&address])?;
    command.env("FCGI_THREADS", "1");
    Ok(command)
}

/// A program that cargo built beside this one, or in the folder of `--programs`.
pub(crate) fn program(options: &Options, name: &str) -> Result<PathBuf> {
    let here = env::current_exe()?;
    let beside = here.parent().context("this program has no folder")?;
    let program = options.programs.as_deref().unwrap_or(beside).join(name);
    if !program.is_file() {
        bail!("{name} was not built with this profile (`cargo xtask bench` does)");
    }
    Ok(program)
}

/// The command `fcgi`: that of `--command`, or in the folder of `--programs`, or else the one built
/// with the profile for a busy gateway.
pub(crate) fn command(options: &Options) -> Result<PathBuf> {
    if let Some(command) = &options.command {
        return Ok(command.clone());
    }
    if options.programs.is_some() {
        return program(options, "fcgi");
    }
    let here = env::current_exe()?;
    let profiles = here.parent().and_then(Path::parent).context("this program has no folder")?;
    let command = profiles.join("fast/fcgi");
    ensure!(command.is_file(), "{} was not built (`cargo xtask bench` does)", command.display());
    Ok(command)
}

/// Compiles the libfcgi server.
pub(crate) fn libfcgi(dir: &Path, socket: &Path) -> Result<Command> {
    Peer::Libfcgi.find()?;
    let source = dir.join("hello.c");
    let program = dir.join("hello-libfcgi");
    fs::write(&source, HELLO_C)?;
    let mut compiler = Command::new(Peer::Gcc.find()?);
    build(compiler.arg("-O2").arg("-o").arg(&program).arg(&source).arg("-lfcgi"))?;
    exec(&program, &[socket.as_os_str()])
}

/// Which of Go's servers.
#[derive(Clone, Copy)]
pub(crate) enum Go {
    /// net/http/fcgi.
    Fastcgi,
    /// net/http.
    Http,
}

/// Compiles Go's server, which runs on one processor.
pub(crate) fn go(dir: &Path, kind: Go, socket: &Path) -> Result<Command> {
    let compiler = Peer::Go.find()?;
    let program = dir.join("hello-go");
    if !program.exists() {
        let source = dir.join("hello.go");
        fs::write(&source, HELLO_GO)?;
        let mut compiler = Command::new(compiler);
        compiler.args(["build", "-o"]).arg(&program).arg(&source);
        build(compiler.env("GO111MODULE", "off").env("GOFLAGS", "").env("GOPROXY", "off"))?;
    }
    let kind = match kind {
        Go::Fastcgi => "fastcgi",
        Go::Http => "http",
    };
    let mut command = exec(&program, &[OsStr::new(kind), socket.as_os_str()])?;
    command.env("GOMAXPROCS", "1");
    Ok(command)
}

fn build(compiler: &mut Command) -> Result<()> {
    let built = compiler.output().context("cannot run the compiler")?;
    let said = String::from_utf8_lossy(&built.stderr);
    ensure!(built.status.success(), "it does not build: {}", said.trim());
    Ok(())
}
