//! `fcgi gateway --spawn`: a program of its own, and nothing that outlives it.

mod common;

use std::{
    fs,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use common::{
    copy_of_fcgi, fcgi as command,
    gateway::{Gateway, block_on, text, until},
};
use fcgi_tokio as fcgi;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// A program that writes its process id, and starts another that does.
const SCRIPT: &str = "echo $$ > main; sh -c 'echo $$ > other; exec sleep 1000' & \
    echo it starts; echo it complains >&2; wait";

fn start(script: &str) -> (Gateway, TempDir) {
    start_with(Gateway::start, script)
}

fn start_with(gateway: impl FnOnce(&[&str]) -> Gateway, script: &str) -> (Gateway, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let script = format!("cd '{}'; {script}", folder.path().display());
    (gateway(&["--spawn", &script, "--mount", "/"]), folder)
}

fn pid(folder: &TempDir, name: &str) -> Pid {
    let file = folder.path().join(name);
    let mut found = None;
    until("it writes its id", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        found = text.trim().parse().ok().and_then(Pid::from_raw);
        found.is_some()
    });
    found.expect("an id")
}

/// Whether it runs. A process that has ended does not, even if nobody has waited for it.
fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let state = stat.as_deref().unwrap_or_default().rsplit(") ").next().unwrap_or_default();
    test_kill_process(pid).is_ok() && !state.starts_with('Z')
}

/// The guard of the gateway, and its folder. The system's list of children may leave one out while
/// others start or end.
fn guard(gateway: &Gateway) -> (Pid, PathBuf) {
    let mut found = None;
    until("it has a guard", || {
        found = look_for_guard(gateway.pid());
        found.is_some()
    });
    found.expect("a guard")
}

fn look_for_guard(pid: i32) -> Option<(Pid, PathBuf)> {
    let children = fs::read_dir(format!("/proc/{pid}/task")).expect("threads").flatten();
    let children = children.flat_map(|task| {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    });
    for child in children {
        let args = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        let mut args = args.split('\0').skip(1);
        if args.next() == Some("guard") {
            let folder = args.filter(|arg| !arg.is_empty()).last().expect("a folder").into();
            return Some((Pid::from_raw(child.parse().expect("an id")).expect("an id"), folder));
        }
    }
    None
}

/// The program of the next test, which answers at descriptor 0.
#[test]
#[ignore = "a program for another test"]
fn the_program() {
    block_on(async {
        // Started by hand, it has no such socket.
        let Ok(listener) = fcgi::Listener::bind(&fcgi::Address::STDIN) else { return };
        let served = fcgi::Server::new().serve(listener, async |request: fcgi::Request| {
            let name = request.param_str("PATH_INFO").unwrap_or_default().to_owned();
            request.stdout().write_all(format!("Content-Type: a/b\r\n\r\nspawned {name}")).await?;
            Ok::<_, fcgi::Error>(0)
        });
        served.await.expect("it serves");
    });
}

#[test]
fn the_program_has_the_listening_socket_at_descriptor_0() {
    let own = std::env::current_exe().expect("a path");
    let command = format!("'{}' --exact the_program --ignored --nocapture", own.display());
    let gateway = Gateway::start(&["--spawn", &command, "--mount", "/"]);
    assert!(gateway.line.contains(&format!("the program {command}")), "{}", gateway.line);
    for _ in 0..3 {
        let reply = gateway.get("/x");
        assert_eq!(reply.head.status, 200, "{}", gateway.error_log());
        assert_eq!(text(&reply), "spawned /x");
    }
}

#[test]
fn what_it_prints_is_logged_and_it_ends_with_the_gateway() {
    let (mut gateway, folder) = start(SCRIPT);
    let (main, other) = (pid(&folder, "main"), pid(&folder, "other"));
    until("its lines are logged", || {
        let log = gateway.error_log();
        log.contains("spawned program: it starts\n")
            && log.contains("spawned program: it complains\n")
    });
    let (_, private) = guard(&gateway);
    assert!(private.is_dir());
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!runs(main) && !runs(other), "nothing is left");
    assert!(!private.exists());
}

#[test]
fn nothing_outlives_a_gateway_that_is_killed() {
    let (mut gateway, folder) = start(SCRIPT);
    let (main, other) = (pid(&folder, "main"), pid(&folder, "other"));
    let (_, private) = guard(&gateway);
    gateway.signal(Signal::KILL);
    gateway.wait();
    until("all have ended", || !runs(main) && !runs(other) && !private.exists());
}

#[test]
fn the_program_ends_when_gateway_and_guard_are_killed_together() {
    // Gateways of other tests would remove what is left.
    let temporary = tempfile::tempdir().expect("a folder");
    let place = temporary.path().display().to_string();
    let start =
        |script: &str| start_with(|args| Gateway::start_with_env("TMPDIR", &place, args), script);
    let (mut gateway, folder) = start("echo $$ > main; exec sleep 1000");
    let main = pid(&folder, "main");
    let (guard, private) = guard(&gateway);
    // Neither can do anything about it.
    kill_process(guard, Signal::STOP).expect("it runs");
    gateway.signal(Signal::KILL);
    kill_process(guard, Signal::KILL).expect("it runs");
    gateway.wait();
    until("it has ended", || !runs(main));
    // Its folder ends with the next start of a gateway; the folders of those that run stay.
    assert!(private.is_dir());
    let (others, _folder) = start("exec sleep 1000");
    let (_, used) = self::guard(&others);
    assert!(!private.exists());
    let (_third, _folder) = start("exec sleep 1000");
    assert!(used.is_dir());
}

/// A program that leaves another behind, as daemons and `setsid` do. The other has left its process
/// group, and its parent has ended.
const DETACHING: &str = "echo $$ > main; \
    setsid sh -c 'sh -c \"echo \\$\\$ > other; exec sleep 1000\" & echo started > begun' & wait; \
    exec sleep 1000";

#[test]
fn what_has_left_its_group_ends_too() {
    for how in ["term", "kill", "guard", "program"] {
        let (mut gateway, folder) = start(DETACHING);
        let (main, other) = (pid(&folder, "main"), pid(&folder, "other"));
        let (guard, _) = guard(&gateway);
        match how {
            "term" => {
                gateway.signal(Signal::TERM);
                assert_eq!(gateway.wait().code(), Some(0));
                assert!(!runs(other), "{how}: nothing is left");
            }
            "kill" => {
                gateway.signal(Signal::KILL);
                gateway.wait();
            }
            // It is started again, without what was left of it.
            "guard" => kill_process(guard, Signal::KILL).expect("it runs"),
            _ => kill_process(main, Signal::KILL).expect("it runs"),
        }
        until("all have ended", || !runs(main) && !runs(other));
    }
}

/// A signal counts before there is anything to serve, too.
#[test]
fn a_signal_ends_it_while_it_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("never-ready");
    let main = folder.path().join("main");
    let text = format!("#!/bin/sh\necho $$ > '{}'\nexec sleep 1000\n", main.display());
    fcgi_testkit::program::script(&text, &program).expect("a file");
    let root = folder.path().display().to_string();
    let program = program.display().to_string();
    let mut gateway = common::fcgi()
        .args(["gateway", "--listen", "127.0.0.1:0", "--root", &root, "--php-fpm", &program])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let main = pid(&folder, "main");
    kill_process(Pid::from_child(&gateway), Signal::TERM).expect("it runs");
    let status = gateway.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert!(!runs(main), "nothing is left");
    let mut stderr = String::new();
    gateway.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
    assert_eq!(stderr, "");
}

#[test]
fn a_program_that_ends_is_started_again_with_growing_pauses() {
    let (gateway, folder) = start("echo x >> runs; exit 3");
    let runs =
        || fs::read_to_string(folder.path().join("runs")).unwrap_or_default().lines().count();
    until("it runs again and again", || runs() >= 4);
    let said = |pause| format!("spawned program has ended; it is started again in {pause}\n");
    until("all pauses are logged", || gateway.error_log().contains(&said("400ms")));
    let log = gateway.error_log();
    assert!(log.contains("exit status: 3"), "{log}");
    for pause in ["100ms", "200ms", "400ms"] {
        assert_eq!(log.matches(&said(pause)).count(), 1, "{log}");
    }
}

#[test]
fn a_blank_command_is_refused() {
    for blank in ["", "  "] {
        let output = command().args(["gateway", "--spawn", blank]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

/// As an upgrade does, while the gateway runs.
#[test]
fn it_is_started_again_though_the_gateways_file_is_gone() {
    let place = tempfile::tempdir().expect("a folder");
    let own = copy_of_fcgi(place.path());
    let start = |args: &[&str]| Gateway::spawn(Command::new(&own), args);
    let (gateway, folder) =
        start_with(start, "echo x >> runs; until test -e go; do sleep 0.02; done");
    let runs =
        || fs::read_to_string(folder.path().join("runs")).unwrap_or_default().lines().count();
    until("it runs", || runs() == 1);
    fs::remove_file(&own).expect("the file is there");
    fs::write(folder.path().join("go"), "").expect("a file");
    until("it runs again", || runs() >= 3);
    assert!(!gateway.error_log().contains("No such file"), "{}", gateway.error_log());
}

#[test]
fn the_samples_folder_ends_with_a_gateway_that_is_killed() {
    let mut gateway = Gateway::start(&[]);
    assert_eq!(gateway.get("/").head.status, 200);
    let (_, private) = guard(&gateway);
    assert!(private.join("sample").exists());
    gateway.signal(Signal::KILL);
    gateway.wait();
    until("it is removed", || !private.exists());
}

/// A gateway removes the folders of others that were killed, and nothing else of this user's that
/// only looks alike.
#[test]
fn only_folders_that_a_gateway_has_made_are_removed() {
    let temporary = tempfile::tempdir().expect("a folder");
    let place = temporary.path().to_owned();
    let start = || Gateway::start_with_env("TMPDIR", &place.display().to_string(), &[]);
    let first = start();
    let (_, used) = guard(&first);
    assert!(used.starts_with(&place), "{}", used.display());
    let mark = fs::read(used.join(".fcgi-gateway.lock")).expect("its lock");
    let make = |name: &str, lock: &str, text: &[u8], mode| {
        let folder = place.join(name);
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join(lock), text).expect("a file");
        fs::write(folder.join("work"), "much").expect("a file");
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("its mode");
        folder
    };
    let stale = make("fcgi-php-aB3dE9", ".fcgi-gateway.lock", &mark, 0o700);
    let others = [
        make("fcgi-php-build", "lock", b"", 0o700),
        make("fcgi-php-building", ".fcgi-gateway.lock", &mark, 0o700),
        make("fcgi-php-buil.d", ".fcgi-gateway.lock", &mark, 0o700),
        make("other-aB3dE9", ".fcgi-gateway.lock", &mark, 0o700),
        make("fcgi-spawn-builds", "lock", &mark, 0o700),
        make("fcgi-spawn-empty1", ".fcgi-gateway.lock", b"", 0o700),
        make("fcgi-spawn-longer", ".fcgi-gateway.lock", &[&mark[..], b"x"].concat(), 0o700),
        make("fcgi-gateway-public", ".fcgi-gateway.lock", &mark, 0o755),
    ];
    let folder = place.join("fcgi-gateway-folder");
    fs::create_dir_all(folder.join(".fcgi-gateway.lock")).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("its mode");
    let _second = start();
    assert!(!stale.exists());
    assert!(used.is_dir() && folder.is_dir());
    for other in others {
        assert!(other.join("work").exists(), "{}", other.display());
    }
}
