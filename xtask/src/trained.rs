//! Builds the command for speed: first one that counts how often each part of it runs, which then
//! serves some requests, and from those counts the one to use (profile-guided optimization).

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use fcgi_testkit::http::{HttpConnection, Upload};
use fcgi_testkit::peers::scratch;
use fcgi_testkit::wire::{self, Peer};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

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
const ROUNDS: usize = 200;
/// A large answer, which is requested less often.
const LARGE: usize = 1 << 20;
const EACH_LARGE: usize = 50;
/// How many bytes a form has.
const FORM: u64 = 2000;
/// What a browser sends.
const FIELDS: [(&str, &str); 6] = [
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("Accept-Language", "en-US,en;q=0.5"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Cookie", "session=0123456789abcdef; theme=dark"),
    ("Connection", "keep-alive"),
];

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
                return self.untrained();
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

    /// Builds the command without counts.
    pub(crate) fn untrained(&self) -> Result<PathBuf> {
        self.cargo(&self.folder().join("untrained"), "")
    }

    fn folder(&self) -> PathBuf {
        tool::target().join("trained").join(format!("{}-{}", self.profile, self.target))
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
    for options in [
        &["--root", &root, "--mount", "/app", "--keep-conn", "--quiet"][..],
        &["--root", &root, "--mount", "/app"],
        &["--mount", "/", "--keep-conn", "--quiet"],
        &["--mount", "/", "--quiet"],
    ] {
        for is_single in [true, false] {
            let start = || Gateway::start(fcgi, options, &address);
            // On one processor it has a single thread, and so another scheduler.
            let gateway = if is_single { on_one_processor(start)? } else { start()? };
            let (port, has_files) = (gateway.port, options.contains(&"--root"));
            let clients = [(); CLIENTS].map(|()| thread::spawn(move || visit(port, has_files)));
            for client in clients {
                client.join().map_err(|_| anyhow!("a client panicked"))??;
            }
            gateway.stop()?;
        }
    }
    Ok(())
}

/// Starts a gateway that may use only one processor.
fn on_one_processor(start: impl FnOnce() -> Result<Gateway>) -> Result<Gateway> {
    let all = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).context("no processor")?;
    let mut one = CpuSet::new();
    one.set(first);
    // A process has what the thread that starts it has.
    sched_setaffinity(None, &one)?;
    let started = start();
    sched_setaffinity(None, &all)?;
    started
}

/// What one client asks for. What the training leaves out is built to be small and not fast, so it has
/// some of everything that busy sites do often.
fn visit(port: u16, has_files: bool) -> Result<()> {
    let connect = || {
        HttpConnection::connect((Ipv4Addr::LOCALHOST, port)).context("connecting to the gateway")
    };
    let mut client = connect()?;
    for round in 0..ROUNDS {
        get(&mut client, "/app/hello", None, 200)?;
        get(&mut client, "/app/hello", None, 200)?;
        let body = if round % 2 == 0 { Upload::Length(FORM) } else { Upload::Chunked(FORM) };
        post(&mut client, body)?;
        if has_files {
            get(&mut client, "/small.txt", None, 200)?;
            get(&mut client, "/small.txt", Some(("Range", "bytes=0-99")), 206)?;
            let never = ("If-Modified-Since", "Fri, 31 Dec 2100 23:59:59 GMT");
            get(&mut client, "/small.txt", Some(never), 304)?;
        }
        if round % EACH_LARGE == 0 {
            client = connect()?;
            get(&mut client, "/app/large", None, 200)?;
            post(&mut client, Upload::Length(LARGE as u64))?;
            if has_files {
                get(&mut client, "/large.bin", None, 200)?;
            }
        }
    }
    Ok(())
}

fn get(
    client: &mut HttpConnection,
    path: &str,
    field: Option<(&str, &str)>,
    status: u16,
) -> Result<()> {
    let fields: Vec<_> = FIELDS.into_iter().chain(field).collect();
    client.send_head("GET", path, &fields)?;
    let came = client.read_reply()?.head.status;
    ensure!(came == status, "{path} was answered with {came}");
    Ok(())
}

fn post(client: &mut HttpConnection, body: Upload) -> Result<()> {
    let came = client.upload("/app/form", body)?.head.status;
    ensure!(came == 200, "a form was answered with {came}");
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
