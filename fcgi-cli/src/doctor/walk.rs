//! The steps themselves.

use std::{
    fs,
    os::unix::fs::FileTypeExt,
    path::Path,
    time::{Duration, Instant},
};

use fcgi_engine::text::chain;
use fcgi_tokio::{self as fcgi, Address, Phase, Target};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use super::{
    body::{Sent, zeros},
    options::Doctor,
    steps::Steps,
};
use crate::{
    ask::{self, Answer, Failed},
    budget::Budget,
    causes::{self, Cause},
    exit::Exit,
    fpm_config::{self, Pool},
    ls,
    place::NoPlace,
    report::Report,
    sock_diag::{self, NoQueue, Queue},
    status::{Look, Pool as Asked},
};

/// How much of an answer is examined, in bytes.
const MOST: usize = 1 << 20;
/// php-fpm's message if it has no such page or script.
const NO_SCRIPT: &str = "File not found.";

pub(super) struct Walk<'a> {
    doctor: &'a Doctor,
    /// The time for all steps together.
    budget: Budget,
    steps: Steps,
}

/// No further step makes sense.
struct Stop;

type Step<T = ()> = Result<T, Stop>;

impl<'a> Walk<'a> {
    pub(super) fn new(doctor: &'a Doctor) -> Self {
        let is_printed = !doctor.form.json && !doctor.form.nagios;
        let budget = Budget::new(Some(doctor.timeout));
        Self { doctor, budget, steps: Steps::new(is_printed) }
    }

    pub(super) async fn walk(&mut self) -> Report {
        let started = Instant::now();
        let found = self.doctor.place.find();
        let address = match found {
            Ok(address) => address,
            Err(error) => {
                return Report::new("doctor", NoPlace::EXIT, error.to_string());
            }
        };
        // The findings say where it ended.
        let _ = self.all(&address).await;
        let report = match self.steps.findings.first() {
            None => Report::new("doctor", Exit::Done, format!("{address}: nothing is wrong")),
            Some(finding) => Report::new("doctor", finding.exit, finding.message.clone())
                .cause(finding.cause.clone()),
        };
        report
            .address(&address)
            .field("findings", self.steps.findings.len())
            .field("steps", self.steps.json())
            .duration("time", started.elapsed(), None)
    }

    async fn all(&mut self, address: &Address) -> Step {
        let pool = self.configuration(address)?;
        // Read it before the connections of the other steps wait there too.
        let queue = sock_diag::accept_queue(address);
        let queue = self.budget.hold_io(async { Ok(queue.await) }).await;
        self.socket(address, pool.as_ref()).await?;
        if let Ok(queue) = queue {
            self.queue(queue);
        }
        let is_php = self.speaks(address, pool.as_ref()).await?;
        if is_php {
            self.status(address, pool.as_ref()).await;
        }
        if let Some(script) = &self.doctor.script {
            self.script(address, script, pool.as_ref()).await;
        }
        Ok(())
    }

    /// The pool of php-fpm's configuration that listens there.
    fn configuration(&mut self, address: &Address) -> Step<Option<Pool>> {
        let pools = match &self.doctor.fpm_config {
            None => fpm_config::pools(),
            Some(file) => fpm_config::pools_of(file).map_err(|error| {
                let message = format!("read {}: {error}", file.display());
                self.steps.wrong("configuration", Exit::Usage, message, None);
                Stop
            })?,
        };
        let wanted = ls::key(address);
        let is_meant = |pool: &&Pool| {
            pool.listen()
                .is_some_and(|listen| ls::key(&listen) == wanted || is_same_port(&listen, address))
        };
        if let Some(pool) = pools.iter().find(is_meant) {
            let text = format!("pool {} of {}", pool.name, pool.file.display());
            self.steps.well("configuration", text);
            return Ok(Some(pool.clone()));
        }
        if let Some(file) = &self.doctor.fpm_config {
            let listen: Vec<String> = pools
                .iter()
                .filter_map(|pool| Some(format!("{} ({})", pool.listen()?, pool.name)))
                .collect();
            let listen = if listen.is_empty() { "none".to_owned() } else { listen.join(", ") };
            let text = format!("no pool of {} listens at {address}: {listen}", file.display());
            self.steps.note("configuration", text);
        }
        Ok(None)
    }

    async fn socket(&mut self, address: &Address, pool: Option<&Pool>) -> Step {
        if let Target::Unix(path) = address.target() {
            let socket = fs::metadata(path).ok().filter(|meta| meta.file_type().is_socket());
            if let Some(meta) = socket {
                let text = format!("{} is there, {}", path.display(), causes::owner_of(path));
                self.steps.well("socket", text);
                if let Some(user) = causes::only_user_of(&meta) {
                    let text = format!(
                        "only {user} may connect: a web server that runs as another user gets \
                         \"Permission denied\", unless the socket has its group and mode 0660"
                    );
                    self.steps.note("permissions", text);
                }
            }
        }
        let started = Instant::now();
        match ask::connect(address, &self.budget).await {
            Ok(_) => {
                self.steps.well("connect", format!("in {:.1?}", started.elapsed()));
                Ok(())
            }
            Err(error) => {
                let mut cause = causes::of(&error, address);
                if let (Some(cause), Some(pool)) = (&mut cause, pool) {
                    add_configured(cause, pool);
                }
                let message = error.report().to_string();
                self.steps.wrong("connect", Exit::of(&error), message, cause);
                Err(Stop)
            }
        }
    }

    fn queue(&mut self, queue: Result<Queue, NoQueue>) {
        match queue {
            Ok(Queue { waiting, limit }) => {
                let text = format!("{waiting} of {limit} wait (kernel)");
                if waiting > 0 {
                    self.steps.note("queue", text);
                } else {
                    self.steps.well("queue", text);
                }
            }
            Err(why) => self.steps.note("queue", format!("the kernel can't tell: {why}")),
        }
    }

    /// Whether it is FastCGI at all, and php-fpm: requests its ping page.
    async fn speaks(&mut self, address: &Address, pool: Option<&Pool>) -> Step<bool> {
        let configured = pool.and_then(|pool| pool.get("ping.path"));
        let path = configured.as_deref().unwrap_or("/ping");
        let started = Instant::now();
        // If it is silent, there must be time left to ask whether it is HTTP.
        let budget = self.budget.part(self.doctor.timeout / 2);
        let answer = match ask::ask(address, ask::get(path), &budget, MOST).await {
            Ok(answer) => answer,
            Err(Failed::Head { stdout, .. }) => {
                self.steps.well("FastCGI", "it speaks it");
                let text = if stdout.is_empty() { "nothing" } else { "no CGI response" };
                self.steps.note("ping", format!("{path} was answered with {text}"));
                return Ok(false);
            }
            Err(Failed::Call(error)) => {
                self.silent(address, &error, pool).await;
                return Err(Stop);
            }
        };
        self.steps.well("FastCGI", format!("it answers, in {:.1?}", started.elapsed()));
        let pong = pool.and_then(|pool| pool.get("ping.response"));
        let pong = pong.as_deref().unwrap_or("pong");
        let status = answer.head.parts.status.as_u16();
        let is_php = is_php(&answer);
        let text = format!("{path} was answered with {}", answer.status_line());
        match status {
            200 if answer.body.trim_ascii() == pong.as_bytes() => {
                self.steps.well("ping", format!("{path} is answered with {pong}"));
                return Ok(true);
            }
            403 | 404 if is_php => {
                let cause = causes::no_ping(path, configured_as(pool, "ping.path").as_deref());
                self.steps.wrong("ping", Exit::Unwanted, format!("{address}: {text}"), Some(cause));
            }
            500.. => {
                let cause = causes::of_answer(&answer, path);
                self.steps.wrong("ping", Exit::Unwanted, format!("{address}: {text}"), cause);
            }
            _ => self.steps.note("ping", format!("{text}: it is not php-fpm's ping page")),
        }
        Ok(is_php)
    }

    /// It accepts a connection but gives no FastCGI answer.
    async fn silent(&mut self, address: &Address, error: &fcgi::Error, pool: Option<&Pool>) {
        let mut cause = causes::of(error, address);
        let is_connect = matches!(error, fcgi::Error::Timeout { phase: Phase::Connect, .. });
        let is_known = cause.as_ref().is_some_and(|cause| matches!(cause.id, "http" | "stopped"));
        if !is_known
            && !is_connect
            && speaks_http(address, self.budget.left().unwrap_or_default()).await
        {
            cause = Some(causes::http());
        }
        let allowed = pool.and_then(|pool| pool.get("listen.allowed_clients"));
        if let (Some(cause), Some(allowed)) = (&mut cause, allowed) {
            if cause.id == "allowed-clients" {
                cause.likely = format!(
                    "listen.allowed_clients of the pool is {allowed}, and you are not among them"
                );
                cause.remedy = "add this machine's address to it, and restart php-fpm".to_owned();
            }
        }
        let message = error.report().to_string();
        self.steps.wrong("FastCGI", Exit::of(error), message, cause);
    }

    async fn status(&mut self, address: &Address, pool: Option<&Pool>) {
        let path = pool.and_then(|pool| pool.get("pm.status_path"));
        let path = path.unwrap_or_else(|| "/status".to_owned());
        let asked = Asked { address: address.clone(), status_address: None, path: path.clone() };
        let look = Look::take(asked, false, self.budget).await;
        match &look.status {
            Ok(status) => {
                let (active, total) = (status.active_processes, status.total_processes);
                let text = format!("{active} of {total} workers of pool {} are busy", status.pool);
                self.steps.well("status", text);
                if status.max_children_reached > 0 {
                    let times = status.max_children_reached;
                    let text = format!("max_children was reached {times} times: requests waited");
                    self.steps.note("workers", text);
                }
            }
            Err(trouble) => {
                let mut cause = look.cause();
                if let (Some(cause), Some(said)) =
                    (&mut cause, configured_as(pool, "pm.status_path"))
                {
                    cause.likely = said;
                }
                self.steps.wrong("status", trouble.exit, trouble.message.clone(), cause);
            }
        }
    }

    async fn script(&mut self, address: &Address, script: &str, pool: Option<&Pool>) {
        if !script.starts_with('/') {
            let text = format!("{script} does not start with a slash: php-fpm wants a whole path");
            self.steps.note("script", text);
        }
        let name = format!("/{}", script.rsplit('/').next().unwrap_or_default());
        let mut request = ask::get_script(script, &name, "");
        let sent = Sent::default();
        if let Some(body) = self.doctor.body {
            let pairs: Vec<(Vec<u8>, Vec<u8>)> = request
                .begin()
                .params
                .iter()
                .filter(|(name, _)| *name != b"REQUEST_METHOD")
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect();
            request = fcgi::client::Request::responder()
                .keep_conn(false)
                .params(pairs)
                .param("REQUEST_METHOD", "POST")
                .param("CONTENT_TYPE", "application/x-www-form-urlencoded")
                .param("CONTENT_LENGTH", body.to_string())
                .stdin(fcgi::client::Body::from_stream(zeros(body, sent.clone())));
        }
        let answer = match ask::ask(address, request, &self.budget, MOST).await {
            Ok(answer) => answer,
            Err(failed) => {
                let is_late = matches!(&failed, Failed::Call(error) if error.is_timeout() && !error.is_connect());
                let cause = match self.doctor.body {
                    Some(body) if is_late && sent.moves(body) => Some(sent.cause(body)),
                    _ => failed.cause(address),
                };
                let message = chain(&failed).to_string();
                return self.steps.wrong("script", failed.exit(), message, cause);
            }
        };
        let text = format!("{script} was answered with {}", answer.status_line());
        let mut cause = causes::of_answer(&answer, script);
        if let Some(cause) = &mut cause {
            explain_script(cause, script, pool);
        }
        let is_failed = answer.head.parts.status.as_u16() >= 400;
        match cause {
            Some(cause) => {
                let message = format!("{address}: {text}");
                self.steps.wrong("script", Exit::Unwanted, message, Some(cause));
            }
            None if is_failed => {
                self.steps.wrong("script", Exit::Unwanted, format!("{address}: {text}"), None);
            }
            None if answer.app_status != 0 => {
                let message = format!("{address}: it ended with status {}", answer.app_status);
                self.steps.wrong("script", Exit::AppStatus, message, None);
            }
            None => self.steps.well("script", text),
        }
    }
}

/// Whether an answer is from php-fpm: one of its own pages, or a script's.
fn is_php(answer: &Answer) -> bool {
    let powered = answer.head.parts.headers.get("x-powered-by");
    answer.body.trim_ascii() == NO_SCRIPT.as_bytes()
        || answer.stderr.starts_with(b"Primary script unknown")
        || powered.is_some_and(|by| by.as_bytes().starts_with(b"PHP"))
}

/// Whether two addresses name the same port of this machine.
fn is_same_port(one: &Address, two: &Address) -> bool {
    let port = |address: &Address| match address.target() {
        Target::Tcp(host_port) => {
            let (host, port) = host_port.rsplit_once(':')?;
            let is_here = ["127.0.0.1", "localhost", "[::1]"].contains(&host);
            is_here.then(|| port.to_owned())
        }
        _ => None,
    };
    port(one).is_some_and(|port_of_one| port(two) == Some(port_of_one))
}

/// The configured value of a directive.
fn configured_as(pool: Option<&Pool>, directive: &str) -> Option<String> {
    let pool = pool?;
    let file = pool.file.display();
    Some(match pool.get(directive) {
        None => format!("{directive} is not set for pool {} in {file}", pool.name),
        Some(value) => format!("{file} says {directive} = {value}: was php-fpm reloaded since?"),
    })
}

/// Adds the configuration of the pool's socket.
fn add_configured(cause: &mut Cause, pool: &Pool) {
    let said: Vec<String> = ["listen.owner", "listen.group", "listen.mode"]
        .iter()
        .filter_map(|name| Some(format!("{name} = {}", pool.get(name)?)))
        .collect();
    if cause.id == "permission" && !said.is_empty() {
        cause.likely.push_str(&format!(" (pool {} has {})", pool.name, said.join(", ")));
    }
}

/// Adds what is known about a script that php-fpm does not run.
fn explain_script(cause: &mut Cause, script: &str, pool: Option<&Pool>) {
    let get = |name: &str| pool.and_then(|pool| pool.get(name));
    match cause.id {
        "no-script" => {
            if let Some(root) = get("chroot") {
                cause.likely =
                    format!("php-fpm looked for {root}{script}: its pool has chroot = {root}");
                cause.remedy =
                    "leave that root out of the path that the web server sends".to_owned();
            } else if Path::new(script).exists() {
                cause.likely = format!(
                    "{script} is there for you, but not for php-fpm: it runs in another container \
                     or root, or may not enter its folders"
                );
                cause.remedy = "look for its path in php-fpm's container, and have the web server \
                                send that (root, SCRIPT_FILENAME); or open the folders (chmod o+x)"
                    .to_owned();
            }
        }
        "limit-extensions" => {
            if let Some(list) = get("security.limit_extensions") {
                cause.likely = format!("security.limit_extensions of the pool is {list}");
            }
        }
        _ => {}
    }
}

/// Whether a web server listens there, that is, whether it answers HTTP.
async fn speaks_http(address: &Address, limit: Duration) -> bool {
    const REQUEST: &[u8] = b"OPTIONS * HTTP/1.0\r\n\r\n";
    let asked = async {
        let mut start = [0; 5];
        match address.target() {
            Target::Unix(path) => {
                let mut stream = UnixStream::connect(path).await.ok()?;
                stream.write_all(REQUEST).await.ok()?;
                stream.read_exact(&mut start).await.ok()?;
            }
            Target::Tcp(host_port) => {
                let mut stream = TcpStream::connect(host_port).await.ok()?;
                stream.write_all(REQUEST).await.ok()?;
                stream.read_exact(&mut start).await.ok()?;
            }
            _ => return None,
        }
        Some(&start == b"HTTP/")
    };
    tokio::time::timeout(limit, asked).await.ok().flatten().unwrap_or_default()
}
