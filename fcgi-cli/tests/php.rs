//! `fcgi php` against php-fpm.

mod common;

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Output, Stdio},
    thread,
    time::Instant,
};

use fcgi_testkit::{
    harness::{self, Case, Failed},
    peers::{Peer, PhpFpm, PhpFpmOptions},
    program,
};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use common::{copy_of_fcgi, fcgi, full, gateway::until, pages::compare_shape};

type Result<T = ()> = std::result::Result<T, Failed>;
type Run = fn() -> Result;

fn main() -> ExitCode {
    let cases: [(&str, Run); 17] = [
        ("code_runs_as_the_worker", code_runs_as_the_worker),
        ("what_php_says_and_how_it_ends", what_php_says_and_how_it_ends),
        ("a_file", a_file),
        ("the_script_goes_with_the_command", the_script_goes_with_the_command),
        (
            "the_script_goes_though_the_commands_file_is_gone",
            the_script_goes_though_the_commands_file_is_gone,
        ),
        ("the_script_of_a_saturated_pool_goes_too", the_script_of_a_saturated_pool_goes_too),
        (
            "the_script_goes_whenever_the_command_is_killed",
            the_script_goes_whenever_the_command_is_killed,
        ),
        ("opcache", opcache),
        ("open_basedir", open_basedir),
        ("a_folder_that_the_worker_can_not_enter", a_folder_that_the_worker_can_not_enter),
        ("usage", usage),
        ("a_time_limit_holds_while_stdin_is_silent", a_time_limit_holds_while_stdin_is_silent),
        ("a_signal_ends_it_while_stdin_is_silent", a_signal_ends_it_while_stdin_is_silent),
        ("it_ends_while_nobody_reads_its_output", it_ends_while_nobody_reads_its_output),
        ("a_pool_that_is_not_there", a_pool_that_is_not_there),
        ("sample", sample),
        ("code_goes_before_variables", code_goes_before_variables),
    ];
    let cases = cases.map(|(name, run)| Case::new(name, run).needs(&[Peer::PhpFpm]));
    let as_root: [(&str, Run); 4] = [
        ("below_a_chroot", below_a_chroot),
        ("a_title_makes_no_worker", a_title_makes_no_worker),
        ("a_title_makes_no_master", a_title_makes_no_master),
        ("an_ordinary_users_script", an_ordinary_users_script),
    ];
    let no_root = || (!geteuid().is_root()).then(|| "it takes root".to_owned());
    let as_root =
        as_root.map(|(name, run)| Case::new(name, run).needs(&[Peer::PhpFpm]).missing(no_root()));
    harness::run(cases.into_iter().chain(as_root))
}

fn run(args: &[&str]) -> Output {
    let mut command = fcgi();
    command.arg("php").args(args).output().expect("fcgi runs")
}

/// Exit status, stdout and stderr.
fn ended(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it ends by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

/// A folder that everybody may use.
fn open_folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("fcgi-php-").tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777))?;
    Ok(folder)
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("a folder").next().is_none()
}

fn code_runs_as_the_worker() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    // The owner of a new file is who runs the code. The script is theirs alone.
    let code = "$own = tempnam('/tmp', 'fcgi-php'); $mode = fileperms($_SERVER['SCRIPT_FILENAME']); \
                $is_own = fileowner($own) === fileowner($_SERVER['SCRIPT_FILENAME']); unlink($own); \
                printf(\"%o %s\\n%s\\n\", $mode & 0777, $is_own ? 'own' : 'foreign', \
                $_SERVER['SCRIPT_FILENAME'])";
    for address in [php.unix_address(), php.tcp_address()] {
        let (code, out, err) = ended(&run(&[&address, code]));
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let (what, path) = out.trim().split_once('\n').ok_or("two lines")?;
        assert_eq!(what, "400 own");
        assert!(!Path::new(path).exists(), "{path}");
    }
    // The address may come from the environment.
    let output =
        fcgi().args(["php", "echo 'here';"]).env("FCGI_ADDR", php.unix_address()).output()?;
    assert_eq!(ended(&output), (0, "here".to_owned(), String::new()));
    let (code, out, _) = ended(&run(&[&php.unix_address(), "echo \"\\$x's \\\\\";", "--json"]));
    let object: Value = serde_json::from_str(&out).map_err(|error| error.to_string())?;
    assert_eq!((code, &object["output"]), (0, &"$x's \\".into()), "{out}");
    assert_eq!((&object["v"], &object["exit_status"]), (&1.into(), &0.into()));
    Ok(())
}

fn what_php_says_and_how_it_ends() -> Result {
    // Errors are shown here, whatever the pool's settings are.
    let options = PhpFpmOptions::default();
    let options = options.extra("php_flag[display_errors] = on\nphp_flag[log_errors] = off");
    let php = PhpFpm::start(options)?;
    let address = php.unix_address();
    let (code, out, err) = ended(&run(&[&address, "echo 'a'; error_log('a word'); echo 'b';"]));
    assert_eq!((code, out.as_str()), (0, "ab"));
    assert_eq!(err, "PHP message: a word\n");
    for (code, expected) in [
        (
            "echo 'out'; missing();",
            "PHP Fatal error:  Uncaught Error: Call to undefined function missing()",
        ),
        ("this is no PHP", "PHP Parse error:  syntax error"),
    ] {
        let (code, out, err) = ended(&run(&[&address, code]));
        assert_eq!(code, 7, "{out} {err}");
        let line = format!("\nfcgi php: {address}: {expected}");
        assert!(err.contains(&line), "{err}");
    }
    let (code, _, err) = ended(&run(&[&address, "http_response_code(503); echo 'busy';"]));
    assert_eq!(
        (code, err),
        (7, format!("fcgi php: {address}: the script ended with status 503\n"))
    );
    // A 404 that the script sends does not mean that the script is missing.
    let (code, out, _) = ended(&run(&[&address, "http_response_code(404); echo 'none';"]));
    assert_eq!((code, out.as_str()), (7, "none"));
    Ok(())
}

fn a_file() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("warm.php");
    let text =
        "<?php\ndeclare(strict_types=1);\nnamespace Warm;\necho __LINE__, ' ', __NAMESPACE__;\n";
    fs::write(&file, text)?;
    let file = file.display().to_string();
    let (code, out, err) = ended(&run(&[&php.unix_address(), "-f", &file]));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "4 Warm", ""));
    let output = fcgi()
        .args(["php", &php.unix_address(), "-f", "-"])
        .stdin(fs::File::open(&file)?)
        .output()?;
    assert_eq!(ended(&output), (0, "4 Warm".to_owned(), String::new()));
    let (code, _, err) = ended(&run(&[&php.unix_address(), "-f", "/nonexistent.php"]));
    assert_eq!(code, 2);
    assert!(err.starts_with("fcgi php: read /nonexistent.php: "), "{err}");
    Ok(())
}

/// However the command ends, SIGKILL included.
fn the_script_goes_with_the_command() -> Result {
    // Each signal leaves a worker that sleeps on.
    let php = PhpFpm::start(PhpFpmOptions::default().children(5))?;
    let folder = open_folder()?;
    let dir = folder.path().display().to_string();
    for (signal, status) in [
        (Signal::INT, Some(130)),
        (Signal::TERM, Some(143)),
        (Signal::HUP, Some(129)),
        (Signal::QUIT, Some(131)),
        (Signal::KILL, None),
    ] {
        let gates = open_folder()?;
        let gate = gates.path().join("gate");
        let code = format!("touch('{}'); sleep(600);", gate.display());
        let mut command = fcgi();
        command.args(["php", &php.unix_address(), &code, "--dir", &dir, "--timeout", "600"]);
        let mut child = command.stderr(Stdio::null()).spawn()?;
        until("the script runs", || gate.exists());
        assert!(!is_empty(folder.path()), "the script is there while it runs");
        kill_process(Pid::from_child(&child), signal)?;
        assert_eq!(child.wait()?.code(), status, "{signal:?}");
        until("the script is removed", || is_empty(folder.path()));
    }
    Ok(())
}

/// As an upgrade does, while it reads its code.
fn the_script_goes_though_the_commands_file_is_gone() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().children(1))?;
    let (folder, gates, place) = (open_folder()?, open_folder()?, tempfile::tempdir()?);
    let gate = gates.path().join("gate");
    let own = copy_of_fcgi(place.path());
    let mut command = Command::new(&own);
    command.args(["php", &php.unix_address(), "-f", "-", "--timeout", "600", "--dir"]);
    let mut child = command.arg(folder.path()).stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().ok_or("its stdin")?;
    fs::remove_file(&own)?;
    write!(stdin, "<?php touch('{}'); sleep(600);", gate.display())?;
    drop(stdin);
    until("the script runs", || gate.exists());
    assert!(!is_empty(folder.path()), "the script is there while it runs");
    child.kill()?;
    child.wait()?;
    until("the script is removed", || is_empty(folder.path()));
    Ok(())
}

/// Also while the script is made, and before.
fn the_script_goes_whenever_the_command_is_killed() -> Result {
    const MOMENTS: u32 = 60;
    let folder = open_folder()?;
    let dir = folder.path().display().to_string();
    let me = geteuid().as_raw().to_string();
    let nearby = open_folder()?;
    let socket = nearby.path().join("s");
    // It takes connections, and says nothing.
    let _silent = UnixListener::bind(&socket)?;
    let start = || {
        let mut command = fcgi();
        command.arg("php").arg(&socket).args(["echo 1;", "--dir", &dir, "--user", &me]);
        command.args(["--timeout", "600"]).stderr(Stdio::null()).spawn()
    };
    let mut child = start()?;
    let started = Instant::now();
    until("the script is there", || !is_empty(folder.path()));
    // A little longer than it takes to make one.
    let span = started.elapsed() * 3 / 2;
    child.kill()?;
    child.wait()?;
    for n in 0..MOMENTS {
        until("the script is removed", || is_empty(folder.path()));
        let mut child = start()?;
        thread::sleep(span * n / MOMENTS);
        child.kill()?;
        child.wait()?;
    }
    until("the script is removed", || is_empty(folder.path()));
    Ok(())
}

fn the_script_of_a_saturated_pool_goes_too() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().children(1))?;
    let address = php.unix_address();
    let gates = open_folder()?;
    let gate = gates.path().join("gate");
    let code = format!("touch('{}'); sleep(600);", gate.display());
    let mut busy = fcgi().args(["php", &address, &code]).spawn()?;
    until("the worker is busy", || gate.exists());
    let folder = open_folder()?;
    let dir = folder.path().display().to_string();
    let (code, _, err) = ended(&run(&[&address, "echo 1;", "--timeout", "0.3", "--dir", &dir]));
    assert_eq!(code, 6, "{err}");
    assert!(is_empty(folder.path()));
    busy.kill()?;
    busy.wait()?;
    Ok(())
}

fn opcache() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().ini("zend_extension=opcache"))?;
    let address = php.unix_address();
    let (code, out, err) = ended(&run(&[&address, "--opcache", "status"]));
    assert_eq!((code, err.as_str()), (0, ""));
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some(format!("opcache of {address}: on").as_str()));
    let names: Vec<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["memory", "scripts", "hits", "restarts"]);
    let (code, out, _) = ended(&run(&[&address, "--opcache", "status", "--nagios"]));
    assert_eq!((code, out.lines().count()), (0, 1), "{out}");
    assert!(out.starts_with("PHP OK - opcache of ") && out.contains("; hits "), "{out}");
    let (code, out, _) = ended(&run(&[&address, "--opcache", "reset"]));
    assert_eq!((code, out), (0, format!("opcache of {address} was reset\n")));
    // It happens at a later request.
    until("it was reset", || {
        let (_, out, _) = ended(&run(&[&address, "--opcache", "status", "--json"]));
        let object: Value = serde_json::from_str(&out).expect("an object");
        assert_eq!(object["enabled"], true, "{out}");
        object["manual_restarts"] == 1
    });
    // Off, and not there at all.
    let options = PhpFpmOptions::default().ini("zend_extension=opcache");
    let off = PhpFpm::start(options.ini("opcache.enable=0"))?;
    for args in [["--opcache", "status"], ["--opcache", "reset"]] {
        let (code, _, err) = ended(&run(&[&[&*off.unix_address()][..], &args].concat()));
        assert_eq!(code, 7, "{err}");
        assert!(err.contains("opcache is off"), "{err}");
    }
    let without = PhpFpm::start(PhpFpmOptions::default())?;
    let (code, _, err) = ended(&run(&[&without.unix_address(), "--opcache", "status"]));
    assert_eq!(code, 7);
    assert!(err.contains("PHP has no opcache there"), "{err}");
    Ok(())
}

fn open_basedir() -> Result {
    let folder = open_folder()?;
    let allowed = format!("php_admin_value[open_basedir] = {}", folder.path().display());
    let php = PhpFpm::start(PhpFpmOptions::default().extra(allowed))?;
    let (code, out, err) = ended(&run(&[&php.unix_address(), "echo 'ran';"]));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "ran", ""));
    assert!(is_empty(folder.path()));
    // The same without its configuration: the folder is given.
    let (code, _, err) = ended(&run(&[&php.unix_address(), "echo 'ran';", "--dir", "/tmp"]));
    assert_eq!(code, 2);
    assert!(err.contains("its worker finds no script here (/tmp: "), "{err}");
    assert!(err.contains("open_basedir"), "{err}");
    let nowhere = PhpFpmOptions::default().extra("php_admin_value[open_basedir] = /nonexistent");
    let php = PhpFpm::start(nowhere)?;
    let (code, _, err) = ended(&run(&[&php.unix_address(), "echo 'ran';"]));
    assert_eq!(code, 2);
    assert!(err.contains("none is here"), "{err}");
    Ok(())
}

fn a_folder_that_the_worker_can_not_enter() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let closed = tempfile::tempdir()?;
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700))?;
    let dir = closed.path().display().to_string();
    let (code, out, err) = ended(&run(&[&php.unix_address(), "echo 'ran';", "--dir", &dir]));
    if geteuid().is_root() {
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("its worker finds no script here"), "{err}");
    } else {
        // The worker is this user.
        assert_eq!((code, out.as_str()), (0, "ran"), "{err}");
    }
    assert!(is_empty(closed.path()));
    // A TMPDIR like that is not the last folder to try.
    let output = fcgi()
        .args(["php", &php.unix_address(), "echo 'ran';"])
        .env("TMPDIR", closed.path())
        .output()?;
    assert_eq!(ended(&output), (0, "ran".to_owned(), String::new()));
    Ok(())
}

fn usage() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let address = php.unix_address();
    for args in [
        &[&*address, "echo 1;", "--opcache", "status"][..],
        &["not an address", "echo 1;"],
        &[&address, "echo 1;", "--user", "nobody-of-that-name"],
        &[&address, "echo 1;", "--app-dir", "/srv"],
    ] {
        let (code, out, err) = ended(&run(args));
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
    }
    let (code, out, err) = ended(&run(&[&address]));
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains(&format!("expected CODE, -f FILE or --opcache after {address}")), "{err}");
    let (code, _, err) = ended(&run(&["unix:/nonexistent/socket", "echo 1;", "--user", "0"]));
    assert_eq!(code, 5, "{err}");
    Ok(())
}

fn below_a_chroot() -> Result {
    let jail = open_folder()?;
    let php = PhpFpm::start(
        PhpFpmOptions::default().extra(format!("chroot = {}", jail.path().display())),
    )?;
    let (code, out, err) =
        ended(&run(&[&php.unix_address(), "echo dirname($_SERVER['SCRIPT_FILENAME']);"]));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "/", ""));
    fs::create_dir(jail.path().join("in"))?;
    fs::set_permissions(jail.path().join("in"), fs::Permissions::from_mode(0o755))?;
    let dir = jail.path().join("in").display().to_string();
    let code = "echo dirname($_SERVER['SCRIPT_FILENAME']);";
    for args in [&["--dir", &*dir][..], &["--dir", &dir, "--app-dir", "/in"]] {
        let (code, out, err) = ended(&run(&[&[&*php.unix_address(), code], args].concat()));
        assert_eq!((code, out.as_str()), (0, "/in"), "{err}");
    }
    Ok(())
}

/// It gives its script to the worker with an access list.
fn an_ordinary_users_script() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let folder = open_folder()?;
    // The program may be in a folder that others can't enter.
    let path: PathBuf = folder.path().join("fcgi");
    program::copy(fcgi().get_program(), &path)?;
    let scripts = open_folder()?;
    let mut command = Command::new(&path);
    command.args(["php", &php.unix_address(), "echo fileperms($_SERVER['SCRIPT_FILENAME']) & 07;"]);
    command.arg("--dir").arg(scripts.path()).env_clear();
    let output = command.uid(65534).gid(65534).output()?;
    assert_eq!(ended(&output), (0, "0".to_owned(), String::new()));
    assert!(is_empty(scripts.path()));
    Ok(())
}

/// A user of the machine who has nothing to do with the pool.
const OTHER: u32 = 5;

/// A process with the title of one of php-fpm's, until it is dropped.
struct Titled(Child);

impl Titled {
    fn start(title: &str) -> Result<Self> {
        let mut command = Command::new("cat");
        command.arg0(title).uid(OTHER).gid(OTHER).stdin(Stdio::piped());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Titled {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const IS_OWN: &str = "$own = tempnam('/tmp', 'fcgi-php'); \
                      echo fileowner($own) - fileowner($_SERVER['SCRIPT_FILENAME']); unlink($own);";

/// A php-fpm with a pool of a name of its own that has no worker yet: the name and its address.
fn idle_pool(folder: &Path) -> Result<(PhpFpm, String, String)> {
    let name = format!("idle-{}", folder.file_name().unwrap_or_default().to_string_lossy());
    let listen = folder.join("socket").display().to_string();
    let options = PhpFpmOptions::default().extra(format!(
        "pm = static\npm.max_children = 1\n[{name}]\n@USER@\nlisten = {listen}\npm = ondemand\n\
         pm.max_children = 1"
    ));
    Ok((PhpFpm::start(options)?, name, format!("unix:{listen}")))
}

/// A process that only has a worker's title does not get the script.
fn a_title_makes_no_worker() -> Result {
    let folder = open_folder()?;
    let (_php, name, address) = idle_pool(folder.path())?;
    let _titled = Titled::start(&format!("php-fpm: pool {name}"))?;
    assert_eq!(ended(&run(&[&address, IS_OWN])), (0, "0".to_owned(), String::new()));
    Ok(())
}

/// Nor does one that names its own configuration.
fn a_title_makes_no_master() -> Result {
    // Its name is before that of the real one.
    let folder = tempfile::Builder::new().prefix("+").tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777))?;
    let (_php, name, address) = idle_pool(folder.path())?;
    let listen = address.strip_prefix("unix:").ok_or("a path")?;
    let file = folder.path().join("php-fpm.conf");
    fs::write(&file, format!("[{name}]\nuser = {OTHER}\nlisten = {listen}\n"))?;
    std::os::unix::fs::chown(&file, Some(OTHER), Some(OTHER))?;
    let _titled = Titled::start(&format!("php-fpm: master process ({})", file.display()))?;
    assert_eq!(ended(&run(&[&address, IS_OWN])), (0, "0".to_owned(), String::new()));
    Ok(())
}

fn wait(mut child: Child) -> Option<i32> {
    let mut status = None;
    until("it ends", || {
        status = child.try_wait().expect("it can be waited for");
        status.is_some()
    });
    status.and_then(|status| status.code())
}

fn signal(child: &Child, signal: Signal) -> Result {
    let id = Pid::from_raw(i32::try_from(child.id())?).ok_or("an id")?;
    Ok(kill_process(id, signal)?)
}

/// Whether it has caught the signals that it waits for.
fn catches(child: &Child, signal: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

fn a_time_limit_holds_while_stdin_is_silent() -> Result {
    let mut command = fcgi();
    command.args(["php", "unix:/nonexistent/socket", "-f", "-", "--user", "0", "--timeout", "0.3"]);
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let _stdin = child.stdin.take();
    assert_eq!(wait(child), Some(6));
    Ok(())
}

fn a_signal_ends_it_while_stdin_is_silent() -> Result {
    // Which of two things is looked at first must not matter.
    for _ in 0..8 {
        let mut command = fcgi();
        command.args(["php", "unix:/nonexistent/socket", "-f", "-", "--user", "0"]);
        command.args(["--timeout", "1000"]).stderr(Stdio::null());
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let _stdin = child.stdin.take();
        let until_read = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", child.id()));
            tasks.into_iter().flatten().flatten().any(|task| {
                let at = fs::read_to_string(task.path().join("syscall")).unwrap_or_default();
                at.starts_with("0 0x0 ") || at.starts_with("63 0x0 ")
            })
        };
        until("it reads", until_read);
        signal(&child, Signal::TERM)?;
        assert_eq!(wait(child), Some(143));
    }
    Ok(())
}

fn it_ends_while_nobody_reads_its_output() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let address = php.unix_address();
    let endless = "while (true) { echo str_repeat('x', 65536); flush(); }";
    let start = |timeout: &str| {
        let mut command = fcgi();
        command.args(["php", &address, endless, "--timeout", timeout]);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    };
    assert_eq!(wait(start("1")?), Some(6));
    let child = start("1000")?;
    until("it catches signals", || catches(&child, 15));
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal(&child, Signal::TERM)?;
    assert_eq!(wait(child), Some(143));
    // Cut output for programs is a failure.
    for (form, status) in [("--json", 6), ("--nagios", 2)] {
        let (stdout, _unread) = full();
        let mut command = fcgi();
        command.args(["php", &address, "echo 1;", "--timeout", "1", form]);
        command.stdout(stdout).stderr(Stdio::null());
        assert_eq!(wait(command.spawn()?), Some(status), "{form}");
    }
    // The same of stderr.
    let noisy = "flush(); while (true) { error_log(str_repeat('noise ', 100)); }";
    let start = |timeout: &str| {
        let mut command = fcgi();
        command.args(["php", &address, noisy, "--timeout", timeout]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    };
    assert_eq!(wait(start("1")?), Some(6));
    let child = start("1000")?;
    until("it catches signals", || catches(&child, 15));
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal(&child, Signal::TERM)?;
    assert_eq!(wait(child), Some(143));
    Ok(())
}

/// A pool that does not exist has no known worker.
fn a_pool_that_is_not_there() -> Result {
    for (address, cause) in
        [("unix:/nonexistent/php.sock", "no-socket"), ("127.0.0.1:1", "nobody-listens")]
    {
        let output = run(&[address, "echo 1;", "--json"]);
        let (code, out, _) = ended(&output);
        let object: Value = serde_json::from_str(&out)?;
        assert_eq!((code, &object["cause"]), (5, &cause.into()), "{out}");
        assert!(object["time_ms"].is_number(), "{out}");
    }
    Ok(())
}

/// docs/cli.md's sample.
fn sample() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().ini("zend_extension=opcache"))?;
    let address = php.unix_address();
    let mut seen = String::new();
    for (shown, args) in [
        (
            "unix:/run/php/php.sock 'echo ini_get(\"memory_limit\"), \"\\n\";'",
            &["echo ini_get(\"memory_limit\"), \"\\n\";"][..],
        ),
        ("--opcache status", &["--opcache", "status"]),
        ("--opcache reset", &["--opcache", "reset"]),
    ] {
        let (code, out, err) = ended(&run(&[&[&*address], args].concat()));
        assert_eq!((code, &*err), (0, ""));
        seen.push_str(&format!("$ fcgi php {shown}\n{out}"));
    }
    compare_shape("php", &seen, &[(&address, "unix:/run/php/php.sock")]);
    Ok(())
}

fn code_goes_before_variables() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    for (name, value) in [("FCGI_PHP_FILE", "/nonexistent"), ("FCGI_PHP_OPCACHE", "status")] {
        let output =
            fcgi().args(["php", &php.unix_address(), "echo 1;"]).env(name, value).output()?;
        assert_eq!(ended(&output), (0, "1".to_owned(), String::new()), "{name}");
        let mut command = fcgi();
        command.args(["php", "echo 1;"]).env(name, value).env("FCGI_ADDR", php.unix_address());
        assert_eq!(ended(&command.output()?), (0, "1".to_owned(), String::new()), "{name}");
    }
    Ok(())
}
