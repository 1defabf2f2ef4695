//! Builds the command for speed: first one that counts how often each part of it runs, which then
//! serves some requests, and from those counts the one to use (profile-guided optimization).

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use fcgi_testkit::http::HttpConnection;
use fcgi_testkit::peers::scratch;
use fcgi_testkit::wire::{self, Peer};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{cargo, program, run as run_command};
use crate::tool::{self, Profdata};

/// How the command is built.
pub(crate) struct Build<'a> {
    /// cargo's profile.
    pub(crate) profile: &'a str,
    pub(crate) target: &'a str,
    /// Other arguments for cargo.
    pub(crate) arguments: &'a [&'a str],
    /// Flags for rustc.
    pub(crate) flags: &'a str,
}

/// The clients at once, and the rounds of each.
const CLIENTS: usize = 8;
const ROUNDS: usize = 250;
/// A large answer, which is requested less often.
const LARGE: usize = 1 << 20;
const EACH_LARGE: usize = 50;
/// What a browser sends.
const FIELDS: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n\
    Cookie: session=0123456789abcdef; theme=dark\r\nConnection: keep-alive\r\n";

/// Builds the command for a busy gateway, and returns its path.
pub(crate) fn fast() -> Result<PathBuf> {
    Build { profile: "fast", target: &tool::host()?, arguments: &[], flags: "" }.run()
}

impl Build<'_> {
    /// Builds the command, and returns its path. Without LLVM's tools, or if the target has no code
    /// to count with, it is built without counts, and this says so.
    pub(crate) fn run(&self) -> Result<PathBuf> {
        let folder =
            tool::target().join("trained").join(format!("{}-{}", self.profile, self.target));
        let profdata = match tool::profdata(self.target) {
            Ok(profdata) => profdata,
            Err(error) => {
                println!("The command is not trained, so it is slower than it could be: {error:#}");
                return self.cargo(&folder.join("plain"), "");
            }
        };
        let (counts, profile) = (folder.join("counts"), folder.join("profile"));
        let counting = format!("-Cprofile-generate={}", counts.display());
        let counting = self.cargo(&folder.join("counting"), &counting)?;
        match fs::remove_dir_all(&counts) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", counts.display()));
            }
            _ => {}
        }
        train(&counting).context("training the command")?;
        merge(&profdata, &counts, &profile)?;
        self.cargo(&folder.join("built"), &format!("-Cprofile-use={}", profile.display()))
    }

    fn cargo(&self, folder: &Path, flags: &str) -> Result<PathBuf> {
        let mut command = cargo(["build", "-p", "fcgi-cli", "--bin", "fcgi", "--locked"]);
        command.args(["--profile", self.profile]).args(self.arguments);
        // With a target, flags are not for build scripts and macros.
        command.args(["--target", self.target, "--target-dir"]).arg(folder);
        command.env("RUSTFLAGS", format!("{} {flags}", self.flags));
        run_command(&mut command)?;
        Ok(folder.join(self.target).join(self.profile).join("fcgi"))
    }
}

fn merge(Profdata(profdata): &Profdata, counts: &Path, profile: &Path) -> Result<()> {
    run_command(program(profdata).arg("merge").arg("-o").arg(profile).arg(counts))
}

/// Lets the command serve files and an application, as a busy gateway.
fn train(fcgi: &Path) -> Result<()> {
    let folder = scratch()?;
    let (files, socket) = (folder.path().join("www"), folder.path().join("app.sock"));
    fs::create_dir(&files)?;
    fs::write(files.join("small.txt"), vec![b'x'; 1 << 10])?;
    fs::write(files.join("large.bin"), vec![b'x'; LARGE])?;
    let listener = UnixListener::bind(&socket)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    let address = format!("unix:{}", socket.display());
    let root = files.display().to_string();
    let paths = ["/small.txt", "/app/hello", "/app/hello", "/app/large", "/large.bin"];
    for options in [
        &["--root", &root, "--mount", "/app", "--keep-conn", "--quiet"][..],
        &["--root", &root, "--mount", "/app"],
        &["--mount", "/", "--keep-conn", "--quiet"],
        &["--mount", "/", "--quiet"],
    ] {
        let has_files = options.contains(&"--root");
        let gateway = Gateway::start(fcgi, options, &address)?;
        let port = gateway.port;
        let clients = (0..CLIENTS).map(|_| {
            thread::spawn(move || {
                let mut client = connect(port)?;
                for round in 0..ROUNDS {
                    if round % EACH_LARGE == 0 {
                        client = connect(port)?;
                    }
                    for path in paths {
                        let is_large = path.contains("large");
                        if (is_large && round % EACH_LARGE != 0)
                            || (!has_files && !path.starts_with("/app"))
                        {
                            continue;
                        }
                        request(&mut client, path)?;
                    }
                }
                anyhow::Ok(())
            })
        });
        for client in clients.collect::<Vec<_>>() {
            let served = client.join();
            served.map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        gateway.stop()?;
    }
    Ok(())
}

fn connect(port: u16) -> Result<HttpConnection> {
    HttpConnection::connect((Ipv4Addr::LOCALHOST, port)).context("connecting to the gateway")
}

fn request(client: &mut HttpConnection, path: &str) -> Result<()> {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{FIELDS}\r\n").as_bytes())?;
    let reply = client.read_reply()?;
    ensure!(reply.head.status == 200, "{path} was answered with {}", reply.head.status);
    Ok(())
}

/// Answers all requests of a connection.
fn answer(stream: UnixStream) {
    let mut peer = Peer::unix(stream);
    let (mut keeps, mut is_large) = (false, false);
    while let Ok(Some(record)) = peer.try_record() {
        match record.kind {
            wire::Type::BeginRequest => keeps = record.content[2] & 1 != 0,
            wire::Type::Params if !record.content.is_empty() => {
                let params = wire::decode(&record.content);
                is_large = params.iter().any(|(_, value)| value.ends_with(b"large"));
            }
            wire::Type::Stdin if record.content.is_empty() => {
                let mut stdout = b"Content-Type: text/plain\r\n\r\n".to_vec();
                stdout.resize(stdout.len() + if is_large { LARGE } else { 13 }, b'x');
                if peer.try_send(wire::answer(record.id, &stdout)).is_err() || !keeps {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// A running gateway; it ends when this is dropped.
struct Gateway {
    process: Child,
    port: u16,
}

impl Gateway {
    fn start(fcgi: &Path, options: &[&str], address: &str) -> Result<Self> {
        // The port was free a moment ago. If somebody takes it meanwhile, the start fails.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new(fcgi);
        command.args(["gateway", "--listen", &format!("127.0.0.1:{port}")]);
        command.args(options).arg(address).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().context("starting the gateway")?;
        let mut stdout = BufReader::new(process.stdout.take().context("it has no stdout")?);
        let gateway = Self { process, port };
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        ensure!(line.contains("http://"), "the gateway said {line:?}");
        // Its access log.
        thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
        Ok(gateway)
    }

    /// Lets it end by itself, since it writes its counts then.
    fn stop(mut self) -> Result<()> {
        let id = Pid::from_child(&self.process);
        kill_process(id, Signal::TERM).context("ending the gateway")?;
        let status = self.process.wait()?;
        ensure!(status.success(), "the gateway failed: {status}");
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
