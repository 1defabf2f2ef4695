//! A php-fpm of the gateway's own, for one folder.

use std::{
    env, fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use fcgi_engine::text::escape;
use fcgi_tokio as fcgi;
use rustix::process::{Pid, geteuid};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    net::UnixStream,
    process::{Child, ChildStdin, Command},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{folder::private_folder, php_guard::end_workers, sink::complain};

const START: Duration = Duration::from_secs(20);
/// More than the guard itself takes.
const STOP: Duration = Duration::from_secs(7);
/// Before php-fpm is started again; each time twice as long, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// The most of a line of its log, in bytes.
const MAX_LINE: u64 = 8 * 1024;
/// Users that web servers run as, and one that every system has.
const USERS: [&str; 4] = ["www-data", "apache", "http", "nobody"];

pub(super) struct PhpFpm {
    program: PathBuf,
    user: Option<String>,
    address: fcgi::Address,
    stop: oneshot::Sender<()>,
    keeper: JoinHandle<()>,
}

/// What is run, again if need be.
struct Program {
    path: PathBuf,
    config: PathBuf,
    socket: PathBuf,
    /// The file with its process id.
    pid: PathBuf,
    folder: TempDir,
}

/// A guard, and php-fpm below it, as long as the pipe is open.
struct Running {
    guard: Child,
    pipe: Option<ChildStdin>,
}

impl PhpFpm {
    /// Starts php-fpm and waits until it accepts connections. It has as many workers as there are
    /// connections, started as they are needed, and the system's php.ini.
    pub(super) async fn start(
        root: &Path,
        workers: usize,
        suffixes: &[String],
        variables: &[String],
    ) -> Result<Self> {
        let path = find().context("no php-fpm found in PATH or the folders of daemons")?;
        let folder = private_folder("fcgi-php-").context("make a temporary folder")?;
        let socket = folder.path().join("php");
        let user = user_for(root)?;
        let pid = folder.path().join("pid");
        let text = config(&socket, &pid, workers, suffixes, variables, user.as_deref())?;
        let config = folder.path().join("php-fpm.conf");
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let address = fcgi::Address::unix(socket.clone());

        let program = Program { path: path.clone(), config, socket, pid, folder };
        let mut running = program.run()?;
        program.ready(&mut running).await?;
        let (stop, stopped) = oneshot::channel();
        let keeper = tokio::spawn(keep(program, running, stopped));
        Ok(Self { program: path, user, address, stop, keeper })
    }

    pub(super) fn address(&self) -> &fcgi::Address {
        &self.address
    }

    /// What it is, for people.
    pub(super) fn name(&self) -> String {
        let program = self.program.file_name().unwrap_or_default().to_string_lossy();
        match &self.user {
            Some(user) => format!("a private {program} as {user}"),
            None => format!("a private {program}"),
        }
    }

    /// Ends it and its workers.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.keeper.await;
    }
}

impl Program {
    fn run(&self) -> Result<Running> {
        // One that was killed leaves its socket.
        let _ = fs::remove_file(&self.socket);
        let own = env::current_exe().context("find the program of the gateway")?;
        let mut command = std::process::Command::new(&own);
        command.arg("php-guard").args([&self.path, &self.config]).arg(self.folder.path());
        // A Ctrl-C is for the gateway, which lets the scripts under way finish first.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut guard =
            Command::from(command).spawn().with_context(|| format!("start {}", own.display()))?;
        if let Some(stderr) = guard.stderr.take() {
            tokio::spawn(log(stderr));
        }
        let pipe = guard.stdin.take();
        Ok(Running { guard, pipe })
    }

    /// Ends what is left without a guard.
    fn end(&self) {
        let master = fs::read_to_string(&self.pid).ok().and_then(|id| id.trim().parse().ok());
        if let Some(master) = master.and_then(Pid::from_raw) {
            end_workers(master);
        }
        let _ = fs::remove_file(&self.pid);
    }

    async fn ready(&self, running: &mut Running) -> Result<()> {
        let deadline = Instant::now() + START;
        while UnixStream::connect(&self.socket).await.is_err() {
            let program = self.path.display();
            ensure!(
                running.guard.try_wait()?.is_none(),
                "{program} ended before it accepted connections"
            );
            ensure!(Instant::now() < deadline, "{program} accepts no connection within {START:?}");
            sleep(POLL).await;
        }
        Ok(())
    }
}

/// Starts it again when it has ended, until the gateway stops.
async fn keep(program: Program, mut running: Running, mut stopped: oneshot::Receiver<()>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        tokio::select! {
            _ = &mut stopped => {
                running.pipe = None;
                if timeout(STOP, running.guard.wait()).await.is_err() {
                    let _ = running.guard.kill().await;
                    program.end();
                }
                return;
            }
            _ = running.guard.wait() => {}
        }
        // If it is the guard that was killed, the rest is still there.
        program.end();
        if started.elapsed() > LAST_PAUSE {
            pause = FIRST_PAUSE;
        }
        loop {
            complain(&format!("php-fpm has ended; it is started again in {pause:?}"));
            tokio::select! {
                _ = &mut stopped => return,
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(LAST_PAUSE);
            match program.run() {
                Ok(again) => {
                    running = again;
                    break;
                }
                Err(error) => complain(&format!("{error:#}")),
            }
        }
    }
}

/// Sends its log to ours, line by line.
async fn log(stderr: impl AsyncRead + Unpin) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut stderr).take(MAX_LINE).read_until(b'\n', &mut line).await {
        let text = line.trim_ascii_end();
        if !text.is_empty() {
            complain(&format!("php-fpm: {}", escape(text, b"\t")));
        }
        line.clear();
    }
}

/// Whom root's workers run as: the owner of the folder or, if that is root, an ordinary user.
fn user_for(root: &Path) -> Result<Option<String>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let metadata = fs::metadata(root).with_context(|| format!("look at {}", root.display()))?;
    let users = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let named = |wanted: &dyn Fn(&str, &str) -> bool| {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, id) = (fields.next()?, fields.nth(1)?);
            wanted(name, id).then(|| name.to_owned())
        })
    };
    if metadata.uid() != 0 {
        let owner = metadata.uid().to_string();
        let name = named(&|_, id| id == owner);
        return Ok(Some(name.with_context(|| format!("user {owner} has no name"))?));
    }
    let name = USERS.iter().find_map(|user| named(&|name, _| name == *user));
    let name = name.context("no user to run php-fpm's workers as")?;
    let is_closed = |folder: &&Path| fs::metadata(folder).is_ok_and(|it| it.mode() & 0o001 == 0);
    if let Some(folder) = root.ancestors().find(is_closed) {
        // php would only say that there is no such script.
        let folder = folder.display();
        complain(&format!("{folder} may be closed to {name}, who runs the scripts"));
    }
    Ok(Some(name))
}

fn config(
    socket: &Path,
    pid: &Path,
    workers: usize,
    suffixes: &[String],
    variables: &[String],
    user: Option<&str>,
) -> Result<String> {
    let text = |path: &Path| path.to_str().map(str::to_owned);
    let socket = text(socket).context("the temporary folder's name is no text")?;
    let pid = text(pid).context("the temporary folder's name is no text")?;
    let user = user.map(|user| format!("user = {user}\n")).unwrap_or_default();
    let suffixes = suffixes.join(" ");
    let plain = |text: &str| !text.contains(['"', '\\', '\n', '$']);
    ensure!(plain(&socket) && plain(&suffixes), "php-fpm can't be told of {socket} or {suffixes}");
    // php-fpm puts the value of its own environment in place of $NAME.
    let is_set = |name: &&String| env::var_os(name).is_some_and(|value| !value.is_empty());
    let variables: String =
        variables.iter().filter(is_set).map(|name| format!("env[{name}] = ${name}\n")).collect();
    // Workers that wait for their first request need not run yet. What they print to their stderr
    // is the application's log.
    Ok(format!(
        "[global]\n\
         error_log = /dev/stderr\n\
         log_level = warning\n\
         pid = \"{pid}\"\n\
         [gateway]\n\
         listen = \"{socket}\"\n\
         {user}\
         pm = ondemand\n\
         pm.max_children = {workers}\n\
         catch_workers_output = yes\n\
         decorate_workers_output = no\n\
         {variables}\
         security.limit_extensions = {suffixes}\n"
    ))
}

/// `php-fpm`, or else the newest `php-fpm8.4` and its like.
fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // An ordinary user's PATH lacks the folders of daemons.
    let folders: Vec<PathBuf> = env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .collect();
    let is_program = |path: &Path| {
        fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let version = |path: &Path| -> Option<(u32, u32)> {
        let (major, minor) =
            path.file_name()?.to_str()?.strip_prefix("php-fpm")?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let plain = folders.iter().map(|folder| folder.join("php-fpm")).find(|path| is_program(path));
    let newest = || {
        let names = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
        names
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter_map(|path| Some((version(&path)?, path)))
            .filter(|(_, path)| is_program(path))
            .max()
            .map(|(_, path)| path)
    };
    // What is called php-fpm was put there, or linked, by choice.
    plain.or_else(newest)
}
