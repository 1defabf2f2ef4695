//! `fcgi status` against php-fpm.

mod common;

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::unix::net::{UnixListener, UnixStream},
    process::{Command, ExitCode, Output, Stdio},
};

use fcgi_testkit::{
    harness::{self, Case, Failed},
    http::HttpConnection,
    peers::{Peer, PhpFpm, PhpFpmOptions},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use common::{Pty, fcgi, gateway::until, pages::compare_shape};

type Result<T = ()> = std::result::Result<T, Failed>;
type Run = fn() -> Result;

fn main() -> ExitCode {
    let cases: [(&str, Run); 16] = [
        ("a_table_of_pools", a_table_of_pools),
        ("a_table_of_workers", a_table_of_workers),
        ("the_kernels_queue_beside_php_fpms", the_kernels_queue_beside_php_fpms),
        ("the_queue_of_a_pool_that_does_not_answer", the_queue_of_a_pool_that_does_not_answer),
        ("thresholds", thresholds),
        ("a_rise", a_rise),
        ("a_status_path_that_is_not_set", a_status_path_that_is_not_set),
        ("values", values),
        ("values_of_several", values_of_several),
        ("no_values", no_values),
        ("metrics", metrics),
        ("a_dead_pool_delays_no_other", a_dead_pool_delays_no_other),
        ("a_folder_of_sockets", a_folder_of_sockets),
        ("watching", watching),
        ("one_object_a_pool", one_object_a_pool),
        ("a_result_that_can_not_be_written", a_result_that_can_not_be_written),
    ];
    let cases = cases.map(|(name, run)| Case::new(name, run).needs(&[Peer::PhpFpm]));
    let elsewhere = Case::new("another_network_namespace", another_network_namespace)
        .needs(&[Peer::PhpFpm])
        .missing(no_namespaces());
    harness::run(cases.into_iter().chain([elsewhere]))
}

/// For each command that reports what it found.
fn a_result_that_can_not_be_written() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let address = php.unix_address();
    let at = address.as_str();
    for args in [
        &["status", at][..],
        &["status", at, "--json"],
        &["status", at, "--nagios"],
        &["status", at, "--watch"],
        &["status", at, "--prometheus"],
        &["status", at, "--values"],
        &["status", at, "--values", "--json"],
        &["ls"],
        &["ls", "--json"],
        &["ping", at],
        &["doctor", at],
        &[
            "bench",
            at,
            "-n",
            "1",
            "--param",
            "SCRIPT_FILENAME=/ping",
            "--param",
            "SCRIPT_NAME=/ping",
        ],
        &["check", "--list"],
    ] {
        let output = fcgi().args(args).stdout(File::create("/dev/full")?).output()?;
        let status = if args.contains(&"--nagios") { 2 } else { 5 };
        assert_eq!(code(&output), status, "{args:?}: {}", err(&output));
        assert!(err(&output).contains("write to stdout: No space left"), "{args:?}");
    }
    Ok(())
}

fn run(args: &[&str]) -> Output {
    fcgi().arg("status").args(args).output().expect("fcgi runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

/// Figures as `N`, addresses as their kind, and columns apart by one space.
fn masked(text: &str, php: &PhpFpm) -> String {
    let text = text.replace(&php.unix_address(), "UNIX").replace(&php.tcp_address(), "TCP");
    let line = |line: &str| {
        let words: Vec<String> = line
            .split_whitespace()
            .map(|word| {
                let mut masked = String::new();
                for c in word.chars() {
                    match c {
                        '0'..='9' if masked.ends_with('N') => {}
                        '0'..='9' => masked.push('N'),
                        c => masked.push(c),
                    }
                }
                masked
            })
            .collect();
        words.join(" ")
    };
    text.lines().map(|it| line(it) + "\n").collect()
}

fn a_table_of_pools() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().children(2))?;
    let output = run(&[&php.unix_address(), &php.tcp_address()]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let expected = "\
POOL ADDRESS MANAGER UP IDLE ACTIVE TOTAL MOST ACTIVE MAX REACHED SLOW ACCEPTED
unix UNIX static Ns N N N N N N N
queue N/N (kernel; php-fpm says N)
tcp TCP static Ns N N N N N N N
queue N/N (kernel; php-fpm says N)
";
    assert_eq!(masked(&out(&output), &php), expected, "{}", out(&output));
    assert_eq!(err(&output), "");
    // docs/cli.md's sample.
    let output = run(&[&php.unix_address()]);
    let sample = format!("$ fcgi status unix:/run/php/php.sock\n{}", out(&output));
    let names = [(&*php.unix_address(), "unix:/run/php/php.sock"), ("\nunix ", "\nwww ")];
    compare_shape("status", &sample, &names);
    // From the environment, as php-fpm-healthcheck's users have it.
    let mut command = fcgi();
    command.args(["status", "--listen-queue=10"]).env("FCGI_CONNECT", php.tcp_address());
    let output = command.env("FCGI_STATUS_PATH", "/status").output()?;
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains(&php.tcp_address()), "{}", out(&output));
    Ok(())
}

fn a_table_of_workers() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().children(1))?;
    let output = run(&[&php.tcp_address(), "--full"]);
    let expected = "
Workers of tcp:
PID STATE UP REQUESTS TOOK CPU MEMORY METHOD URI SCRIPT
N Running Ns N Nus N% N GET /status?json&full -
";
    let text = masked(&out(&output), &php).replace("N.Nms", "Nus");
    assert!(text.ends_with(expected), "{text}");
    Ok(())
}

/// A pool whose only worker sleeps, and so many callers that wait.
struct Saturated {
    php: PhpFpm,
    _busy: Busy,
    _waiting: Vec<UnixStream>,
}

struct Busy(std::process::Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Saturated {
    fn start(waiting: usize) -> Result<Self> {
        let php = PhpFpm::start(PhpFpmOptions::default().children(1).status_listen())?;
        let (address, status) = (php.unix_address(), php.status_address());
        let script = php.script("sleep.php").display().to_string();
        let mut command = fcgi();
        command.args(["call", &address, "--param", "QUERY_STRING=s=600"]);
        command.args(["--param", "REQUEST_METHOD=GET", "--timeout", "0"]);
        command.arg("--param").arg(format!("SCRIPT_FILENAME={script}"));
        let busy = Busy(command.stdout(Stdio::null()).spawn()?);
        until("the worker is busy", || {
            let output = run(&[&address, "--status-addr", &status, "--full"]);
            let text = out(&output);
            text.contains("sleep.php") && text.contains("queue 0/")
        });
        let path = address.trim_start_matches("unix:");
        let waiting = (0..waiting).map(|_| UnixStream::connect(path));
        let waiting = waiting.collect::<std::io::Result<_>>()?;
        Ok(Self { php, _busy: busy, _waiting: waiting })
    }

    /// Asks for the status where it is answered all the same.
    fn ask(&self, args: &[&str]) -> Output {
        let (address, status) = (self.php.unix_address(), self.php.status_address());
        run(&[&[&*address, "--status-addr", &*status], args].concat())
    }
}

///
fn the_kernels_queue_beside_php_fpms() -> Result {
    let pool = Saturated::start(3)?;
    let output = pool.ask(&[]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn")?;
    let queue = format!("queue 3/{} (kernel; php-fpm says 0)", limit.trim());
    let text = out(&output);
    let tail = text.split_once("queue ").map_or("", |(_, tail)| tail);
    // php-fpm's backlog is 511, or as much as may be, as its version has it.
    assert!(
        text.contains(&queue) || tail.starts_with("3/511 (kernel; php-fpm says 0)"),
        "{queue} in {text}"
    );
    Ok(())
}

fn the_queue_of_a_pool_that_does_not_answer() -> Result {
    let pool = Saturated::start(2)?;
    let address = pool.php.unix_address();
    let output = run(&[&address, "--timeout", "0.2"]);
    assert_eq!(code(&output), 6, "{}", err(&output));
    assert!(out(&output).contains("\n  queue 2/"), "{}", out(&output));
    assert!(out(&output).contains(" (kernel)\n"), "{}", out(&output));
    assert!(err(&output).starts_with(&format!("fcgi status: {address}: no ")), "{}", err(&output));
    let output = run(&[&address, "--timeout", "0.2", "--docker"]);
    assert_eq!(code(&output), 1);
    let output = run(&[&address, "--timeout", "0.2", "--nagios"]);
    assert_eq!(code(&output), 2);
    assert!(out(&output).starts_with("STATUS CRITICAL - "), "{}", out(&output));
    assert!(out(&output).contains(" | queue="), "{}", out(&output));
    Ok(())
}

fn thresholds() -> Result {
    let pool = Saturated::start(3)?;
    let address = pool.php.unix_address();
    for (args, expected) in [
        (&["--max", "queue=3"][..], 0),
        (&["--max", "queue=2"], 7),
        (&["--max", "queue=0%"], 7),
        (&["--max", "queue=99%"], 0),
        (&["--max", "listen queue=2"], 7),
        (&["--listen-queue", "3"], 0),
        (&["--listen-queue", "2"], 7),
        (&["--min", "idle=1"], 7),
        (&["--min", "idle=0", "--max", "total_processes=1"], 0),
        (&["--max", "active=100%"], 0),
        (&["--max", "active=50%"], 7),
        (&["--active-processes=0"], 7),
        (&["--max", "queue=3", "--max", "active-processes=0"], 7),
        (&["--max", "queue=3,active-processes=0"], 7),
        (&["--max", "queue=3,active-processes=1"], 0),
        (&["--max", "queue=2", "--docker"], 1),
        (&["--max", "queue=2", "--nagios"], 1),
        (&["--max", "cats=2"], 2),
        (&["--max", "slow-requests=5%"], 2),
        (&["--min", "queue"], 2),
        (&["--min", "idle=+0"], 2),
        (&["--max", "queue=++1"], 2),
        (&["--serve", "nowhere"], 2),
        (&["--serve", "127.0.0.1:65536"], 2),
    ] {
        let output = pool.ask(args);
        assert_eq!(code(&output), expected, "{args:?}: {} {}", out(&output), err(&output));
    }
    let output = pool.ask(&["--max", "queue=2", "--min", "idle=1"]);
    let expected = format!(
        "fcgi status: {address}: queue is 3; at most 2 is wanted; idle-processes is 0; at least 1 \
         is wanted\n"
    );
    assert_eq!(err(&output), expected);
    let output = pool.ask(&["--max", "queue=2", "--nagios"]);
    let text = out(&output);
    let start =
        format!("STATUS WARNING - {address}: queue is 3; at most 2 is wanted | queue=3;2;;0;");
    assert!(text.starts_with(&start), "{text}");
    assert_eq!(text.lines().count(), 1);
    let output = pool.ask(&["--max", "queue=2", "--quiet"]);
    assert_eq!((code(&output), out(&output), err(&output)), (7, String::new(), String::new()));
    Ok(())
}

fn a_rise() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let address = php.unix_address();
    // The two looks themselves are requests.
    let output = run(&[&address, "--max", "accepted-conn=+0", "--timeout", "30"]);
    assert_eq!(code(&output), 7, "{}", err(&output));
    assert!(err(&output).contains("accepted-conn rose by "), "{}", err(&output));
    let output = run(&[
        &address,
        "--max",
        "accepted-conn=+1000",
        "--max",
        "slow-requests=+0",
        "--timeout",
        "30",
    ]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    Ok(())
}

fn a_status_path_that_is_not_set() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let address = php.unix_address();
    let output = run(&[&address, "--path", "/nothing"]);
    assert_eq!(code(&output), 7);
    let expected = format!("fcgi status: {address}: /nothing was answered with 404");
    assert!(err(&output).starts_with(&expected), "{}", err(&output));
    assert!(err(&output).contains("pm.status_path"), "{}", err(&output));
    // A page, but another one.
    assert_eq!(code(&run(&[&address, "--path", "/ping"])), 7);
    let output = run(&["unix:/nonexistent/socket"]);
    assert_eq!(code(&output), 5);
    Ok(())
}

/// All pools are asked, and options without an effect are refused.
fn values_of_several() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let both = [&*php.unix_address(), "unix:/nonexistent/socket", "--values"];
    let output = run(&[&both[..], &["--json"]].concat());
    let lines: Vec<Value> =
        out(&output).lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    assert_eq!(code(&output), 5);
    assert_eq!((&lines[0]["exit_status"], &lines[1]["exit_status"]), (&0.into(), &5.into()));
    assert!(lines.iter().all(|line| line["v"] == 1 && line["time_ms"].is_number()), "{lines:?}");
    let output = run(&[&both[..], &["--nagios"]].concat());
    assert_eq!((code(&output), out(&output).lines().count()), (2, 1), "{}", out(&output));
    assert!(out(&output).starts_with("STATUS CRITICAL - "), "{}", out(&output));
    for more in ["--values", "--prometheus", "--serve=127.0.0.1:0"] {
        for threshold in ["--max=queue=3", "--min=idle=1", "--listen-queue=3"] {
            let output = run(&[&php.unix_address(), more, threshold]);
            assert_eq!(code(&output), 2, "{more} {threshold}");
        }
    }
    Ok(())
}

/// An application that takes connections, and knows no GET_VALUES.
fn no_values() -> Result {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path)?;
    let accepting = listener.try_clone()?;
    let taken = std::thread::spawn(move || accepting.accept());
    let output = run(&[&path.display().to_string(), "--values", "--timeout", "1"]);
    assert_eq!(code(&output), 6);
    assert!(err(&output).contains("does not answer GET_VALUES"), "{}", err(&output));
    taken.join().map_err(|_| "the thread")??;
    Ok(())
}

fn values() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let output = run(&[&php.unix_address(), "--values"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("FCGI_MPXS_CONNS=0"), "{}", out(&output));
    let output = run(&[&php.unix_address(), "--values", "--json"]);
    let object: Value = serde_json::from_str(&out(&output)).map_err(|it| it.to_string())?;
    assert_eq!((&object["FCGI_MPXS_CONNS"], &object["FCGI_MAX_CONNS"]), (&0.into(), &Value::Null));
    let output = run(&["unix:/nonexistent/socket", "--values"]);
    assert_eq!(code(&output), 5);
    Ok(())
}

/// The names and labels that php-fpm-exporter's dashboards have.
fn metrics() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().children(1))?;
    let output = run(&[&php.unix_address(), &php.tcp_address(), "--prometheus"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let text = out(&output);
    let unix = php.unix_address().replace("unix:", "unix://") + ";/status";
    let tcp = php.tcp_address().replace("tcp:", "tcp://") + "/status";
    let pools = [("unix", unix), ("tcp", tcp)];
    let names = [
        "up",
        "scrape_failures",
        "start_since",
        "accepted_connections",
        "listen_queue",
        "max_listen_queue",
        "listen_queue_length",
        "idle_processes",
        "active_processes",
        "total_processes",
        "max_active_processes",
        "max_children_reached",
        "slow_requests",
        "kernel_listen_queue",
        "kernel_listen_queue_length",
    ];
    let of_workers = [
        "process_requests",
        "process_last_request_memory",
        "process_last_request_cpu",
        "process_request_duration",
    ];
    for (pool, uri) in &pools {
        for name in names {
            let start = format!("phpfpm_{name}{{pool=\"{pool}\",scrape_uri=\"{uri}\"}} ");
            assert!(text.lines().any(|line| line.starts_with(&start)), "{start} in {text}");
        }
        for name in of_workers {
            let start =
                format!("phpfpm_{name}{{pool=\"{pool}\",child=\"0\",scrape_uri=\"{uri}\"}} ");
            assert!(text.lines().any(|line| line.starts_with(&start)), "{start} in {text}");
        }
        for (state, is) in [("Running", 1), ("Idle", 0), ("Finishing", 0), ("Reading headers", 0)] {
            let line = format!(
                "phpfpm_process_state{{pool=\"{pool}\",child=\"0\",state=\"{state}\",\
                 scrape_uri=\"{uri}\"}} {is}\n"
            );
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(text.contains(&format!("phpfpm_up{{pool=\"{pool}\",scrape_uri=\"{uri}\"}} 1\n")));
    }
    // Each name has one head, before its lines.
    for name in names.iter().chain(&of_workers) {
        let head = format!("# TYPE phpfpm_{name} ");
        assert_eq!(text.matches(&head).count(), 1, "{head} in {text}");
    }
    Ok(())
}

/// A socket that nobody accepts at delays the exporter by its limit, and no other pool's metrics.
fn a_dead_pool_delays_no_other() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("dead");
    let _dead = UnixListener::bind(&path)?;
    let dead = format!("unix:{}", path.display());
    let mut child = fcgi()
        .args(["status", &dead, &php.unix_address(), "--timeout", "4", "--serve", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line)?;
    let mut exporter = Busy(child);
    let port =
        line.trim().strip_prefix("http://127.0.0.1:").and_then(|it| it.strip_suffix("/metrics"));
    let port: u16 = port.and_then(|port| port.parse().ok()).ok_or(line.clone())?;
    for failures in 1..=2 {
        let reply = HttpConnection::connect(("127.0.0.1", port))?.get("/metrics")?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        let uri = format!("unix://{};/status", path.display());
        let has = |line: String| assert!(text.contains(&line), "{line} in {text}");
        has(format!("phpfpm_up{{pool=\"\",scrape_uri=\"{uri}\"}} 0\n"));
        has(format!("phpfpm_scrape_failures{{pool=\"\",scrape_uri=\"{uri}\"}} {failures}\n"));
        // Scrapes that were given up wait there still.
        has(format!(
            "phpfpm_kernel_listen_queue{{pool=\"\",scrape_uri=\"{uri}\"}} {}\n",
            failures - 1
        ));
        has("phpfpm_up{pool=\"unix\",".to_owned());
        let took = |pool: &str| -> f64 {
            let start = format!("phpfpm_scrape_duration_seconds{{pool=\"{pool}\",");
            let line = text.lines().find(|line| line.starts_with(&start)).unwrap_or_default();
            line.rsplit(' ').next().and_then(|it| it.parse().ok()).unwrap_or(f64::NAN)
        };
        assert!(took("unix") < took(""), "{text}");
        assert!(took("") >= 4.0, "{text}");
    }
    let reply = HttpConnection::connect(("127.0.0.1", port))?.get("/other")?;
    assert_eq!(reply.head.status, 404);
    kill_process(Pid::from_child(&exporter.0), Signal::TERM)?;
    assert_eq!(exporter.0.wait()?.code(), Some(0));
    Ok(())
}

fn a_folder_of_sockets() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().status_listen())?;
    let address = php.unix_address();
    let folder = address.trim_start_matches("unix:").trim_end_matches("/php.sock");
    let output = run(&[folder]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains(&address), "{}", out(&output));
    assert!(out(&output).contains(&php.status_address()), "{}", out(&output));
    let empty = tempfile::tempdir()?;
    let output = run(&[&empty.path().display().to_string()]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("no socket is in this folder"), "{}", err(&output));
    Ok(())
}

fn watching() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let mut child = fcgi()
        .args(["status", &php.unix_address(), "--watch", "0.05"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut seen = Vec::new();
    while seen.iter().filter(|line: &&String| line.starts_with("POOL")).count() < 3 {
        seen.push(lines.next().ok_or("it ended")??);
    }
    assert!(seen.last().is_some_and(|line| line.ends_with("PER SECOND")), "{seen:?}");
    assert!(!seen.concat().contains('\x1b'), "{seen:?}");
    // It ends when its reader does.
    drop(lines);
    let mut status = None;
    until("it ends", || {
        status = child.try_wait().expect("it can be waited for");
        status.is_some()
    });
    // A pool may follow instead of a number.
    let output = run(&["--watch", "unix:/nonexistent/socket", "--watch", "never"]);
    assert_eq!(code(&output), 2, "{}", err(&output));
    let mut child = fcgi()
        .args(["status", "--watch", &php.unix_address(), "--json"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    for _ in 0..2 {
        let object: Value = serde_json::from_str(&lines.next().ok_or("it ended")??)
            .map_err(|error| error.to_string())?;
        assert_eq!((&object["pool"], &object["ok"]), (&"unix".into(), &true.into()));
    }
    drop((lines, Busy(child)));
    // On a terminal it begins at the top again.
    let pty = Pty::open();
    let mut command = fcgi();
    command.args(["status", &php.unix_address(), "--watch", "0.05"]).stdout(pty.end());
    let child = Busy(command.spawn()?);
    drop(command);
    pty.read_until("\x1b[H\x1b[JPOOL", 2);
    drop(child);
    Ok(())
}

fn one_object_a_pool() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default().children(2))?;
    until("both workers are counted", || {
        out(&run(&[&php.unix_address(), "--json"])).contains("\"total_processes\":2")
    });
    let output = run(&[&php.unix_address(), "unix:/nonexistent/socket", "--json", "--full"]);
    assert_eq!(code(&output), 5);
    let text = out(&output);
    let objects: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let [good, bad] = &objects[..] else { panic!("{text}") };
    assert_eq!(
        (&good["v"], &good["exit_status"], &good["ok"]),
        (&1.into(), &0.into(), &true.into())
    );
    assert_eq!((&good["pool"], &good["address"]), (&"unix".into(), &php.unix_address().into()));
    assert_eq!((&good["queue"], &good["queue_source"]), (&0.into(), &"kernel".into()));
    assert_eq!((&good["total_processes"], &good["listen_queue"]), (&2.into(), &0.into()));
    assert!(good["start_since_ms"].is_number() && good["time_ms"].is_number(), "{good}");
    assert_eq!(good["processes"].as_array().map(Vec::len), Some(2));
    assert!(good["processes"][0]["request_duration_ms"].is_number(), "{good}");
    assert_eq!((&bad["v"], &bad["exit_status"], &bad["ok"]), (&1.into(), &5.into(), &false.into()));
    assert_eq!(bad["queue"], Value::Null);
    assert_eq!(bad["cause"], "no-socket");
    assert!(bad["message"].as_str().is_some_and(|it| it.contains("No such file")), "{bad}");
    Ok(())
}

/// Why there are no network namespaces, if there are none.
fn no_namespaces() -> Option<String> {
    let made = Command::new("unshare").args(["--net", "true"]).stderr(Stdio::null()).status();
    match made {
        Ok(status) if status.success() => None,
        _ => Some("unshare --net is not permitted".to_owned()),
    }
}

fn another_network_namespace() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let elsewhere = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg("--net").arg(fcgi().get_program()).arg("status").arg(php.unix_address());
        command.args(args).output().expect("it runs")
    };
    let output = elsewhere(&[]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let expected = "queue 0/0 (php-fpm says so, as always on unix sockets; the kernel can't tell: no \
                    such listener in this network namespace)";
    assert!(out(&output).contains(expected), "{}", out(&output));
    // A figure that is not known fails.
    let output = elsewhere(&["--max", "queue=5"]);
    assert_eq!(code(&output), 7);
    assert!(err(&output).contains("queue is not known"), "{}", err(&output));
    Ok(())
}
