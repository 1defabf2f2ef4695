//! `fcgi ls`: the applications on this machine.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use fcgi_engine::text::escape;
use fcgi_tokio::{Address, Target};
use tokio::task::JoinSet;

use crate::{
    args::limit,
    ask::{self, NoValues},
    budget::{self, Budget},
    causes::{self, Cause},
    discovery,
    exit::Exit,
    fpm_config::{self, Pool},
    report::{Form, Report, print_result},
    sock_diag::{self, NoQueue, Queue},
    table::Table,
};

/// List the sockets that applications listen on, and whether they answer
///
/// It looks into the usual places (/run/php*, /run/php-fpm and the like) and at the listeners of
/// php-fpm's pools, if their configuration can be read: that of packages, and of each running
/// php-fpm. Each socket is asked for its capacity (GET_VALUES), which runs no script.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Ls {
    /// Also read this configuration file of php-fpm; repeatable
    #[arg(long, value_name = "FILE")]
    fpm_config: Vec<PathBuf>,
    /// Time limit for an answer; all are asked at the same time
    #[arg(long, value_name = "SECONDS", default_value = budget::PROBE, value_parser = limit)]
    timeout: Duration,
    #[command(flatten)]
    form: Form,
}

const AFTER_HELP: &str = "\
Exit status:
  0  the sockets are listed, whether or not they answer
  2  usage, a file that can't be read, or nothing is found

Examples:
  What is here?
    fcgi ls
  What does not answer?
    fcgi ls --json | jq -r 'select(.answers | not) | .address'";

/// A listener that exists, or should.
struct Found {
    address: Address,
    pool: Option<Pool>,
}

/// The result of asking it.
struct Seen {
    found: Found,
    queue: Result<Queue, NoQueue>,
    answer: Result<(), NoAnswer>,
    took: Duration,
}

struct NoAnswer {
    /// A few words for a column.
    short: String,
    message: String,
    cause: Option<Cause>,
}

impl Ls {
    pub(crate) async fn run(self) -> ExitCode {
        let form = self.form;
        let found = match self.find() {
            Ok(found) => found,
            Err(message) => return Report::new("ls", Exit::Usage, message).finish(form, false),
        };
        let mut tasks = JoinSet::new();
        for (n, found) in found.into_iter().enumerate() {
            let budget = Budget::new(Some(self.timeout));
            tasks.spawn(async move { (n, ask(found, &budget).await) });
        }
        let mut seen = tasks.join_all().await;
        seen.sort_by_key(|(n, _)| *n);
        let seen = seen.iter().map(|(_, seen)| seen);
        if form.nagios {
            return all(seen).finish(form, false);
        }
        let text = if form.json {
            seen.map(|seen| report(seen).json(form)).collect::<Vec<_>>().join("\n")
        } else {
            table(seen).trim_end().to_owned()
        };
        let exit = match text.is_empty() {
            true => Exit::Done,
            false => print_result("ls", &text, Exit::Done),
        };
        ExitCode::from(form.status(exit))
    }

    fn find(&self) -> Result<Vec<Found>, String> {
        let mut pools = Vec::new();
        for file in &self.fpm_config {
            let read = fpm_config::pools_of(file);
            pools.extend(read.map_err(|error| format!("read {}: {error}", file.display()))?);
        }
        pools.extend(fpm_config::pools());
        let mut found: Vec<Found> = Vec::new();
        let mut add = |address: Address, pool: Option<Pool>| {
            let key = key(&address);
            if !found.iter().any(|found| self::key(&found.address) == key) {
                found.push(Found { address, pool });
            }
        };
        for pool in pools {
            if let Some(address) = pool.listen() {
                add(address, Some(pool));
            }
        }
        for address in discovery::sockets().into_iter().map(Address::from) {
            add(address, None);
        }
        // php-fpm's container image has only a port.
        for address in discovery::addresses() {
            add(address, None);
        }
        found.sort_by_key(|found| found.address.to_string());
        if found.is_empty() {
            return Err(
                "no socket is in /run/php*, /run/php-fpm and the like, and no configuration \
                        of php-fpm can be read: is the application in another container?"
                    .to_owned(),
            );
        }
        Ok(found)
    }
}

/// What two names of the same socket have in common.
pub(crate) fn key(address: &Address) -> String {
    match address.target() {
        Target::Unix(path) => {
            fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
        }
        Target::Tcp(host_port) => host_port.replace("localhost:", "127.0.0.1:"),
        _ => address.to_string(),
    }
}

async fn ask(found: Found, budget: &Budget) -> Seen {
    // Read it before our own connection waits there too.
    let queue = sock_diag::accept_queue(&found.address).await;
    let address = &found.address;
    let values = ask::values(address, budget).await;
    let took = budget.elapsed();
    let answer = values.map(drop).map_err(|no| no_answer(&no, address));
    Seen { found, queue, answer, took }
}

fn no_answer(no: &NoValues, address: &Address) -> NoAnswer {
    let cause = no.cause(address);
    let short = match &cause {
        Some(cause) => cause.id.replace('-', " "),
        None => no.report(),
    };
    NoAnswer { short, message: no.report(), cause }
}

fn table<'a>(seen: impl Iterator<Item = &'a Seen>) -> String {
    let mut table = Table::new(["ADDRESS", "POOL", "OWNER", "MODE", "QUEUE", "ANSWERS"]);
    for it in seen {
        let (owner, mode) = owner(&it.found.address).unwrap_or_else(|| ("-".into(), "-".into()));
        let pool = it.found.pool.as_ref();
        table.row([
            escape(it.found.address.to_string().as_bytes(), b""),
            pool.map_or_else(|| "-".to_owned(), |pool| escape(pool.name.as_bytes(), b"")),
            owner,
            mode,
            match &it.queue {
                Ok(Queue { waiting, limit }) => format!("{waiting}/{limit}"),
                Err(_) => "-".to_owned(),
            },
            match &it.answer {
                Ok(()) => format!("yes, in {:.1?}", it.took),
                Err(no) => format!("no: {}", no.short),
            },
        ]);
        if let Err(no) = &it.answer {
            table.note(match &no.cause {
                Some(cause) => cause.to_string(),
                None => no.message.clone(),
            });
        }
    }
    table.text()
}

/// `www-data:www-data` and `0660`, of a unix socket.
fn owner(address: &Address) -> Option<(String, String)> {
    let Target::Unix(path) = address.target() else { return None };
    let meta = fs::metadata(path).ok()?;
    let name = |file, id| causes::name(file, id);
    let owner = format!("{}:{}", name("/etc/passwd", meta.uid()), name("/etc/group", meta.gid()));
    Some((owner, format!("{:04o}", meta.mode() & 0o7777)))
}

/// One line about all of them.
fn all<'a>(seen: impl Iterator<Item = &'a Seen>) -> Report {
    let (mut sockets, mut silent) = (0, Vec::new());
    for it in seen {
        sockets += 1;
        if let Err(no) = &it.answer {
            silent.push(format!("{} ({})", it.found.address, no.short));
        }
    }
    let answering = sockets - silent.len();
    let mut message = format!("{answering} of {sockets} sockets answer");
    if !silent.is_empty() {
        message.push_str(&format!("; not {}", silent.join(", ")));
    }
    Report::new("ls", Exit::Done, message)
        .performance(format!("sockets={sockets};;;0;"))
        .performance(format!("answering={answering};;;0;{sockets}"))
}

fn report(seen: &Seen) -> Report {
    let Seen { found: Found { address, pool }, queue, answer, took } = seen;
    let report = match answer {
        Ok(()) => Report::new("ls", Exit::Done, format!("{address} answers")),
        Err(no) => Report::new("ls", Exit::Done, no.message.clone()).cause(no.cause.clone()),
    };
    let (owner, mode) = owner(address).unzip();
    let queue = queue.as_ref().ok();
    let text = |path: &Path| path.display().to_string();
    report
        .address(address)
        .field("answers", answer.is_ok())
        .field("pool", pool.as_ref().map(|pool| pool.name.clone()))
        .field("file", pool.as_ref().map(|pool| text(&pool.file)))
        .field("ping_path", pool.as_ref().and_then(|pool| pool.get("ping.path")))
        .field("status_path", pool.as_ref().and_then(|pool| pool.get("pm.status_path")))
        .field("owner", owner)
        .field("mode", mode)
        .field("queue", queue.map(|queue| queue.waiting))
        .field("queue_limit", queue.map(|queue| queue.limit))
        .duration("time", *took, None)
}
