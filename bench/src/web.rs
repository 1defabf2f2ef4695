//! Measures web servers with wrk: one nginx in front of each application, and `fcgi gateway`
//! compared with nginx and Caddy in front of the same applications.

mod front;
mod wrk;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result, anyhow};
use fcgi_testkit::peers::{PhpFpm, PhpFpmOptions};

use self::front::{Front, Site, Target};
use self::wrk::Wrk;
use crate::Options;
use crate::candidates::{self, Go};
use crate::compare::{Column, Comparison, Row};
use crate::cpu::{self, Placement};
use crate::goals::Goal;
use crate::process::Server;

/// The connections that wrk keeps open, and so the most requests at once.
pub(crate) const CONNECTIONS: usize = 16;
/// php-fpm's workers: one for each kept connection.
const CHILDREN: usize = CONNECTIONS;

/// The web servers that are compared.
const FRONTS: [Front; 3] = [Front::Nginx, Front::Gateway, Front::Caddy];

/// What a web server is asked for.
#[derive(Clone, Copy)]
enum What {
    Bare,
    Script(&'static str),
    File(&'static str),
}

/// An application behind the web servers.
struct Application {
    name: &'static str,
    /// Its server; `None` for php-fpm, which is kept elsewhere.
    server: Option<Rc<Server>>,
    target: Target,
}

/// Measures and prints.
pub(crate) fn run(options: &Options, cpus: Placement) -> Result<Vec<Goal>> {
    cpu::pin(cpus.load)?;
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let files = files(dir.path())?;
    let mut goals = Vec::new();
    let wrk = match Wrk::find() {
        Ok(wrk) => wrk,
        Err(error) => {
            println!("### Through web servers\n\nnot run: {error:#}\n");
            return Ok(goals);
        }
    };
    through_nginx(options, cpus, &wrk, dir.path(), &files)?;
    goals.extend(gateway(options, cpus, &wrk, dir.path(), &files)?);
    Ok(goals)
}

/// Creates the folder of the static files, which the servers' users can read.
fn files(dir: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let files = dir.join("www");
    fs::create_dir(&files)?;
    for (name, length) in [("small.txt", 1 << 10), ("large.bin", 1 << 20)] {
        fs::write(files.join(name), vec![b'x'; length])?;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    Ok(files)
}

/// Starts php-fpm on the processor `cpu`.
fn php_fpm(cpu: usize, back: usize) -> Result<PhpFpm> {
    cpu::pin(cpu)?;
    let php = PhpFpm::start(PhpFpmOptions::default().children(CHILDREN));
    cpu::pin(back)?;
    Ok(php?)
}

fn path_of(address: &str) -> PathBuf {
    PathBuf::from(address.strip_prefix("unix:").unwrap_or(address))
}

/// Runs wrk through the same nginx to each application. nginx and the application share a
/// processor.
fn through_nginx(
    options: &Options,
    cpus: Placement,
    wrk: &Wrk,
    dir: &Path,
    files: &Path,
) -> Result<()> {
    println!("### Through nginx\n");
    println!(
        "`wrk` with {CONNECTIONS} connections through the same nginx (one process) to a hello \
         application; both on processor {}, wrk on {}. php-fpm has {CHILDREN} workers, libfcgi and \
         the others one process.\n",
        cpus.server, cpus.load
    );
    let socket = |name: &str| dir.join(format!("{name}.sock"));
    let start = |name: &'static str, command: Result<std::process::Command>| {
        let server = command.and_then(|command| Server::start(command, &socket(name), cpus));
        (name, server)
    };
    let mut servers = Vec::new();
    for adapter in candidates::ADAPTERS {
        servers
            .push(start(adapter, candidates::example(options, adapter, "hello", &socket(adapter))));
    }
    servers.push(start("libfcgi", candidates::libfcgi(dir, &socket("libfcgi"))));
    servers.push(start("Go", candidates::go(dir, Go::Fastcgi, &socket("Go"))));
    let php = php_fpm(cpus.server, cpus.load);

    let mut applications: Vec<Result<Application, (&'static str, anyhow::Error)>> = Vec::new();
    for (name, server) in servers {
        applications.push(match server {
            Ok(server) => Ok(Application {
                name,
                target: Target::application(&server.socket),
                server: Some(Rc::new(server)),
            }),
            Err(error) => Err((name, error)),
        });
    }
    applications.push(match &php {
        Ok(php) => Ok(Application {
            name: "php-fpm",
            server: None,
            target: Target::php(&path_of(&php.unix_address()), &php.document_root(), "hello.php"),
        }),
        Err(error) => Err(("php-fpm", anyhow!("{error:#}"))),
    });
    for (title, keep) in [("kept connections", true), ("a connection for each request", false)] {
        let mut rows = Vec::new();
        for application in &applications {
            rows.push(match application {
                Ok(Application { name, server, target }) => {
                    let keep = match (*name, keep) {
                        // It serves one connection at a time, so a kept connection would block the
                        // others.
                        ("libfcgi", true) => front::Keep::One,
                        (_, true) => front::Keep::All,
                        (_, false) => front::Keep::Not,
                    };
                    let site = Site { target: target.clone(), files: files.to_owned(), keep };
                    let nginx = Front::Nginx.start(options, dir, &site, cpus);
                    let others = server.clone();
                    let php = php.as_ref().ok().filter(|_| server.is_none()).map(PhpFpm::id);
                    Row::new(*name, nginx.and_then(|nginx| wrk.subject(nginx, others, php, &site)))
                }
                Err((name, error)) => Row::new(*name, Err(anyhow!("{error:#}"))),
            });
        }
        let comparison = Comparison::run(options, title, "libfcgi", rows);
        comparison.print(&[Column::RATE, Column::CPU, Column::P99]);
    }
    Ok(())
}

/// Measures `fcgi gateway`, nginx and Caddy; the application is on the processor of wrk.
fn gateway(
    options: &Options,
    cpus: Placement,
    wrk: &Wrk,
    dir: &Path,
    files: &Path,
) -> Result<Vec<Goal>> {
    println!("### `fcgi gateway` beside nginx and Caddy\n");
    println!(
        "`wrk` with {CONNECTIONS} connections; the web server alone on processor {}, wrk and the \
         application on {}. The processor time is the web server's.\n",
        cpus.server, cpus.load
    );
    let around = Placement { load: cpus.load, server: cpus.load };
    let floor = dir.join("bare.sock");
    let bare = candidates::serve([OsStr::new("floor"), floor.as_os_str()])
        .and_then(|command| Server::start(command, &floor, around));
    // One for each web server: a kept connection occupies a worker even while nothing is requested.
    let php = FRONTS.map(|_| php_fpm(cpus.load, cpus.load));
    let bare = || match &bare {
        Ok(_) => Ok(Target::application(&floor)),
        Err(error) => Err(anyhow!("{error:#}")),
    };
    let script = |php: &Result<PhpFpm>, script: &str| match php {
        Ok(php) => Ok(Target::php(&path_of(&php.unix_address()), &php.document_root(), script)),
        Err(error) => Err(anyhow!("{error:#}")),
    };
    let file = |name: &str| bare().map(|target| target.file(name));
    use What::{Bare, File, Script};
    use front::Keep::{All, Not};
    let cases = [
        ("the bare responder, kept connections", Bare, All, Some(1.0)),
        ("the bare responder, a connection for each request", Bare, Not, Some(1.0)),
        ("php-fpm's hello, kept connections", Script("hello.php"), All, None),
        ("php-fpm's hello, a connection for each request", Script("hello.php"), Not, None),
        ("php-fpm's answer of 1 MiB", Script("big.php?n=1048576"), Not, None),
        ("a file of 1 KiB", File("small.txt"), Not, Some(1.0)),
        ("a file of 1 MiB", File("large.bin"), Not, Some(0.8)),
    ];
    let mut goals = Vec::new();
    for (title, what, keep, wanted) in cases {
        let mut rows = Vec::new();
        for (front, php) in FRONTS.iter().zip(&php) {
            let target = match what {
                Bare => bare(),
                Script(name) => script(php, name),
                File(name) => file(name),
            };
            let subject = target.and_then(|target| {
                let site = Site { target, files: files.to_owned(), keep };
                let server = front.start(options, dir, &site, cpus)?;
                wrk.subject(server, None, None, &site)
            });
            rows.push(Row::new(front.name(), subject));
        }
        let comparison = Comparison::run(options, title, Front::Nginx.name(), rows);
        comparison.print(&[Column::RATE, Column::CPU, Column::P99, Column::BUSY]);
        let (ours, nginx) = (Front::Gateway.name(), Front::Nginx.name());
        if let Some(wanted) = wanted {
            goals.push(comparison.goal(
                &format!("gateway, {title}, of nginx"),
                ours,
                nginx,
                wanted,
            ));
        }
        let what = format!("gateway, {title}, of Caddy");
        goals.push(comparison.goal(&what, ours, Front::Caddy.name(), 1.0));
    }
    Ok(goals)
}
