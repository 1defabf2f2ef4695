//! `fcgi php`: runs PHP in a pool.

mod opcache;
mod script;
mod worker;

use std::{
    env, fs,
    future::pending,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use clap::Args;
use fcgi_engine::text::{Escaper, escape};
use fcgi_http::{HeadLimits, HeadParser};
use fcgi_tokio::{self as fcgi, Address, Phase, client::Chunk};
use tokio::signal::unix::SignalKind;

use crate::{
    args::limit,
    ask::{self, Failed},
    budget::Budget,
    causes::Cause,
    exit::Exit,
    input::Input,
    place,
    report::{Form, Report},
    signals::catch,
    writer::{self, Writer},
};
use opcache::Opcache;
use script::Script;
pub(crate) use script::ScriptGuard;
use worker::{Worker, user_id};

/// How much of an answer is held in memory, with --json and --opcache; also the limit of STDERR.
const MOST: usize = 16 << 20;
/// How PHP's fatal messages start; both have the same length.
const FATAL: [&[u8]; 2] = [b"PHP Fatal error", b"PHP Parse error"];
/// Folders that all users of a machine may write to, in order of preference.
const FOLDERS: [&str; 3] = ["/tmp", "/dev/shm", "/var/tmp"];

/// Run PHP in a pool of php-fpm, as its worker
///
/// The code, as for `php -r`, goes into a temporary script that only the worker's user can read,
/// and that is removed at the end, however this command ends. PHP is not needed here. STDOUT goes
/// to stdout as it comes, and PHP's log to stderr.
#[derive(Args)]
#[command(
    after_long_help = AFTER_HELP,
    override_usage = "fcgi php [OPTIONS] [ADDR] CODE\n       fcgi php [OPTIONS] [ADDR] -f FILE\n       \
                      fcgi php [OPTIONS] [ADDR] --opcache status|reset"
)]
pub(crate) struct Php {
    /// The pool, and the code without <?php; with -f or --opcache only the pool. Without a pool:
    /// FCGI_ADDR, FCGI_CONNECT, or the only socket found
    #[arg(value_name = "[ADDR] CODE", num_args = 0..=2)]
    words: Vec<String>,
    /// Run this file, which starts with <?php; - is stdin
    #[arg(long, short, value_name = "FILE|-")]
    file: Option<PathBuf>,
    /// Show opcache, or empty it, as after a deploy
    #[arg(long, value_enum, value_name = "status|reset", conflicts_with = "file")]
    opcache: Option<Opcache>,
    /// The folder for the script, which the worker can enter; default: one that all users can
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// That folder as the worker sees it: in its container, or below its chroot
    #[arg(long, value_name = "DIR", requires = "dir")]
    app_dir: Option<PathBuf>,
    /// The worker's user, by name or number, if it can't be found out
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Time limit for everything
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = limit)]
    timeout: Duration,
    #[command(flatten)]
    form: Form,
}

const AFTER_HELP: &str = "\
Exit status:
  0  it ran
  2  usage, or the script can't be put where the worker finds it
  3  refused by the application
  4  protocol error or truncated response
  5  connect or IO error
  6  time-out
  7  it ran, but PHP failed or set a status of 400 or more, or opcache is off
  128 and the signal's number, when SIGINT, SIGTERM, SIGHUP or SIGQUIT ends it

Limits: a worker in another container sees the script only in a shared folder (--dir, and --app-dir
if the folder has another name there). The same is true below a chroot or open_basedir if php-fpm's
configuration can't be read from here. An ordinary user can give a script to another user only on a
file system with access lists; root always can.

Examples:
  After a deploy
    fcgi php --opcache reset
    fcgi php unix:/run/php/php-fpm.sock 'opcache_invalidate(\"/srv/www/index.php\", true);'
  What does the pool see?
    fcgi php 'echo php_ini_loaded_file(), \"\\n\", ini_get(\"memory_limit\"), \"\\n\";'
  A file, in a pool of another container
    fcgi php app:9000 -f warm.php --dir /srv/shared --app-dir /shared";

/// Whether a single word is an address rather than code. Code may start like a path, with a comment.
fn is_pool(word: &str) -> bool {
    !word.contains(';') && word.parse::<Address>().is_ok()
}

/// The result, if the worker ran the script.
struct Ran {
    status: http::StatusCode,
    app_status: u32,
    /// STDOUT, if it is needed as a whole.
    output: BytesMut,
    stderr: BytesMut,
}

/// Why it did not run, or not to its end.
enum Stopped {
    /// The worker does not find the script.
    Unseen {
        said: String,
    },
    Failed(Failed),
    Output(io::Error),
}

impl Php {
    pub(crate) async fn run(self) -> ExitCode {
        let budget = Budget::new(Some(self.timeout));
        tokio::select! {
            // Signals are caught before there is a script.
            biased;
            (name, number) = signalled() => {
                writer::last_line(format!("fcgi php: aborted by {name}")).await;
                ExitCode::from(128 + number)
            }
            // Dropping it aborts the request, and removes the script.
            code = async {
                match self.run_to_its_end(&budget).await {
                    Some(report) => writer::finish(report, self.form, false, &budget).await,
                    None => ExitCode::from(self.form.status(Exit::Done)),
                }
            } => code,
        }
    }

    /// Returns `None` if everything was already printed.
    async fn run_to_its_end(&self, budget: &Budget) -> Option<Report> {
        let usage = |message: String| Some(Report::new("php", Exit::Usage, message));
        let (address, text) = match self.read(budget).await {
            Ok(read) => read,
            Err((exit, message)) => return Some(Report::new("php", exit, message)),
        };
        let worker = Worker::find(&address);
        let user = match &self.user {
            Some(user) => user_id(user).ok_or_else(|| format!("there is no user {user:?} here")),
            None => worker.user.ok_or_else(|| {
                format!("{address}: the user of its workers is not known here: name it with --user")
            }),
        };
        let user = match user {
            Ok(user) => user,
            // If the pool is not there, it has no workers either.
            Err(message) => match ask::connect(&address, budget).await {
                Err(error) => return self.report(&address, Err(error.into()), budget),
                Ok(_) => return usage(message),
            },
        };
        let mut tried = Vec::new();
        for (folder, seen_as) in self.folders(&worker) {
            let script = match Script::write(&folder, &worker.suffix(), user, &text) {
                Ok(script) => script,
                Err(error) => {
                    tried.push(format!("{}: {error}", folder.display()));
                    continue;
                }
            };
            let name = script.path().file_name().unwrap_or_default();
            let path = seen_as.join(name).display().to_string();
            match self.ask(&address, &path, budget).await {
                Err(Stopped::Unseen { said }) => {
                    tried.push(format!("{}: {said}", folder.display()))
                }
                ended => return self.report(&address, ended, budget),
            }
        }
        if tried.is_empty() {
            tried
                .push("of the folders that its chroot or open_basedir allows, none is here".into());
        }
        let message = format!("{address}: its worker finds no script here ({})", tried.join("; "));
        let cause = Cause::new(
            "script-unseen",
            "it sees other folders (another container, a chroot, open_basedir, PrivateTmp), or runs \
             as another user",
            "name a folder that both see with --dir, and --app-dir as it is called there; or --user",
        );
        Some(Report::new("php", Exit::Usage, message).address(&address).cause(Some(cause)))
    }

    /// Reads the pool and the script.
    async fn read(&self, budget: &Budget) -> Result<(Address, Vec<u8>), (Exit, String)> {
        let (address, code) = self.address_and_code().map_err(|message| (Exit::Usage, message))?;
        let text = match (code, &self.file, self.opcache) {
            (Some(code), ..) => inline(code),
            (None, Some(file), _) => {
                let read = budget.hold_io(Input::whole(file, MOST as u64)).await;
                read.map_err(|error| {
                    let is_late = error.kind() == io::ErrorKind::TimedOut;
                    let exit = if is_late { Exit::Timeout } else { Exit::Usage };
                    (exit, format!("read {}: {error}", file.display()))
                })?
            }
            (None, None, opcache) => inline(opcache.map_or("", Opcache::code)),
        };
        Ok((address, text))
    }

    fn address_and_code(&self) -> Result<(Address, Option<&String>), String> {
        let has_code = self.file.is_none() && self.opcache.is_none();
        let (address, code) = match (&self.words[..], has_code) {
            ([pool], true) if is_pool(pool) => {
                return Err(format!("expected CODE, -f FILE or --opcache after {pool}"));
            }
            ([code], true) => (None, Some(code)),
            ([address, code], true) => (Some(address), Some(code)),
            ([], true) => return Err("expected CODE, -f FILE or --opcache".to_owned()),
            ([], false) => (None, None),
            ([address], false) => (Some(address), None),
            _ => return Err("expected CODE, -f FILE or --opcache, and only one of them".to_owned()),
        };
        let address = match address {
            Some(address) => Some(address.parse::<Address>().map_err(|error| error.to_string())?),
            None => None,
        };
        let address = place::find(address.as_ref()).map_err(|error| error.to_string())?;
        Ok((address, code))
    }

    /// Whether these words contain code. Then the variables that name a script don't apply.
    pub(crate) fn has_code(words: &[&String]) -> bool {
        match words {
            [_, _] => true,
            [word] => !is_pool(word),
            _ => false,
        }
    }

    /// Where to put the script, and what the worker calls that place.
    fn folders(&self, worker: &Worker) -> Vec<(PathBuf, PathBuf)> {
        let chroot = worker.chroot();
        let seen = |folder: &Path| match &chroot {
            Some(chroot) => match folder.strip_prefix(chroot) {
                Ok(rest) => Path::new("/").join(rest),
                Err(_) => folder.to_owned(),
            },
            None => folder.to_owned(),
        };
        if let Some(folder) = &self.dir {
            let seen_as = self.app_dir.clone().unwrap_or_else(|| {
                seen(&fs::canonicalize(folder).unwrap_or_else(|_| folder.clone()))
            });
            return vec![(folder.clone(), seen_as)];
        }
        let open = worker.open_basedir();
        let usual = env::var_os("TMPDIR").map(PathBuf::from).filter(|folder| folder.is_absolute());
        let usual: Vec<PathBuf> =
            usual.into_iter().chain(FOLDERS.iter().map(PathBuf::from)).collect();
        let mut folders: Vec<PathBuf> = match &chroot {
            // As the worker sees them; then the chroot itself.
            Some(_) => [&open[..], &usual, &["/".into()]].concat(),
            None if open.is_empty() => usual,
            None => {
                let allowed = |folder: &PathBuf| open.iter().any(|open| folder.starts_with(open));
                usual.into_iter().filter(allowed).chain(open.iter().cloned()).collect()
            }
        };
        if let Some(chroot) = &chroot {
            for folder in &mut folders {
                *folder = chroot.join(folder.strip_prefix("/").unwrap_or(folder));
            }
        }
        folders.retain(|folder| folder.is_dir());
        folders
            .into_iter()
            .map(|folder| {
                let seen_as = seen(&folder);
                (folder, seen_as)
            })
            .collect()
    }

    /// Whether STDOUT is printed as it comes.
    fn streams(&self) -> bool {
        self.opcache.is_none() && !self.form.json && !self.form.nagios
    }

    async fn ask(&self, address: &Address, path: &str, budget: &Budget) -> Result<Ran, Stopped> {
        let request = ask::get_script(path, path, "");
        let mut client = ask::connect(address, budget).await?;
        let mut response = budget.hold(address, Phase::FirstByte, client.send(request)).await?;
        let mut parser = HeadParser::new(HeadLimits::default());
        let mut ran = Ran {
            status: http::StatusCode::OK,
            app_status: 0,
            output: BytesMut::new(),
            stderr: BytesMut::new(),
        };
        let (mut is_headed, mut printed) = (false, 0);
        let head_failed = |source, ran: &Ran| {
            let (stdout, stderr) = (Bytes::new(), ran.stderr.clone().freeze());
            Failed::Head { address: address.to_string(), source, stdout, stderr }
        };
        let mut escaper = io::stderr().is_terminal().then(|| Escaper::new(b"\n\t"));
        while let Some(chunk) = budget.hold(address, Phase::Response, response.chunk()).await? {
            match chunk {
                Chunk::Stdout(mut bytes) => {
                    if !is_headed {
                        match parser.push(&mut bytes) {
                            Ok(Some(head)) => {
                                is_headed = true;
                                ran.status = head.parts.status;
                            }
                            Ok(None) => continue,
                            Err(error) => return Err(head_failed(error, &ran).into()),
                        }
                    }
                    if holds_back(&ran) || !self.streams() {
                        let room = MOST.saturating_sub(ran.output.len());
                        ran.output.extend_from_slice(&bytes[..bytes.len().min(room)]);
                    } else {
                        print(bytes, budget).await?;
                    }
                }
                Chunk::Stderr(bytes) => {
                    let room = MOST.saturating_sub(ran.stderr.len());
                    ran.stderr.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
            }
            if is_headed && self.streams() && !holds_back(&ran) {
                log(&ran.stderr[printed..], escaper.as_mut(), budget).await?;
                printed = ran.stderr.len();
            }
        }
        ran.app_status = response.app_status().unwrap_or_default();
        if !is_headed {
            let cut = fcgi_http::HeadError::Truncated { bytes: 0 };
            return Err(head_failed(parser.finish().err().unwrap_or(cut), &ran).into());
        }
        if is_unseen(&ran) {
            let said = ran.stderr[..].split(|byte| *byte == b'\n').find(|line| !line.is_empty());
            return Err(Stopped::Unseen { said: escape(said.unwrap_or_default(), b"") });
        }
        if self.streams() && holds_back(&ran) {
            log(&ran.stderr, escaper.as_mut(), budget).await?;
            print(ran.output.clone().freeze(), budget).await?;
        }
        if self.streams() && ran.stderr.last().is_some_and(|last| *last != b'\n') {
            // A message starts on a new line.
            log(b"\n", None, budget).await?;
        }
        Ok(ran)
    }

    fn report(
        &self,
        address: &Address,
        ended: Result<Ran, Stopped>,
        budget: &Budget,
    ) -> Option<Report> {
        let report = self.outcome(address, ended)?;
        Some(report.duration("time", budget.elapsed(), Some(self.timeout)))
    }

    /// Returns `None` if everything was already printed.
    fn outcome(&self, address: &Address, ended: Result<Ran, Stopped>) -> Option<Report> {
        let ran = match ended {
            Ok(ran) => ran,
            // The reader of stdout has closed it.
            Err(Stopped::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                return None;
            }
            Err(Stopped::Output(error)) => {
                let message = format!("{address}: write to stdout or stderr: {error}");
                let is_late = error.kind() == io::ErrorKind::TimedOut;
                let exit = if is_late { Exit::Timeout } else { Exit::Io };
                return Some(Report::new("php", exit, message).address(address));
            }
            Err(Stopped::Failed(failed)) => {
                let message = fcgi_engine::text::chain(&failed).to_string();
                let cause = failed.cause(address);
                return Some(
                    Report::new("php", failed.exit(), message).address(address).cause(cause),
                );
            }
            // The caller has handled it.
            Err(Stopped::Unseen { .. }) => return None,
        };
        let failure = match fatal(&ran.stderr) {
            Some(line) => Some(escape(line, b"")),
            None if ran.status.as_u16() >= 400 => {
                Some(format!("the script ended with status {}", ran.status.as_u16()))
            }
            None if ran.app_status != 0 => Some(format!("it ended with status {}", ran.app_status)),
            None => None,
        };
        let report = match (failure, self.opcache) {
            (Some(failure), _) => {
                Report::new("php", Exit::Unwanted, format!("{address}: {failure}"))
            }
            (None, Some(opcache)) => opcache.report(&address.to_string(), &ran.output),
            (None, None) if self.streams() => return None,
            (None, None) => Report::new("php", Exit::Done, format!("{address} ran it")),
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let report = report.address(address).field("status", ran.status.as_u16());
        Some(match self.opcache {
            Some(_) => report,
            None => report.field("output", text(&ran.output)).field("stderr", text(&ran.stderr)),
        })
    }
}

impl From<fcgi::Error> for Stopped {
    fn from(error: fcgi::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Failed> for Stopped {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// Whether this may be php-fpm's own answer about a script that it does not find or may not open.
/// Only the end shows.
fn holds_back(ran: &Ran) -> bool {
    matches!(ran.status.as_u16(), 403 | 404)
}

async fn print(bytes: Bytes, budget: &Budget) -> Result<(), Stopped> {
    Writer::Stdout.write(bytes, budget).await.map_err(Stopped::Output)
}

/// Prints STDERR: escaped for a terminal, otherwise as it is (H-10).
async fn log(bytes: &[u8], escaper: Option<&mut Escaper>, budget: &Budget) -> Result<(), Stopped> {
    if bytes.is_empty() {
        return Ok(());
    }
    let text = escaper.map(|escaper| escaper.push(bytes));
    let text = text.map_or_else(|| Bytes::copy_from_slice(bytes), Bytes::from);
    match Writer::Stderr.write(text, budget).await {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Stopped::Output(error)),
        // A failure of stderr can't be reported anywhere.
        _ => Ok(()),
    }
}

/// Whether php-fpm did not run the script, because it did not find it or may not open it.
fn is_unseen(ran: &Ran) -> bool {
    let said = [
        &b"Primary script unknown"[..],
        b"Unable to open primary script",
        b"security.limit_extensions",
    ];
    holds_back(ran) && said.iter().any(|said| contains(&ran.stderr, said))
}

/// The line in which PHP reports a fatal error.
fn fatal(stderr: &[u8]) -> Option<&[u8]> {
    stderr.split(|byte| *byte == b'\n').find_map(|line| {
        let at = line.windows(FATAL[0].len()).position(|window| FATAL.contains(&window))?;
        Some(&line[at..])
    })
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Code for `php -r`, as a script. PHP's messages go to STDERR, whatever the pool's settings are.
/// `PHP_VALUE` would stay set for the worker's later requests.
fn inline(code: &str) -> Vec<u8> {
    let code = code.strip_prefix("<?php").unwrap_or(code).trim_end();
    let end = if code.ends_with([';', '}']) || code.contains("?>") { "" } else { ";" };
    let quoted = code.replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "<?php if (function_exists('ini_set')) {{ ini_set('display_errors', '0'); \
         ini_set('html_errors', '0'); ini_set('log_errors', '1'); @ini_set('error_log', ''); }} \
         eval('{quoted}{end}');\n"
    )
    .into_bytes()
}

/// Waits for a signal that ends the command; returns its name and number.
async fn signalled() -> (&'static str, u8) {
    let kinds = [
        ("SIGINT", 2, SignalKind::interrupt()),
        ("SIGTERM", 15, SignalKind::terminate()),
        ("SIGHUP", 1, SignalKind::hangup()),
        ("SIGQUIT", 3, SignalKind::quit()),
    ];
    let mut caught = tokio::task::JoinSet::new();
    for (name, number, kind) in kinds {
        if let Ok(mut signal) = catch(kind) {
            caught.spawn(async move {
                signal.recv().await;
                (name, number)
            });
        }
    }
    match caught.join_next().await {
        Some(Ok(signal)) => signal,
        _ => pending().await,
    }
}
