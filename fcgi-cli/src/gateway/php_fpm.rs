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

use anyhow::{Context, Result, bail, ensure};
use fcgi_engine::text::escape;
use fcgi_tokio as fcgi;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    net::UnixStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{folder::private_folder, sink::complain};

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// The most of a line of its log, in bytes.
const MAX_LINE: u64 = 8 * 1024;
/// Users that web servers run as, and one that every system has.
const USERS: [&str; 4] = ["www-data", "apache", "http", "nobody"];

pub(super) struct PhpFpm {
    program: PathBuf,
    user: Option<String>,
    address: fcgi::Address,
    child: Child,
    folder: TempDir,
}

impl PhpFpm {
    /// Starts php-fpm and waits until it accepts connections. It has as many workers as there are
    /// connections, started as they are needed, and the system's php.ini.
    pub(super) async fn start(root: &Path, workers: usize, suffixes: &[String]) -> Result<Self> {
        let program = find().context("no php-fpm found in PATH or the folders of daemons")?;
        let folder = private_folder("fcgi-php-").context("make a temporary folder")?;
        let socket = folder.path().join("php");
        let user = user_for(root)?;
        let config = config(&socket, workers, suffixes, user.as_deref())?;
        let file = folder.path().join("php-fpm.conf");
        fs::write(&file, config).with_context(|| format!("write {}", file.display()))?;

        let mut command = std::process::Command::new(&program);
        command.args(["--nodaemonize", "--fpm-config"]).arg(&file);
        // A Ctrl-C is for the gateway, which lets the scripts under way finish first.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log(stderr));
        }
        let address = fcgi::Address::unix(socket.clone());
        let mut started = Self { program, user, address, child, folder };
        started.ready(&socket).await?;
        Ok(started)
    }

    async fn ready(&mut self, socket: &Path) -> Result<()> {
        let deadline = Instant::now() + START;
        while UnixStream::connect(socket).await.is_err() {
            let program = self.program.display();
            if let Some(status) = self.child.try_wait()? {
                bail!("{program} ended before it accepted connections: {status}");
            }
            ensure!(Instant::now() < deadline, "{program} accepts no connection within {START:?}");
            sleep(POLL).await;
        }
        Ok(())
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
    pub(super) async fn stop(mut self) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(STOP, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
        drop(self.folder);
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
    workers: usize,
    suffixes: &[String],
    user: Option<&str>,
) -> Result<String> {
    let socket = socket.to_str().context("the temporary folder's name is no text")?;
    let user = user.map(|user| format!("user = {user}\n")).unwrap_or_default();
    let suffixes = suffixes.join(" ");
    let plain = |text: &str| !text.contains(['"', '\\', '\n', '$']);
    ensure!(plain(socket) && plain(&suffixes), "php-fpm can't be told of {socket} or {suffixes}");
    // Workers that wait for their first request need not run yet. What they print to their stderr
    // is the application's log.
    Ok(format!(
        "[global]\n\
         error_log = /dev/stderr\n\
         log_level = warning\n\
         [gateway]\n\
         listen = \"{socket}\"\n\
         {user}\
         pm = ondemand\n\
         pm.max_children = {workers}\n\
         catch_workers_output = yes\n\
         decorate_workers_output = no\n\
         clear_env = no\n\
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
