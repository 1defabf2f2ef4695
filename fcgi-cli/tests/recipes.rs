//! The recipes of docs/cli.md, line by line, with a php-fpm of this test's own.

mod common;

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use common::{gateway::until, pool::Busy};
use fcgi_testkit::{
    harness::{self, Case, Failed},
    peers::{Peer, PhpFpm, PhpFpmOptions},
};
use rustix::process::{Pid, Signal, kill_process};

type Result = std::result::Result<(), Failed>;

fn main() -> ExitCode {
    harness::run([
        Case::new("each_recipe_does_what_it_says", all).needs(&[Peer::PhpFpm, Peer::CgiFcgi]),
        Case::new("a_saturated_pool_loses_traffic_and_is_not_killed", saturated)
            .needs(&[Peer::PhpFpm]),
    ])
}

/// The lines of the section, each as a shell takes it.
fn recipes() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = fs::read_to_string(path).expect("docs/cli.md is there");
    let section = page.split("\n## ").find(|section| section.starts_with("Recipes\n"));
    let mut lines = Vec::new();
    let mut block = None;
    for line in section.expect("the section").lines() {
        if let Some(language) = line.strip_prefix("```") {
            block = (!language.is_empty()).then_some(language);
            continue;
        }
        match block {
            Some("sh") => lines.push(line.to_owned()),
            // `CMD ["fcgi", …]` and `command: [fcgi, …]`.
            Some(_) => {
                let words = line.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
                lines.extend(words.map(|(words, _)| {
                    let words = words.split(", ").map(|word| word.trim_matches('"'));
                    words.collect::<Vec<_>>().join(" ")
                }));
            }
            None if line.starts_with("| `") => {
                lines.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
            }
            None => {}
        }
    }
    lines
}

/// A shell for a line, with what is of this test in place of what the page names.
fn shell(line: &str, php: &PhpFpm) -> Command {
    let (unix, tcp) = (php.unix_address(), php.tcp_address());
    let line = line
        .replace("/run/php/php-fpm.sock", unix.trim_start_matches("unix:"))
        .replace("127.0.0.1:9000", tcp.trim_start_matches("tcp:"))
        .replace("/srv/www", &php.document_root().display().to_string())
        .replace("0.0.0.0:80", "127.0.0.1:0")
        .replace(":9253", "127.0.0.1:0");
    let own = Path::new(env!("CARGO_BIN_EXE_fcgi")).parent().expect("a folder");
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [own.to_owned()].into_iter().chain(env::split_paths(&path));
    let mut command = Command::new("sh");
    // One process, so that a signal reaches it.
    command.arg("-c").arg(if line.starts_with("fcgi ") { format!("exec {line}") } else { line });
    command.env("PATH", env::join_paths(folders).expect("no colon")).env("FCGI_ADDR", unix);
    command.stdin(Stdio::null());
    command
}

fn all() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let recipes = recipes();
    assert!(recipes.len() > 12, "{recipes:?}");
    for line in &recipes {
        if line.contains(" php-fpm-healthcheck ") {
            continue;
        }
        if line.contains("--serve") || line.contains(" gateway ") {
            serves(line, &php)?;
            continue;
        }
        let mut command = shell(line, &php);
        if line.contains("FCGI_CONNECT") {
            command.env_remove("FCGI_ADDR");
        }
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {}: {said}", output.status);
    }
    Ok(())
}

/// A command that keeps running prints its address, and ends on SIGTERM.
fn serves(line: &str, php: &PhpFpm) -> Result {
    let mut child = shell(line, php).stdout(Stdio::piped()).spawn()?;
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().ok_or("piped")?);
    stdout.read_line(&mut first)?;
    assert!(first.contains("http://127.0.0.1:"), "{line}: {first}");
    kill_process(Pid::from_child(&child), Signal::TERM)?;
    let status = child.wait()?;
    // As after SIGTERM, or by it.
    assert!(status.success() || status.code().is_none_or(|code| code == 143), "{line}: {status}");
    Ok(())
}

fn saturated() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().children(1))?;
    let recipes = recipes();
    let find = |part: &str| recipes.iter().find(|line| line.contains(part)).expect("a recipe");
    let readiness = find("--max queue=10");
    // One more than may wait, and the one that runs.
    let busy = Busy::start(&php, &php.unix_address(), 12);
    until("readiness fails", || {
        let status = shell(readiness, &php).stdout(Stdio::null()).stderr(Stdio::null()).status();
        !status.expect("sh runs").success()
    });
    // The limit is generous: it waits for a worker, and gets one when there is one.
    let mut liveness = shell(find("ping --timeout 25"), &php).stdout(Stdio::null()).spawn()?;
    assert!(liveness.try_wait()?.is_none(), "it waits");
    drop(busy);
    liveness.kill()?;
    liveness.wait()?;
    Ok(())
}
