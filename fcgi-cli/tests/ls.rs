//! `fcgi ls` beside php-fpm.

mod common;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    path::Path,
    process::{Command, ExitCode, Output, Stdio},
};

use fcgi_testkit::{
    harness::{self, Case, Failed},
    peers::{Peer, PhpFpm, PhpFpmOptions},
};
use serde_json::Value;

use common::{fcgi, gateway::until, pages::compare_shape, pool::Busy};

type Result = std::result::Result<(), Failed>;

fn main() -> ExitCode {
    harness::run([
        Case::new("the_pools_of_a_php_fpm_that_runs", the_pools_of_a_php_fpm_that_runs)
            .needs(&[Peer::PhpFpm]),
        Case::new("sample", sample).needs(&[Peer::PhpFpm]),
        Case::new("what_a_configuration_names", what_a_configuration_names),
        Case::new("a_file_that_is_not_there", a_file_that_is_not_there),
        Case::new("a_pipe_that_a_title_names", a_pipe_that_a_title_names),
        Case::new("docker_and_nagios", docker_and_nagios),
        Case::new("a_pipe_that_is_included", a_pipe_that_is_included),
    ])
}

fn run(args: &[&str]) -> Output {
    let mut command = fcgi();
    // The machine may be busy.
    command.env("FCGI_LS_TIMEOUT", "5");
    command.arg("ls").args(args).output().expect("fcgi runs")
}

fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// Its master says where its configuration is.
fn the_pools_of_a_php_fpm_that_runs() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let list = || {
        let output = run(&["--json"]);
        (objects(&output), output.status.code())
    };
    let (mut objects, mut status) = list();
    let find = |objects: &[Value], address: &str| {
        let object = objects.iter().find(|object| object["address"] == address);
        object.unwrap_or_else(|| panic!("{address} is in {objects:?}")).clone()
    };
    let addresses = [php.unix_address(), php.tcp_address()];
    // On a machine under load a connection of before may still wait for a worker.
    until("nothing waits in a queue", || {
        (objects, status) = list();
        addresses.iter().all(|address| find(&objects, address)["queue"] == 0)
    });
    let of = |address: &str| find(&objects, address);
    for (address, pool) in [(php.unix_address(), "unix"), (php.tcp_address(), "tcp")] {
        let object = of(&address);
        assert_eq!(object["pool"], pool, "{object}");
        assert_eq!(object["answers"], true, "{object}");
        assert_eq!(
            (&object["ping_path"], &object["status_path"]),
            (&"/ping".into(), &"/status".into())
        );
    }
    assert_eq!(of(&php.unix_address())["mode"], "0666");
    assert_eq!(status, Some(0));
    Ok(())
}

fn what_a_configuration_names() -> Result {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let silent = UnixListener::bind(at("silent"))?;
    std::fs::set_permissions(at("silent"), std::fs::Permissions::from_mode(0o640))?;
    drop(UnixListener::bind(at("stale"))?);
    let config = at("php-fpm.conf");
    let dir = folder.path().display();
    let text = format!(
        "[global]\n[one]\nlisten = {dir}/silent\n[two]\nlisten = {dir}/stale\n[three]\nlisten = \
         {dir}/missing\n"
    );
    std::fs::write(&config, text)?;
    let config = config.display().to_string();
    let output = run(&["--fpm-config", &config, "--timeout", "0.2"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let me = rustix::process::geteuid().as_raw();
    let owner = if me == 0 { "root:root".to_owned() } else { String::new() };
    for (name, pool, more) in [
        ("silent", "one", [owner.clone(), "0640".into(), "0/".into(), "no: busy".into()]),
        ("stale", "two", [owner, String::new(), "-".into(), "no: stale socket".into()]),
        ("missing", "three", ["-".into(), "-".into(), "-".into(), "no: no socket".into()]),
    ] {
        let start = format!("unix:{dir}/{name} ");
        let line = text.lines().find(|line| line.starts_with(&start)).unwrap_or_default();
        let mut rest = line.trim_start_matches(&start).split_whitespace();
        assert_eq!(rest.next(), Some(pool), "{text}");
        let rest: Vec<&str> = rest.collect();
        let rest = rest.join(" ");
        for part in more {
            assert!(rest.contains(&part), "{part} in {rest:?} in {text}");
        }
    }
    drop(silent);
    Ok(())
}

/// docs/cli.md's sample: a pool that answers, a busy one, and a stale socket.
fn sample() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().children(1))?;
    let (tcp, unix) = (php.tcp_address(), php.unix_address());
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pool.conf");
    let stale = folder.path().join("old.sock");
    drop(UnixListener::bind(&stale)?);
    fs::write(&file, format!("[old]\nlisten = {}\n", stale.display()))?;
    let _busy = Busy::start(&php, &unix, 1);
    let config = file.display().to_string();
    let mut rows = Vec::new();
    until("its only worker is busy", || {
        let output = fcgi().args(["ls", "--timeout", "2", "--fpm-config", &config]).output();
        let text = String::from_utf8_lossy(&output.expect("fcgi runs").stdout).into_owned();
        rows.clear();
        let stale = format!("unix:{}", stale.display());
        let mut is_ours = true;
        for line in text.lines() {
            if !line.starts_with(' ') {
                let address = line.split(' ').next().unwrap_or_default();
                is_ours = ["ADDRESS", &*tcp, &*unix, &*stale].contains(&address);
            }
            if is_ours {
                rows.push(line.to_owned());
            }
        }
        // Each look leaves a connection that waits.
        rows.iter().any(|row| row.contains("connections wait"))
    });
    // The page has them in the order of other names.
    let start = |address: &str| rows.iter().position(|row| row.starts_with(address));
    let of = |address: &str, lines: usize| {
        let at = start(address).unwrap_or_else(|| panic!("{address} in {rows:?}"));
        rows[at..at + lines].to_vec()
    };
    let stale_address = format!("unix:{}", stale.display());
    let order =
        [of("ADDRESS", 1), of(&tcp, 1), of(&stale_address, 2), of(&unix, 2)].concat().join("\n");
    let seen = format!("$ fcgi ls\n{order}\n");
    let names = [
        (&*stale.display().to_string(), "/run/php/old.sock"),
        (&*tcp, "tcp:127.0.0.1:9001"),
        (&*unix, "unix:/run/php/www.sock"),
        ("  tcp  ", "  api  "),
        ("  unix  ", "  www  "),
        ("root:root", "www-data:www-data"),
    ];
    compare_shape("ls", &seen, &names);
    Ok(())
}

fn a_file_that_is_not_there() -> Result {
    let output = run(&["--fpm-config", "/nonexistent/php-fpm.conf"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.starts_with("fcgi ls: read /nonexistent/php-fpm.conf: "), "{text}");
    Ok(())
}

/// A pipe that nobody writes to, and the command that must not wait for it.
fn ends_in_spite_of(pipe: &Path, command: &mut Command) -> Result {
    let made = Command::new("mkfifo").arg(pipe).status()?;
    assert!(made.success());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    until("it ends", || child.try_wait().is_ok_and(|ended| ended.is_some()));
    fs::remove_file(pipe)?;
    Ok(())
}

fn a_pipe_that_a_title_names() -> Result {
    let folder = tempfile::tempdir()?;
    let pipe = folder.path().join("pipe");
    let mut titled = Command::new("cat")
        .arg0(format!("php-fpm: master process ({})", pipe.display()))
        .stdin(Stdio::piped())
        .spawn()?;
    for arguments in [&["ls"][..], &["doctor", "unix:/nonexistent/socket"]] {
        ends_in_spite_of(&pipe, fcgi().args(arguments).env("FCGI_LS_TIMEOUT", "5"))?;
    }
    titled.kill()?;
    titled.wait()?;
    Ok(())
}

fn a_pipe_that_is_included() -> Result {
    let folder = tempfile::tempdir()?;
    let pipe = folder.path().join("pool.conf");
    let main = folder.path().join("main");
    fs::write(&main, format!("include = {}/*.conf\n", folder.path().display()))?;
    let mut command = fcgi();
    command.args(["ls", "--fpm-config"]).arg(&main).env("FCGI_LS_TIMEOUT", "5");
    ends_in_spite_of(&pipe, &mut command)
}

fn docker_and_nagios() -> Result {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("pools");
    let stale = folder.path().join("stale");
    drop(UnixListener::bind(&stale)?);
    fs::write(&file, format!("[www]\nlisten = {}\n", stale.display()))?;
    let config = file.display().to_string();
    let output = run(&["--fpm-config", &config, "--docker"]);
    assert_eq!(output.status.code(), Some(0));
    let output = run(&["--fpm-config", &config, "--nagios"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(0), 1), "{said}");
    assert!(said.starts_with("LS OK - "), "{said}");
    assert!(said.contains(&stale.display().to_string()) && said.contains(" | sockets="), "{said}");
    for (form, status) in [("--docker", 1), ("--nagios", 3)] {
        let output = run(&["--fpm-config", "/nonexistent", form]);
        assert_eq!(output.status.code(), Some(status), "{form}");
    }
    Ok(())
}
