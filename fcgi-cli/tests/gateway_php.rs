//! `fcgi gateway` in front of php-fpm: one that runs already, and one of its own.

mod common;

use std::{
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, ExitCode},
};

use common::{
    copy_of_fcgi,
    gateway::{Gateway, text, until},
};
use fcgi_testkit::{
    harness::{self, Case, Failed},
    http::pattern,
    peers::{Peer, PhpFpm, PhpFpmOptions},
    program,
};
use rustix::process::Signal;
use tempfile::TempDir;

type Result = std::result::Result<(), Failed>;
type Test = (&'static str, fn() -> Result);

fn main() -> ExitCode {
    let cases: [Test; 15] = [
        ("scripts_and_files", scripts_and_files),
        ("bodies", bodies),
        ("stderr_is_logged", stderr_is_logged),
        ("an_answer_streams", an_answer_streams),
        ("a_client_that_leaves_frees_the_worker", a_client_that_leaves_frees_the_worker),
        ("more_requests_than_workers", more_requests_than_workers),
        ("a_private_php_fpm", a_private_php_fpm),
        ("a_private_php_fpm_finishes_its_scripts", a_private_php_fpm_finishes_its_scripts),
        ("nothing_outlives_a_gateway_that_was_killed", nothing_outlives_a_gateway_that_was_killed),
        ("a_private_php_fpm_is_started_again", a_private_php_fpm_is_started_again),
        (
            "it_is_started_again_though_the_gateways_file_is_gone",
            it_is_started_again_though_the_gateways_file_is_gone,
        ),
        ("a_private_php_fpm_has_no_environment", a_private_php_fpm_has_no_environment),
        ("a_private_php_fpm_has_settings", a_private_php_fpm_has_settings),
        ("the_php_fpm_can_be_named", the_php_fpm_can_be_named),
        (
            "php_fpm_ends_when_gateway_and_guard_are_killed",
            php_fpm_ends_when_gateway_and_guard_are_killed,
        ),
    ];
    harness::run(cases.map(|(name, run)| Case::new(name, run).needs(&[Peer::PhpFpm])))
}

fn start(options: PhpFpmOptions, args: &[&str]) -> std::result::Result<(PhpFpm, Gateway), Failed> {
    let php = PhpFpm::start(options)?;
    let root = php.document_root().display().to_string();
    let gateway = Gateway::start(&[&[&*php.unix_address(), "--root", &root], args].concat());
    Ok((php, gateway))
}

fn scripts_and_files() -> Result {
    let (php, gateway) = start(PhpFpmOptions::default(), &[])?;
    fs::write(php.script("page.txt"), "a file")?;
    assert_eq!(text(&gateway.get("/hello.php")), "Hello, world\n");
    assert_eq!(text(&gateway.get("/page.txt")), "a file");
    assert_eq!(gateway.get("/none.php").head.status, 404);
    assert_eq!(gateway.get("/page.txt/none.php").head.status, 404);
    let body = text(&gateway.get("/env.php/some/info?q=1"));
    for line in ["PATH_INFO=/some/info", "QUERY_STRING=q=1", "SCRIPT_NAME=/env.php"] {
        assert!(body.lines().any(|found| found == line), "no {line} in\n{body}");
    }
    let reply = gateway.ask("GET", "/err.php", &[]);
    assert_eq!((reply.head.status, text(&reply)), (418, "teapot\n".to_owned()));
    Ok(())
}

fn bodies() -> Result {
    let (_php, gateway) = start(PhpFpmOptions::default(), &[])?;
    let length = 20 << 20;
    let reply = gateway.connect().post("/echo.php", length)?;
    assert_eq!(reply.body.len() as u64, length);
    assert!(reply.body.iter().enumerate().all(|(at, byte)| *byte == pattern(at as u64)));
    // php-fpm reads no body without its length.
    let mut connection = gateway.connect();
    connection.send_head("POST", "/echo.php", &[("Transfer-Encoding", "chunked")])?;
    connection.send(b"5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n")?;
    assert_eq!(text(&connection.read_reply()?), "hello, world");
    // The connection is good for another request.
    assert_eq!(text(&connection.get("/hello.php")?), "Hello, world\n");
    Ok(())
}

fn stderr_is_logged() -> Result {
    let (php, gateway) = start(PhpFpmOptions::default(), &[])?;
    gateway.get("/err.php");
    let script = php.script("err.php");
    let expected = format!("fcgi gateway: GET {}: STDERR: ", script.display());
    until("STDERR is logged", || gateway.error_log().ends_with('\n'));
    let log = gateway.error_log();
    assert!(log.starts_with(&expected) && log.contains("logged to STDERR"), "{log}");
    Ok(())
}

/// Prints, and waits for the file `go` before it prints again.
const WAITS: &str = "<?php if (ob_get_level()) ob_end_clean();
    echo \"first\\n\"; flush();
    while (!file_exists(__DIR__ . '/go')) { usleep(5000); clearstatcache(); }
    echo \"last\\n\";";

fn an_answer_streams() -> Result {
    let (php, gateway) = start(PhpFpmOptions::default(), &[])?;
    fs::write(php.script("waits.php"), WAITS)?;
    let mut connection = gateway.connect();
    connection.send_head("GET", "/waits.php", &[])?;
    connection.read_head()?;
    let mut block = [0; 64];
    let n = connection.read_body(&mut block)?;
    assert_eq!(&block[..n], b"first\n", "before the last was written");
    fs::write(php.script("go"), "")?;
    let n = connection.read_body(&mut block)?;
    assert_eq!(&block[..n], b"last\n");
    assert_eq!(connection.read_body(&mut block)?, 0);
    Ok(())
}

/// A script that prints notices the abort, and the only worker takes the next request.
fn a_client_that_leaves_frees_the_worker() -> Result {
    let (_php, gateway) = start(PhpFpmOptions::default().children(1), &["--connections", "1"])?;
    let mut leaves = gateway.connect();
    leaves.send_head("GET", "/big.php?n=1000000000", &[])?;
    leaves.read_head()?;
    drop(leaves);
    assert_eq!(text(&gateway.get("/hello.php")), "Hello, world\n");
    Ok(())
}

fn more_requests_than_workers() -> Result {
    let (_php, gateway) = start(PhpFpmOptions::default().children(2), &["--connections", "2"])?;
    std::thread::scope(|scope| {
        let gateway = &gateway;
        let ask = || scope.spawn(|| text(&gateway.get("/hello.php")));
        let replies: Vec<_> = std::iter::repeat_with(ask).take(12).collect();
        for reply in replies {
            assert_eq!(reply.join().expect("no panic"), "Hello, world\n");
        }
    });
    Ok(())
}

/// A folder that php-fpm's workers can read: root's run as an ordinary user.
fn site(scripts: &[(&str, &str)]) -> std::result::Result<TempDir, Failed> {
    let folder = tempfile::Builder::new().prefix("site").tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    for (name, script) in scripts {
        let path = folder.path().join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(folder)
}

fn a_private_php_fpm() -> Result {
    let site = site(&[
        ("index.php", "<?php echo PHP_SAPI, ' ', getmypid(), ' ', posix_getppid();"),
        ("style.css", "body {}"),
        ("log.php", "<?php error_log('a line'); echo 'done';"),
    ])?;
    let root = site.path().display().to_string();
    let mut gateway = Gateway::start(&["--php", "--root", &root, "--front", "index.php"]);
    assert!(gateway.line.contains(&root), "{}", gateway.line);
    assert!(gateway.line.contains("its scripts run by a private php-fpm"), "{}", gateway.line);
    let page = text(&gateway.get("/"));
    let words: Vec<_> = page.split(' ').collect();
    let [sapi, worker, master] = words[..] else { return Err(page.into()) };
    assert_eq!(sapi, "fpm-fcgi");
    assert!(text(&gateway.get("/a/path")).starts_with("fpm-fcgi "), "the front controller");
    assert_eq!(text(&gateway.get("/style.css")), "body {}");
    assert_eq!(text(&gateway.get("/log.php")), "done");
    until("STDERR is logged", || {
        gateway.error_log().contains("STDERR: PHP message: a line [")
            || gateway.error_log().contains("a line [")
    });

    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    for pid in [worker, master] {
        let proc = Path::new("/proc").join(pid);
        until("php-fpm has ended", || !proc.exists());
    }
    Ok(())
}

fn a_private_php_fpm_finishes_its_scripts() -> Result {
    let site = site(&[("waits.php", WAITS)])?;
    let root = site.path().display().to_string();
    let mut gateway = Gateway::start(&["--php", "--root", &root]);
    let mut connection = gateway.connect();
    connection.send_head("GET", "/waits.php", &[])?;
    connection.read_head()?;
    // As Ctrl-C does, which goes to all that a terminal has started.
    gateway.signal(Signal::INT);
    let port = gateway.port;
    until("nobody listens", || TcpStream::connect(("127.0.0.1", port)).is_err());
    fs::write(site.path().join("go"), "")?;
    let mut body = Vec::new();
    let mut block = [0; 64];
    while let n @ 1.. = connection.read_body(&mut block)? {
        body.extend_from_slice(&block[..n]);
    }
    assert_eq!(body, b"first\nlast\n");
    assert_eq!(gateway.wait().code(), Some(0));
    Ok(())
}

/// Prints the ids of a worker, of its master, and of the master's parent.
const WHO: &str = "<?php $master = posix_getppid();
    preg_match('/^PPid:\\s+(\\d+)/m', file_get_contents(\"/proc/$master/status\"), $guard);
    echo getmypid(), ' ', $master, ' ', $guard[1];";

/// The ids, once there is an answer.
fn who(gateway: &Gateway) -> Vec<i32> {
    let mut ids = Vec::new();
    until("php-fpm answers", || {
        let reply = gateway.get("/who.php");
        ids = text(&reply).split(' ').filter_map(|id| id.parse().ok()).collect();
        reply.head.status == 200 && ids.len() == 3
    });
    ids
}

fn is_gone(id: i32) -> bool {
    // A process that has ended counts as gone, even if nobody has waited for it.
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ")
}

fn kill(id: i32) {
    let pid = rustix::process::Pid::from_raw(id).expect("a process");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
}

fn nothing_outlives_a_gateway_that_was_killed() -> Result {
    let site = site(&[("who.php", WHO)])?;
    let root = site.path().display().to_string();
    let mut gateway = Gateway::start(&["--php", "--root", &root]);
    let ids = who(&gateway);
    // Its configuration is in the folder.
    let command = fs::read_to_string(format!("/proc/{}/cmdline", ids[2]))?;
    let folder = command.split('\0').nth_back(1).ok_or("no folder")?.to_owned();
    assert!(Path::new(&folder).join("php").exists(), "{command:?}");
    gateway.signal(Signal::KILL);
    gateway.wait();
    for id in ids {
        until("all have ended", || is_gone(id));
    }
    until("the folder is gone", || !Path::new(&folder).exists());
    Ok(())
}

fn a_private_php_fpm_is_started_again() -> Result {
    let site = site(&[("who.php", WHO)])?;
    let root = site.path().display().to_string();
    let mut gateway = Gateway::start(&["--php", "--root", &root]);
    for (n, killed) in [1, 2].into_iter().enumerate() {
        let ids = who(&gateway);
        kill(ids[killed]);
        for id in &ids {
            until("its processes have ended", || is_gone(*id));
        }
        let again = who(&gateway);
        assert!(again.iter().all(|id| !ids.contains(id)), "{again:?}, {ids:?}");
        let said = || gateway.error_log().matches("php-fpm has ended; it is started again").count();
        until("it is said", || said() > n);
        assert_eq!(said(), n + 1, "{}", gateway.error_log());
    }
    let ids = who(&gateway);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    for id in ids {
        until("all have ended", || is_gone(id));
    }
    Ok(())
}

/// As an upgrade does, while the gateway runs.
fn it_is_started_again_though_the_gateways_file_is_gone() -> Result {
    let site = site(&[("who.php", WHO)])?;
    let root = site.path().display().to_string();
    let place = tempfile::tempdir()?;
    let own = copy_of_fcgi(place.path());
    let mut gateway = Gateway::spawn(Command::new(&own), &["--php", "--root", &root]);
    let ids = who(&gateway);
    fs::remove_file(&own)?;
    kill(ids[1]);
    for id in &ids {
        until("its processes have ended", || is_gone(*id));
    }
    let again = who(&gateway);
    assert!(again.iter().all(|id| !ids.contains(id)), "{again:?}, {ids:?}");
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    for id in again {
        until("all have ended", || is_gone(id));
    }
    Ok(())
}

fn php_fpm_ends_when_gateway_and_guard_are_killed() -> Result {
    let site = site(&[("who.php", WHO)])?;
    let root = site.path().display().to_string();
    let mut gateway = Gateway::start(&["--php", "--root", &root]);
    let ids = who(&gateway);
    let guard = rustix::process::Pid::from_raw(ids[2]).expect("a process");
    // It can't do anything about it.
    rustix::process::kill_process(guard, Signal::STOP)?;
    gateway.signal(Signal::KILL);
    kill(ids[2]);
    gateway.wait();
    for id in ids {
        until("all have ended", || is_gone(id));
    }
    Ok(())
}

fn a_private_php_fpm_has_settings() -> Result {
    let script = "<?php echo ini_get('memory_limit'), '|', ini_get('date.timezone'), '|',
        ini_get('auto_prepend_file');";
    let site = site(&[("ini.php", script)])?;
    let root = site.path().display().to_string();
    let settings = ["--ini", "memory_limit=77M", "--ini", "date.timezone=Europe/Rome"];
    let gateway = Gateway::start(&[&["--php", "--root", &root], &settings[..]].concat());
    assert_eq!(text(&gateway.get("/ini.php")), "77M|Europe/Rome|");
    for (args, reason) in [
        (&["--ini", "memory_limit=1M"][..], "--ini is for --php"),
        (&["--php", "--ini", "memory_limit"], "NAME=VALUE"),
        (&["--php", "--ini", "a b=c"], "name of a setting"),
    ] {
        let output = common::fcgi().arg("gateway").args(args).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(reason), "{args:?}: {stderr}");
    }
    Ok(())
}

fn the_php_fpm_can_be_named() -> Result {
    let site = site(&[("x.php", "<?php echo $_SERVER['argv'] ?? 'named';")])?;
    let root = site.path().display().to_string();
    let output = common::fcgi()
        .args(["gateway", "--listen", "127.0.0.1:0", "--root", &root, "--php-fpm", "/no/such/fpm"])
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("/no/such/fpm"), "{stderr}");
    // A wrapper script.
    let found = std::env::split_paths("/usr/local/sbin:/usr/sbin:/sbin").find_map(|folder| {
        let mut names: Vec<_> = fs::read_dir(folder).ok()?.flatten().collect();
        names.retain(|name| name.file_name().to_string_lossy().starts_with("php-fpm"));
        names.first().map(fs::DirEntry::path)
    });
    let real = found.ok_or("no php-fpm")?;
    let wrapper = site.path().join("my-fpm");
    program::script(&format!("#!/bin/sh\nexec {} \"$@\"\n", real.display()), &wrapper)?;
    let gateway = Gateway::start(&["--php-fpm", &wrapper.display().to_string(), "--root", &root]);
    assert!(gateway.line.contains("a private my-fpm"), "{}", gateway.line);
    assert_eq!(text(&gateway.get("/x.php")), "named");
    Ok(())
}

fn a_private_php_fpm_has_no_environment() -> Result {
    let site = site(&[("env.php", "<?php var_dump(getenv('MY_VALUE'));")])?;
    let root = site.path().display().to_string();
    let (name, value) = ("MY_VALUE", "a \"quoted\" $HOME; [x]");
    for (args, expected) in [
        (&[][..], "bool(false)\n".to_owned()),
        (&["--env", "OTHER"], "bool(false)\n".to_owned()),
        (
            &["--env", "MY_VALUE", "--env", "OTHER"],
            format!("string({}) \"{value}\"\n", value.len()),
        ),
    ] {
        let args = [&["--php", "--root", &root], args].concat();
        let gateway = Gateway::start_with_env(name, value, &args);
        assert_eq!(text(&gateway.get("/env.php")), expected, "{args:?}");
    }
    Ok(())
}
