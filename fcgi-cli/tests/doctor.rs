//! `fcgi doctor`: a test for each cause, against php-fpm and nginx.

mod common;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::ExitCode,
    time::Duration,
};

use common::{
    gateway::until,
    pages::{compare, settled},
    pool::{Busy, ForAll, Stopped, not_root, run, seen},
};
use fcgi_testkit::{
    harness::{self, Case, Failed},
    peers::{Nginx, NginxOptions, Peer, PhpFpm, PhpFpmOptions, scratch},
};
use fcgi_tokio as fcgi;
use serde_json::Value;

type Result = std::result::Result<(), Failed>;

fn main() -> ExitCode {
    let on_php = |name, run: fn() -> Result| Case::new(name, run).needs(&[Peer::PhpFpm]);
    let as_root = |name, run: fn() -> Result| on_php(name, run).missing(not_root());
    harness::run([
        on_php("nothing_is_wrong", well),
        as_root("the_socket_is_closed_to_you", permission),
        Case::new("there_is_no_socket", no_socket),
        Case::new("a_stale_socket_and_another_file", stale),
        Case::new("that_is_http", http).needs(&[Peer::Nginx]),
        Case::new("it_closes_the_connection", closes),
        on_php("allowed_clients", allowed_clients),
        as_root("php_fpm_sees_other_files", other_root),
        on_php("limit_extensions", limit_extensions),
        on_php("all_workers_are_busy_and_so_many_wait", busy),
        on_php("stopped", stopped),
        on_php("post_max_size_is_below_the_body", post_max_size),
        Case::new("a_body_that_is_still_being_sent", long_body),
        on_php("ping_and_status_path_are_not_set", paths),
        on_php("a_script_that_fails", failing_script),
        Case::new("usage", usage),
    ])
}

/// php-fpm, its configuration file, and the texts that differ from run to run.
struct Site {
    php: PhpFpm,
    address: String,
    folder: String,
    config: String,
}

impl Site {
    fn start(options: PhpFpmOptions) -> std::result::Result<Self, Failed> {
        let php = PhpFpm::start(options)?;
        let address = php.unix_address();
        let folder = php.document_root().parent().ok_or("a folder")?.display().to_string();
        Ok(Self { config: format!("{folder}/php-fpm.conf"), php, address, folder })
    }

    fn with(extra: &str) -> std::result::Result<Self, Failed> {
        Self::start(PhpFpmOptions::default().extra(extra))
    }

    fn script(&self, name: &str) -> String {
        self.php.script(name).display().to_string()
    }

    /// The one finding of a walk, as JSON: the cause, what is likely, and the message.
    fn finding(&self, status: i32, args: &[&str]) -> std::result::Result<Finding, Failed> {
        finding(status, &[&[&*self.address], args].concat())
    }
}

struct Finding {
    cause: String,
    likely: String,
}

fn finding(status: i32, args: &[&str]) -> std::result::Result<Finding, Failed> {
    let (exit, stdout, stderr) = seen(&run(&[&["doctor", "--json"], args].concat()));
    assert_eq!((exit, &*stderr), (status, ""), "{stdout}");
    let value: Value = serde_json::from_str(&stdout)?;
    assert_eq!(value["exit_status"], status);
    assert_eq!(value["findings"], 1, "{value}");
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    assert!(!text("remedy").is_empty(), "{value}");
    Ok(Finding { cause: text("cause"), likely: text("likely") })
}

fn well() -> Result {
    let site = Site::start(PhpFpmOptions::default())?;
    let hello = site.script("hello.php");
    let (status, stdout, stderr) =
        seen(&run(&["doctor", &site.address, "--script", &hello, "--fpm-config", &site.config]));
    assert_eq!((status, &*stderr), (0, ""), "{stdout}");
    let shown = settled(&stdout, &[(&site.folder, "/run/php")]);
    let lines: Vec<&str> =
        shown.lines().map(|line| line.split(':').next().unwrap_or_default()).collect();
    let expected = [
        "ok    configuration",
        "ok    socket",
        "ok    connect",
        "ok    queue",
        "ok    FastCGI",
        "ok    ping",
        "ok    status",
        "ok    script",
        "unix",
    ];
    assert_eq!(lines, expected, "{shown}");
    assert!(shown.ends_with("unix:/run/php/php.sock: nothing is wrong\n"), "{shown}");
    let (status, stdout, _) = seen(&run(&["doctor", &site.php.tcp_address()]));
    assert_eq!(status, 0, "{stdout}");
    Ok(())
}

fn permission() -> Result {
    let site =
        Site::with("listen.mode = 0660\nlisten.owner = www-data\nlisten.group = www-data\n")?;
    let (status, stdout, stderr) = seen(&ForAll::copy().run(&["doctor", &site.address]));
    assert_eq!(status, 5);
    let shown = settled(&format!("{stdout}{stderr}"), &[(&site.folder, "/run/php")]);
    compare("doctor", &format!("```console\n$ fcgi doctor unix:/run/php/php.sock\n{shown}```\n"));
    assert!(shown.contains("0660 www-data:www-data and you are nobody"), "{shown}");
    // A folder above it that is closed.
    let closed = scratch()?;
    let inner = closed.path().join("inner");
    fs::create_dir(&inner)?;
    let _listener = UnixListener::bind(inner.join("s"))?;
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o700))?;
    let address = format!("unix:{}/s", inner.display());
    let (status, stdout, _) = seen(&ForAll::copy().run(&["doctor", &address]));
    assert_eq!(status, 5);
    assert!(
        stdout.contains(&format!("the folder {} is 0700 root:root", inner.display())),
        "{stdout}"
    );
    Ok(())
}

fn no_socket() -> Result {
    let folder = scratch()?;
    let missing = format!("unix:{}/php.sock", folder.path().display());
    assert_eq!(finding(5, &[&missing])?.cause, "no-socket");
    let deeper = format!("unix:{}/a/b/php.sock", folder.path().display());
    let found = finding(5, &[&deeper])?;
    assert!(found.likely.contains(&format!("exists up to {}", folder.path().display())));
    assert_eq!(finding(5, &["tcp:127.0.0.1:1"])?.cause, "nobody-listens");
    assert_eq!(
        finding(5, &["tcp:no-such-host.invalid:9000", "--timeout", "30"])?.cause,
        "unknown-host"
    );
    Ok(())
}

fn stale() -> Result {
    let folder = scratch()?;
    let path = folder.path().join("s");
    drop(UnixListener::bind(&path)?);
    let address = format!("unix:{}", path.display());
    assert_eq!(finding(5, &[&address])?.cause, "stale-socket");
    let file = folder.path().join("file");
    fs::write(&file, "")?;
    let found = finding(5, &[&format!("unix:{}", file.display())])?;
    assert!(found.likely.contains("no socket"), "{}", found.likely);
    Ok(())
}

fn http() -> Result {
    let nginx = Nginx::start(NginxOptions::new("unix:/nonexistent"))?;
    let found = finding(4, &[&format!("127.0.0.1:{}", nginx.port())])?;
    assert_eq!(found.cause, "http");
    Ok(())
}

fn closes() -> Result {
    let folder = scratch()?;
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path)?;
    // For as long as the test runs.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    for (mode, is_noted) in [(0o755, true), (0o660, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        let (status, stdout, _) = seen(&run(&["doctor", &format!("unix:{}", path.display())]));
        assert!(status == 4 || status == 5, "the end, or a reset: {stdout}");
        assert!(stdout.contains("it closed the connection"), "{stdout}");
        let note = stdout.lines().find(|line| line.starts_with("note  permissions: only "));
        assert_eq!(note.is_some(), is_noted, "{stdout}");
    }
    Ok(())
}

fn allowed_clients() -> Result {
    let site = Site::with("listen.allowed_clients = 10.9.8.7\n")?;
    let address = site.php.tcp_address();
    let walk = |args: &[&str]| -> std::result::Result<Value, Failed> {
        let (_, stdout, _) = seen(&run(&[&["doctor", &*address, "--json"], args].concat()));
        Ok(serde_json::from_str(&stdout)?)
    };
    let value = walk(&["--fpm-config", &site.config])?;
    assert_eq!(value["cause"], "allowed-clients", "{value}");
    let likely = value["likely"].as_str().unwrap_or_default();
    assert!(likely.contains("listen.allowed_clients of the pool is 10.9.8.7"), "{likely}");
    // Without the configuration, as from another machine.
    let other = scratch()?;
    let empty = other.path().join("empty.conf");
    fs::write(&empty, "[global]\n")?;
    let value = walk(&["--fpm-config", &empty.display().to_string()])?;
    assert_eq!(value["cause"], "allowed-clients", "{value}");
    Ok(())
}

fn other_root() -> Result {
    let site = Site::start(PhpFpmOptions::default())?;
    let found = site.finding(7, &["--script", "/srv/of/another/container/index.php"])?;
    assert_eq!(found.cause, "no-script");
    assert!(found.likely.contains("/srv/of/another/container/index.php"), "{}", found.likely);
    // It is there, but php-fpm's worker may not enter the folder.
    let closed = site.php.script("closed");
    fs::create_dir(&closed)?;
    fs::copy(site.php.script("hello.php"), closed.join("hello.php"))?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))?;
    let found = site.finding(7, &["--script", &closed.join("hello.php").display().to_string()])?;
    assert_eq!(found.cause, "no-script");
    assert!(found.likely.contains("is there for you, but not for php-fpm"), "{}", found.likely);
    Ok(())
}

fn limit_extensions() -> Result {
    let site = Site::with("security.limit_extensions = .php .phtml\n")?;
    let text = site.script("page.txt");
    fs::write(&text, "text")?;
    let found = site.finding(7, &["--script", &text, "--fpm-config", &site.config])?;
    assert_eq!(found.cause, "limit-extensions");
    assert!(found.likely.contains(".php .phtml"), "{}", found.likely);
    Ok(())
}

fn busy() -> Result {
    let site = Site::start(PhpFpmOptions::default().children(1))?;
    // One runs, and the others wait.
    let _busy = Busy::start(&site.php, &site.address, 4);
    until("three wait", || {
        let (_, stdout, _) = seen(&run(&["doctor", &site.address, "--json", "--timeout", "0.8"]));
        stdout.contains(" connections wait in its queue")
    });
    let found = site.finding(6, &["--timeout", "1"])?;
    assert_eq!(found.cause, "busy");
    let number = found.likely.strip_prefix("all of its workers are busy: ").ok_or("the cause")?;
    let number = number.split(' ').next().unwrap_or_default();
    assert!(number.parse::<u32>().is_ok_and(|waiting| waiting >= 3), "{}", found.likely);
    Ok(())
}

fn stopped() -> Result {
    let site = Site::start(PhpFpmOptions::default().children(2))?;
    let stopped = Stopped::stop(&site.php, 2);
    let found = site.finding(6, &["--timeout", "0.8"])?;
    assert_eq!(found.cause, "stopped");
    assert!(found.likely.contains("all 2 workers"), "{}", found.likely);
    drop(stopped);

    // Workers of another pool of the same master do not hide it, nor are they blamed.
    let stopped = Stopped::stop_pool(&site.php, 2, "unix");
    let found = site.finding(6, &["--timeout", "0.8"])?;
    assert_eq!(found.cause, "stopped");
    assert!(found.likely.contains("all 2 workers"), "{}", found.likely);
    let (status, _, said) = seen(&run(&["ping", &site.php.tcp_address()]));
    assert_eq!(status, 0, "{said}");
    drop(stopped);
    Ok(())
}

fn post_max_size() -> Result {
    let site = Site::with("php_admin_value[post_max_size] = 1K\n")?;
    let echo = site.script("echo.php");
    let found = site.finding(7, &["--script", &echo, "--body", "2K"])?;
    assert_eq!(found.cause, "post-max-size");
    assert_eq!(seen(&run(&["doctor", &site.address, "--script", &echo, "--body", "1K"])).0, 0);
    // fcgi call says so too, beside the answer.
    let body = format!("a={}", "x".repeat(2000));
    let (status, _, stderr) = seen(&run(&["call", &site.address, &echo, "-d", &body]));
    assert_eq!(status, 0);
    assert!(stderr.contains("larger than PHP's post_max_size"), "{stderr}");
    Ok(())
}

/// Its worker is not busy: it reads the body, but slowly.
fn long_body() -> Result {
    let runtime = tokio::runtime::Runtime::new()?;
    let _guard = runtime.enter();
    let listener = fcgi::Listener::bind("127.0.0.1:0")?;
    let address = listener.local_addr().to_string();
    let handler = async |request: fcgi::Request| -> std::result::Result<(), fcgi::Error> {
        while request.stdin().chunk().await?.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        request.stdout().write_all(b"Status: 404\r\n\r\n").await
    };
    runtime.spawn(fcgi::Server::new().serve(listener, handler));
    let args = ["doctor", &address, "--script", "/x.php", "--body", "1000G", "--timeout", "2"];
    let (status, stdout, _) = seen(&run(&[&args[..], &["--json"]].concat()));
    let value: Value = serde_json::from_str(&stdout)?;
    assert_eq!((status, &value["cause"]), (6, &"slow-body".into()), "{value}");
    let likely = value["likely"].as_str().unwrap_or_default();
    assert!(likely.contains("of 1073741824000 bytes were sent"), "{likely}");
    Ok(())
}

fn paths() -> Result {
    let site = Site::with("ping.path = /p\npm.status_path = /s\n")?;
    let none = scratch()?;
    let empty = none.path().join("empty.conf");
    fs::write(&empty, "[global]\n")?;
    let empty = empty.display().to_string();
    let (status, stdout, _) = seen(&run(&["doctor", &site.address, "--fpm-config", &empty]));
    assert_eq!(status, 7, "{stdout}");
    assert!(stdout.contains("ping.path of the pool is not set, or is not /ping"), "{stdout}");
    assert!(
        stdout.contains("pm.status_path of the pool is not set, or is not /status"),
        "{stdout}"
    );
    // The configuration says which they are.
    let with = ["doctor", &site.address, "--fpm-config", &site.config];
    assert_eq!(seen(&run(&with)).0, 0);
    Ok(())
}

fn failing_script() -> Result {
    let site = Site::start(PhpFpmOptions::default())?;
    let script = site.script("fatal.php");
    fs::write(&script, "<?php no_such_function();")?;
    let found = site.finding(7, &["--script", &script])?;
    assert_eq!(found.cause, "failed");
    assert!(found.likely.contains("no_such_function"), "{}", found.likely);
    Ok(())
}

fn usage() -> Result {
    assert_eq!(seen(&run(&["doctor", "-"])).0, 2);
    assert_eq!(seen(&run(&["doctor", "unix:/x", "--fpm-config", "/no/such"])).0, 2);
    assert_eq!(seen(&run(&["doctor", "unix:/x", "--body", "1K"])).0, 2);
    assert_eq!(seen(&run(&["doctor", "unix:/no", "--docker"])).0, 1);
    let (status, stdout, _) = seen(&run(&["doctor", "unix:/no", "--nagios"]));
    assert_eq!((status, stdout.lines().count()), (2, 1));
    Ok(())
}
