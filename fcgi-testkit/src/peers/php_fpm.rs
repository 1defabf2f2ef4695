//! php-fpm with one pool on a unix socket and one on a loopback port.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::daemon::{self, Daemon, doing};
use super::{Peer, StartError, php_fpm};
use crate::listening::{listens, listens_at};

/// The scripts in the document root, with their names.
const SCRIPTS: &[(&str, &str)] = &[
    ("big.php", include_str!("../../assets/www/big.php")),
    ("echo.php", include_str!("../../assets/www/echo.php")),
    ("env.php", include_str!("../../assets/www/env.php")),
    ("err.php", include_str!("../../assets/www/err.php")),
    ("exit.php", include_str!("../../assets/www/exit.php")),
    ("interop.php", include_str!("../../assets/interop/app.php")),
    ("finish.php", include_str!("../../assets/www/finish.php")),
    ("hello.php", include_str!("../../assets/www/hello.php")),
    ("sleep.php", include_str!("../../assets/www/sleep.php")),
    ("slow.php", include_str!("../../assets/www/slow.php")),
];

/// How to start [`PhpFpm`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PhpFpmOptions {
    /// Worker processes of each pool, 4 by default. A kept connection pins
    /// one, even while it is idle.
    pub children: usize,
    /// The number of requests after which a worker exits; 0, the default, means no limit.
    pub max_requests: usize,
    /// Whether the pool on a unix socket has `pm.status_listen`, which takes another process; off
    /// by default.
    pub status_listen: bool,
    /// Settings of php.ini, such as `zend_extension=opcache`.
    pub ini: Vec<String>,
    /// Directives for each pool, in place of those above and of its own, such as
    /// `ping.path = /health`.
    pub extra: String,
}

impl Default for PhpFpmOptions {
    fn default() -> Self {
        Self {
            children: 4,
            max_requests: 0,
            status_listen: false,
            ini: Vec::new(),
            extra: String::new(),
        }
    }
}

impl PhpFpmOptions {
    /// Sets the worker processes of each pool.
    pub fn children(mut self, children: usize) -> Self {
        self.children = children;
        self
    }

    /// Sets the requests after which a worker leaves.
    pub fn max_requests(mut self, requests: usize) -> Self {
        self.max_requests = requests;
        self
    }

    /// Has the status page of the pool on a unix socket at [`PhpFpm::status_address`] too.
    pub fn status_listen(mut self) -> Self {
        self.status_listen = true;
        self
    }

    /// Adds a setting of php.ini.
    pub fn ini(mut self, setting: impl Into<String>) -> Self {
        self.ini.push(setting.into());
        self
    }

    /// Sets directives for each pool.
    pub fn extra(mut self, directives: impl Into<String>) -> Self {
        self.extra = directives.into();
        self
    }
}

/// A running php-fpm. It answers `/ping` with `pong`, `/status` with its
/// status page, and runs these scripts of its document root:
///
/// | script | does |
/// | --- | --- |
/// | `hello.php` | answers `Hello, world\n` |
/// | `env.php` | lists the parameters, then STDIN's length and MD5 |
/// | `echo.php` | answers with STDIN |
/// | `big.php?n=` | answers with `n` times `x` |
/// | `err.php` | writes a line to STDERR, answers `teapot\n` with status 418 |
/// | `slow.php` | five lines, 200 ms apart |
/// | `sleep.php?s=` | sleeps `s` seconds, printing nothing, then `awake\n` |
/// | `finish.php?gate=&url=` | answers `finished\n`, then continues: gets `url`, if it is given, then waits until the file `gate` of the document root is there |
/// | `interop.php` | has the routes of [`Application`](super::Application), by REQUEST_URI |
/// | `exit.php?c=` | answers `exiting\n`, exits with `c`; the app status is 0 all the same |
///
/// Root's workers run as an ordinary user: the loopback port is open to
/// everybody on the machine, and runs any script.
#[derive(Debug)]
pub struct PhpFpm {
    // Stopped before its folder is removed.
    daemon: Daemon,
    port: u16,
    dir: TempDir,
}

impl PhpFpm {
    /// Starts php-fpm and waits until both of its sockets accept.
    ///
    /// # Errors
    ///
    /// [`StartError`], with the end of php-fpm's log where it has one.
    pub fn start(options: PhpFpmOptions) -> Result<Self, StartError> {
        let program = php_fpm()?;
        let dir = daemon::scratch()?;
        write_scripts(&dir.path().join("www"))?;
        let conf = dir.path().join("php-fpm.conf");
        let socket = dir.path().join("php.sock");
        let (daemon, port) = daemon::on_free_port(|port| {
            daemon::write(&conf, &config(&options, dir.path(), port))?;
            let mut command = Command::new(&program);
            command.args(options.ini.iter().flat_map(|setting| ["-d", setting]));
            command.args(["-n", "-F", "-y"]).arg(&conf);
            Daemon::start(Peer::PhpFpm, command, dir.path().join("log"), || {
                // A connection would wait in the queue, which tests look at.
                listens(&socket) && listens_at(port)
            })
        })?;
        Ok(Self { daemon, port, dir })
    }

    /// The pool on a unix socket, as `unix:PATH`.
    pub fn unix_address(&self) -> String {
        format!("unix:{}", self.dir.path().join("php.sock").display())
    }

    /// Where the status of the pool on a unix socket is answered when all workers are busy, with
    /// [`PhpFpmOptions::status_listen`].
    pub fn status_address(&self) -> String {
        format!("unix:{}", self.dir.path().join("status.sock").display())
    }

    /// The pool on a loopback port, as `tcp:127.0.0.1:PORT`.
    pub fn tcp_address(&self) -> String {
        format!("tcp:127.0.0.1:{}", self.port)
    }

    /// The folder of the scripts.
    pub fn document_root(&self) -> PathBuf {
        self.dir.path().join("www")
    }

    /// SCRIPT_FILENAME of a script, such as `hello.php`.
    pub fn script(&self, name: &str) -> PathBuf {
        self.document_root().join(name)
    }

    /// The process id of the master.
    pub fn id(&self) -> u32 {
        self.daemon.id()
    }

    /// The end of its log, for a failed test's message.
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

fn write_scripts(www: &Path) -> Result<(), StartError> {
    fs::create_dir(www).map_err(doing(format!("creating {}", www.display())))?;
    // The umask may be tight, and root's workers are another user.
    daemon::set_mode(www, 0o755)?;
    for (name, text) in SCRIPTS {
        let script = www.join(name);
        daemon::write(&script, text)?;
        daemon::set_mode(&script, 0o644)?;
    }
    Ok(())
}

fn config(options: &PhpFpmOptions, dir: &Path, port: u16) -> String {
    let user =
        if daemon::is_root() { format!("user = {}", daemon::worker_user()) } else { String::new() };
    let pool = include_str!("../../assets/php-fpm-pool.conf")
        .replace("@CHILDREN@", &options.children.max(1).to_string())
        .replace("@MAX_REQUESTS@", &options.max_requests.to_string());
    let status_listen =
        if options.status_listen { "pm.status_listen = @DIR@/status.sock" } else { "" };
    // The first of two values of PHP's settings counts, and the last of php-fpm's own.
    let name = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let given: Vec<String> = options.extra.lines().map(name).collect();
    let own = pool.lines().filter(|line| !given.contains(&name(line)));
    let pool = own.chain(options.extra.lines()).collect::<Vec<_>>().join("\n");
    include_str!("../../assets/php-fpm.conf")
        .replace("@POOL@", &pool)
        .replace("@STATUS_LISTEN@", status_listen)
        .replace("@USER@", &user)
        .replace("@PORT@", &port.to_string())
        .replace("@DIR@", &dir.display().to_string())
}
