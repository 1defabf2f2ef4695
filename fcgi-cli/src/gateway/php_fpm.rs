//! A php-fpm that the gateway starts for one folder.

use std::{
    env,
    ffi::OsString,
    fs,
    future::Future,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use fcgi_tokio as fcgi;
use rustix::process::geteuid;
use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use super::{
    folder::{self, private_folder},
    log::complain,
    options::Options,
    supervised::{Program, Running, Supervised},
};

const START: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// Users that web servers run as, and one that every system has.
const USERS: [&str; 4] = ["www-data", "apache", "http", "nobody"];

pub(super) struct PhpFpm {
    program: PathBuf,
    user: Option<String>,
    address: fcgi::Address,
    supervised: Supervised,
}

impl PhpFpm {
    /// Starts php-fpm and waits until it accepts connections. It starts workers on demand, up to
    /// the number of connections, and uses the system's php.ini.
    ///
    /// # Cancellation safety
    /// Dropping the future leaves the end of what was started to the guard. To end it, use `stop`:
    /// the result is then `None`, and nothing is left.
    pub(super) async fn start(
        root: &Path,
        options: &Options,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Self>> {
        let path = match &options.php_fpm {
            Some(path) => path.clone(),
            None => find().context(
                "no php-fpm found in PATH or the folders of daemons; --php-fpm PATH names one",
            )?,
        };
        let folder = private_folder(folder::PHP).context("make a temporary folder")?;
        let socket = folder.path().join("php");
        let user = user_for(root)?;
        let text = config(&socket, options, user.as_deref())?;
        let config = folder.path().join("php-fpm.conf");
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;

        let mut command: Vec<OsString> = vec![path.clone().into(), "--nodaemonize".into()];
        command.extend(["--fpm-config".into(), config.into()]);
        for setting in &options.ini {
            command.extend(["-d".into(), setting.clone()]);
        }
        let stale = Some(socket.clone());
        let program = Program { name: "php-fpm", command, stdin: None, folder, stale };
        let mut running = program.run()?;
        let started = tokio::select! {
            started = ready(&path, &socket, &mut running) => Some(started),
            () = stop => None,
        };
        let supervised = Supervised::new(program, running);
        if let Some(Ok(())) = started {
            let address = fcgi::Address::unix(socket);
            return Ok(Some(Self { program: path, user, address, supervised }));
        }
        supervised.stop().await;
        started.transpose().map(|_| None)
    }

    pub(super) fn address(&self) -> &fcgi::Address {
        &self.address
    }

    /// Its description for people.
    pub(super) fn name(&self) -> String {
        let program = self.program.file_name().unwrap_or_default().to_string_lossy();
        match &self.user {
            Some(user) => format!("a private {program} as {user}"),
            None => format!("a private {program}"),
        }
    }

    /// Ends it and its workers.
    pub(super) async fn stop(self) {
        self.supervised.stop().await;
    }
}

async fn ready(program: &Path, socket: &Path, running: &mut Running) -> Result<()> {
    let deadline = Instant::now() + START;
    while UnixStream::connect(socket).await.is_err() {
        let program = program.display();
        ensure!(!running.has_ended()?, "{program} ended before it accepted connections");
        ensure!(Instant::now() < deadline, "{program} accepts no connection within {START:?}");
        sleep(POLL).await;
    }
    Ok(())
}

/// The user that root's workers run as: the owner of the folder or, if that is root, an ordinary
/// user.
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
        // php would only report that the script does not exist.
        let folder = folder.display();
        complain(&format!("{folder} may be closed to {name}, who runs the scripts"));
    }
    Ok(Some(name))
}

fn config(socket: &Path, options: &Options, user: Option<&str>) -> Result<String> {
    let Options { connections: workers, split: suffixes, env: variables, .. } = options;
    let socket = socket.to_str().context("the temporary folder's name is no text")?;
    let user = user.map(|user| format!("user = {user}\n")).unwrap_or_default();
    let suffixes = suffixes.join(" ");
    let plain = |text: &str| !text.contains(['"', '\\', '\n', '$']);
    ensure!(plain(socket) && plain(&suffixes), "php-fpm can't be told of {socket} or {suffixes}");
    // php-fpm replaces $NAME with the value in its own environment.
    let is_set = |name: &&String| env::var_os(name).is_some_and(|value| !value.is_empty());
    let variables: String =
        variables.iter().filter(is_set).map(|name| format!("env[{name}] = ${name}\n")).collect();
    // Workers start only with their first request. What they print to their stderr
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
         {variables}\
         security.limit_extensions = {suffixes}\n"
    ))
}

/// `php-fpm`, or the newest of `php-fpm8.4` and the like.
fn find() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // An ordinary user's PATH lacks the folders for daemons.
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
    // Somebody chose what is installed or linked as php-fpm.
    plain.or_else(newest)
}
