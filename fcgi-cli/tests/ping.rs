//! `fcgi ping` against php-fpm and nginx in each state that a health check must tell apart.

mod common;

use std::{
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{
    full,
    gateway::until,
    is_writing,
    pages::{compare, settled},
    pool::{Busy, ForAll, Stopped, command, not_root, run, seen},
};
use fcgi_testkit::{
    harness::{self, Case, Failed},
    peers::{Nginx, NginxOptions, Peer, PhpFpm, PhpFpmOptions, scratch},
};

use rustix::process::{Pid, Signal, kill_process};

type Result = std::result::Result<(), Failed>;

fn main() -> ExitCode {
    let on_php = |name, run: fn() -> Result| Case::new(name, run).needs(&[Peer::PhpFpm]);
    let in_namespace = |name, run: fn() -> Result| Case::new(name, run).missing(no_namespaces());
    harness::run([
        Case::new("each_state_has_its_message_and_status", table)
            .needs(&[Peer::PhpFpm, Peer::Nginx])
            .missing(not_root()),
        on_php("all_of_it_has_one_time_limit", one_budget),
        on_php("it_waits_for_a_start", waits),
        on_php("programs_read_json", json),
        on_php("nagios_reads_one_line", nagios),
        on_php("docker_knows_0_and_1", docker),
        on_php("a_script_is_a_health_check_too", script),
        on_php("the_address_comes_from_the_environment", environment),
        on_php("options_come_from_the_environment", options_from_environment),
        Case::new("usage", usage),
        in_namespace("a_signal_ends_the_first_process_of_a_container", first_process),
        in_namespace("a_signal_ends_it_while_it_reads", first_process_that_reads),
        in_namespace("a_signal_ends_it_while_nobody_reads_its_output", first_process_that_writes),
    ])
}

/// A command as the first process of a namespace of its own.
fn first(args: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn no_namespaces() -> Option<String> {
    let made = first(&["true"]).status().is_ok_and(|status| status.success());
    (!made).then(|| "no namespace of processes can be made here".to_owned())
}

/// It gets only the signals that it waits for.
fn first_process() -> Result {
    for args in
        [&["ping", "unix:/none", "--wait", "600"][..], &["status", "unix:/none", "--watch", "600"]]
    {
        is_ended(&mut first_fcgi(args), |_| true)?;
    }
    Ok(())
}

fn first_process_that_reads() -> Result {
    for args in [&["decode", "-"][..], &["bench", "unix:/none", "--stdin", "-"]] {
        is_ended(first_fcgi(args).stdin(Stdio::piped()), |_| true)?;
    }
    Ok(())
}

fn first_process_that_writes() -> Result {
    for args in [
        &["ping", "unix:/none", "--json"][..],
        &["status", "unix:/none", "--prometheus"],
        &["status", "unix:/none", "--values", "--json"],
        &["status", "unix:/none", "--watch", "600", "--json"],
        &["nginx-conf", "unix:/none"],
    ] {
        let (stdout, _unread) = full();
        is_ended(first_fcgi(args).stdout(stdout), is_writing)?;
    }
    Ok(())
}

fn first_fcgi(args: &[&str]) -> Command {
    first(&[&[env!("CARGO_BIN_EXE_fcgi")], args].concat())
}

/// Sends SIGTERM once it is ready, and again and again, since it may not wait for it yet.
fn is_ended(command: &mut Command, is_ready: impl Fn(u32) -> bool) -> Result {
    let mut child = command.spawn()?;
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let mut ended = None;
    until(&format!("{command:?} ends"), || {
        let ids = std::fs::read_to_string(&children).unwrap_or_default();
        let id = ids.split_whitespace().next().and_then(|id| id.parse::<u32>().ok());
        if let Some(id) = id.filter(|id| is_ready(*id)) {
            let id = i32::try_from(id).ok().and_then(Pid::from_raw);
            let _ = kill_process(id.expect("an id"), Signal::TERM);
        }
        ended = child.try_wait().expect("it can be waited for");
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(143), "{command:?}");
    Ok(())
}

/// docs/cli.md's table.
fn table() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().children(1))?;
    let address = php.unix_address();
    let folder = address.trim_start_matches("unix:").trim_end_matches("/php.sock").to_owned();
    let nginx = Nginx::start(NginxOptions::new("unix:/nonexistent"))?;
    let http = format!("tcp:127.0.0.1:{}", nginx.port());
    let (fpm_port, http_port) = (php.tcp_address(), http.clone());
    let stale = scratch()?;
    let stale_address = format!("unix:{}/php.sock", stale.path().display());
    drop(UnixListener::bind(stale.path().join("php.sock"))?);
    let names = [
        (&*folder, "/run/php"),
        (stale.path().to_str().ok_or("UTF-8")?, "/run/php"),
        (&*fpm_port, "tcp:127.0.0.1:9000"),
        (&*http_port, "tcp:127.0.0.1:80"),
    ];
    let mut rows = String::from("| state | exit status | message |\n| --- | --- | --- |\n");
    let mut row = |state: &str, output: &std::process::Output, more: &[(&str, &str)]| {
        let (status, stdout, stderr) = seen(output);
        let message = settled(&settled(&(stdout + &stderr), more), &names);
        let message = message.trim().replace('|', "\\|");
        rows.push_str(&format!("| {state} | {status} | `` {message} `` |\n"));
        status
    };
    assert_eq!(row("well", &run(&["ping", &address]), &[]), 0);
    assert_eq!(row("wrong path", &run(&["ping", &address, "--path", "/health"]), &[]), 7);
    assert_eq!(row("wrong body", &run(&["ping", &address, "--expect", "healthy"]), &[]), 7);

    let busy = Busy::start(&php, &address, 1);
    until("its only worker is busy", || {
        let (status, _, said) = seen(&run(&["ping", &address, "--timeout", "0.3"]));
        status == 6 && said.contains(" connections wait in its queue")
    });
    let output = run(&["ping", &address, "--timeout", "1"]);
    // Those that gave up before wait too, until they are accepted.
    let (_, _, said) = seen(&output);
    let (before, after) = said.split_once(" connections wait in its queue").ok_or("the queue")?;
    let number = before.rsplit(' ').next().unwrap_or_default();
    assert!(number.parse::<u32>().is_ok_and(|number| number >= 2), "{said}");
    let counted = format!("{number} connections");
    assert!(after.contains("pm.max_children"), "{said}");
    assert_eq!(row("saturated", &output, &[(&counted, "3 connections")]), 6);
    drop(busy);

    let (tcp, stopped) = (php.tcp_address(), Stopped::stop(&php, 1));
    let ids = stopped.ids(&php, "unix");
    let id = php.id().to_string();
    let output = run(&["ping", &tcp, "--timeout", "0.3"]);
    assert_eq!(seen(&output).0, 6, "over TCP too");
    // It names the worker of this pool, and not that of the other.
    let name = format!("({})", std::fs::read_to_string(format!("/proc/{id}/comm"))?.trim());
    let two = [(&*ids, "1201 1200"), (&*id, "1200"), (&*name, "(php-fpm)")];
    assert_eq!(row("stopped (SIGSTOP)", &run(&["ping", &address, "--timeout", "0.5"]), &two), 6);
    drop(stopped);

    assert_eq!(row("a port that speaks HTTP", &run(&["ping", &http]), &[]), 4);
    let missing = format!("unix:{folder}/php8.3-fpm.sock");
    let output = run(&["ping", &missing]);
    let (_, _, said) = seen(&output);
    // What else there is depends on the machine.
    let there =
        said.split_once("; there is ").map(|(_, there)| format!("; there is {}", there.trim()));
    let there =
        there.unwrap_or_else(|| "; a socket of another container needs a shared volume".into());
    assert_eq!(row("no socket", &output, &[(&there, "")]), 5);
    assert_eq!(row("stale socket", &run(&["ping", &stale_address]), &[]), 5);

    let php = PhpFpm::start(
        PhpFpmOptions::default()
            .extra("listen.mode = 0660\nlisten.owner = www-data\nlisten.group = www-data\n"),
    )?;
    let closed = php.unix_address();
    let closed_folder = closed.trim_start_matches("unix:").trim_end_matches("/php.sock").to_owned();
    let output = ForAll::copy().run(&["ping", &closed]);
    assert_eq!(row("no permission", &output, &[(&closed_folder, "/run/php")]), 5);
    compare("ping", &rows);
    Ok(())
}

fn one_budget() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().children(1))?;
    let stopped = Stopped::stop(&php, 1);
    let started = Instant::now();
    let output = run(&["ping", &php.unix_address(), "--timeout", "0.5", "--retry", "100"]);
    let (status, _, said) = seen(&output);
    assert_eq!(status, 6, "{said}");
    assert!(said.contains("within 500ms"), "{said}");
    assert!(started.elapsed() < Duration::from_secs(30), "not 100 times the limit");
    drop(stopped);
    // A quick failure is tried again, and the limit still holds.
    let (status, _, said) = seen(&run(&["ping", "unix:/no", "--timeout", "60", "--retry", "2"]));
    assert_eq!(status, 5);
    assert!(said.contains("(3 tries)"), "{said}");
    Ok(())
}

fn waits() -> Result {
    let folder = scratch()?;
    let socket = folder.path().join("app.sock");
    let address = format!("unix:{}", socket.display());
    let mut command = command(&["ping", &address, "--wait", "60", "--connect-only"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn()?;
    thread::sleep(Duration::from_millis(100));
    assert!(child.try_wait()?.is_none(), "it waits");
    let _listener = UnixListener::bind(&socket)?;
    let (status, stdout, _) = seen(&child.wait_with_output()?);
    assert_eq!(status, 0);
    assert!(stdout.starts_with(&format!("connected to {address} in ")), "{stdout}");
    let started = Instant::now();
    let (status, _, said) = seen(&run(&["ping", "unix:/no/such", "--wait", "0.3"]));
    assert_eq!(status, 5, "{said}");
    assert!(started.elapsed() >= Duration::from_millis(300), "it has waited");
    Ok(())
}

fn json() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let address = php.unix_address();
    let (status, stdout, stderr) = seen(&run(&["ping", &address, "--json"]));
    let value: serde_json::Value = serde_json::from_str(&stdout)?;
    assert_eq!((status, &*stderr, stdout.lines().count()), (0, "", 1));
    assert_eq!(value["v"], 1);
    assert_eq!(value["command"], "ping");
    assert_eq!(value["address"], address);
    assert_eq!(value["ok"], true);
    assert_eq!(value["exit_status"], 0);
    assert_eq!(value["status"], 200);
    assert!(value["time_ms"].as_f64().is_some_and(|time| time > 0.0), "{value}");

    let (status, stdout, stderr) =
        seen(&run(&["ping", &address, "--json", "--docker", "--path", "/x", "-q"]));
    let value: serde_json::Value = serde_json::from_str(&stdout)?;
    assert_eq!((status, &*stderr), (1, ""));
    assert_eq!(value["exit_status"], 1, "the process's own");
    assert_eq!(value["ok"], false);
    assert_eq!(value["status"], 404);
    assert_eq!(value["cause"], "ping-path");
    Ok(())
}

fn nagios() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let address = php.tcp_address();
    for (args, expected, start) in [
        (&[][..], 0, format!("PING OK - pong from {address} in ")),
        (&["--path", "/x"], 1, format!("PING WARNING - {address}: /x was answered with 404 ")),
    ] {
        let output = run(&[&["ping", &*address, "--nagios"], args].concat());
        let (status, stdout, stderr) = seen(&output);
        assert_eq!((status, &*stderr, stdout.lines().count()), (expected, "", 1), "{stdout}");
        assert!(stdout.starts_with(&start), "{stdout}");
        let (_, data) = stdout.trim().rsplit_once(" | ").ok_or("performance data")?;
        let data = data.strip_prefix("time=").ok_or("its time")?;
        let (time, limits) = data.split_once("s;;;0;").ok_or("its limits")?;
        assert!(time.parse::<f64>().is_ok() && limits == "60", "{stdout}");
    }
    let unset =
        command(&["ping", &address, "--nagios"]).env_remove("FCGI_PING_TIMEOUT").output()?;
    assert!(seen(&unset).1.ends_with("s;;;0;2\n"), "the time limit is 2 s by itself");
    assert_eq!(seen(&run(&["ping", "unix:/no", "--nagios"])).0, 2);
    assert_eq!(seen(&run(&["ping", "-", "--nagios"])).0, 3);
    assert_eq!(seen(&run(&["ping", "--nagios", "--no-such-option"])).0, 3);
    Ok(())
}

fn docker() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let address = php.unix_address();
    assert_eq!(seen(&run(&["ping", &address, "--docker"])).0, 0);
    for args in [
        &["ping", &address, "--docker", "--path", "/x"][..],
        &["ping", "unix:/no", "--docker"],
        &["ping", "--docker", "--no-such-option"],
        &["ping", "-", "--docker"],
    ] {
        let (status, _, stderr) = seen(&run(args));
        assert_eq!(status, 1, "{args:?}: {stderr}");
        assert!(!stderr.is_empty(), "{args:?}");
    }
    Ok(())
}

fn script() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let address = php.unix_address();
    let path = |name: &str| php.script(name).display().to_string();
    let ping = |script: &str, args: &[&str]| {
        seen(&run(&[&["ping", &address, "--script", script], args].concat()))
    };
    let (status, stdout, _) = ping(&path("hello.php"), &[]);
    assert_eq!(status, 0);
    assert!(stdout.starts_with(&format!("200 from {address} in ")), "{stdout}");
    assert_eq!(ping(&path("hello.php"), &["--expect", "Hello, world"]).0, 0);
    let (status, _, said) = ping(&path("hello.php"), &["--expect", "Hello"]);
    assert_eq!(status, 7, "the whole body counts: {said}");
    assert!(said.contains("\"Hello, world\" instead of \"Hello\""), "{said}");
    let (status, _, said) = ping(&path("err.php"), &[]);
    assert_eq!(status, 7);
    assert!(said.contains("418"), "{said}");
    let (status, _, said) = ping(&path("missing.php"), &[]);
    assert_eq!(status, 7);
    assert!(said.contains("php-fpm finds no file"), "{said}");
    assert_eq!(ping("/etc/passwd", &[]).0, 7, "php-fpm runs no such file");
    Ok(())
}

fn environment() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let unix = php.unix_address();
    let path = unix.trim_start_matches("unix:");
    let tcp = php.tcp_address();
    let port = tcp.trim_start_matches("tcp:");
    let none = "unix:/none";
    for (address, connect, expected) in [
        (Some(&*unix), Some(none), &*unix),
        (None, Some(port), &*tcp),
        (None, Some(path), &*unix),
        (Some(""), Some(path), &*unix),
    ] {
        let mut command = command(&["ping"]);
        address.map(|address| command.env("FCGI_ADDR", address));
        connect.map(|connect| command.env("FCGI_CONNECT", connect));
        let (status, stdout, stderr) = seen(&command.output()?);
        assert_eq!(status, 0, "{stderr}");
        assert!(stdout.contains(expected), "{stdout}");
    }
    let mut relative = command(&["ping"]);
    let folder = Path::new(path).parent().ok_or("a folder")?;
    let output = relative.env("FCGI_CONNECT", "php.sock").current_dir(folder).output()?;
    assert_eq!(seen(&output).0, 0, "cgi-fcgi takes what has no colon for a path");
    let (status, _, said) = seen(&command(&["ping"]).env("FCGI_CONNECT", "no/such").output()?);
    assert_eq!(status, 5, "{said}");
    assert!(said.contains("the path exists up to .;"), "{said}");
    for wrong in ["x:y:z", "php.sock"] {
        let (status, _, said) = seen(&command(&["ping"]).env("FCGI_ADDR", wrong).output()?);
        assert_eq!(status, 2, "{wrong}: {said}");
        assert!(said.contains("FCGI_ADDR"), "{said}");
    }
    Ok(())
}

fn options_from_environment() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().extra("ping.path = /alive\n"))?;
    let address = php.unix_address();
    let ping = |name: &str, value: &str, args: &[&str]| {
        let mut command = command(&[&["ping", &*address], args].concat());
        seen(&command.env(name, value).output().expect("fcgi runs"))
    };
    assert_eq!(ping("FCGI_PING_PATH", "/alive", &[]).0, 0);
    assert_eq!(ping("FCGI_PING_PATH", "/other", &[]).0, 7);
    assert_eq!(ping("FCGI_PING_PATH", "/other", &["--path", "/alive"]).0, 0);
    assert_eq!(ping("FCGI_PING_DOCKER", "1", &[]).0, 1);
    assert_eq!(ping("FCGI_PING_DOCKER", "0", &[]).0, 7);
    assert_eq!(ping("FCGI_PING_TIMEOUT", "soon", &[]).0, 2);
    let script = php.script("hello.php").display().to_string();
    let given = ["--script", &*script];
    assert_eq!(ping("FCGI_PING_PATH", "/alive", &given).0, 0, "an option goes before a variable");
    Ok(())
}

fn usage() -> Result {
    for args in [
        &["ping", "nowhere"][..],
        &["ping", "-"],
        &["ping", "unix:/x", "--path", "ping"],
        &["ping", "unix:/x", "--timeout", "-1"],
        &["ping", "unix:/x", "--retry", "1", "--wait", "1"],
    ] {
        let (status, stdout, stderr) = seen(&run(args));
        assert_eq!((status, &*stdout), (2, ""), "{args:?}");
        assert!(!stderr.is_empty(), "{args:?}");
    }
    let (status, stdout, stderr) = seen(&run(&["ping", "unix:/no", "-q"]));
    assert_eq!((status, &*stdout, &*stderr), (5, "", ""));
    let (_, help, _) = seen(&run(&["ping", "--help"]));
    for part in ["FCGI_PING_PATH", "FCGI_ADDR", "HEALTHCHECK", "--connect-only"] {
        assert!(help.contains(part), "{part}");
    }
    Ok(())
}
