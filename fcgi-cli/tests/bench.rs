//! `fcgi bench` against php-fpm, and against an application of ours that multiplexes.

mod common;

use std::{
    io,
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    process::{Child, ExitCode, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use fcgi_testkit::{
    harness::{self, Case, Failed},
    peers::{Peer, PhpFpm, PhpFpmOptions},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use common::{
    Pty, fcgi,
    gateway::{App, until},
    pages::compare_shape,
};

type Result = std::result::Result<(), Failed>;
type Run = fn() -> Result;

fn main() -> ExitCode {
    let with_php: [(&str, Run); 3] = [
        ("a_report_for_people", a_report_for_people),
        ("connections_are_kept_or_not", connections_are_kept_or_not),
        ("php_fpm_does_not_multiplex", php_fpm_does_not_multiplex),
    ];
    let with_ours: [(&str, Run); 8] = [
        ("as_many_requests_as_were_asked_for", as_many_requests_as_were_asked_for),
        ("bodies", bodies),
        ("requests_share_a_connection", requests_share_a_connection),
        (
            "latencies_count_from_when_requests_were_due",
            latencies_count_from_when_requests_were_due,
        ),
        ("a_rate_that_is_not_kept_up_with", a_rate_that_is_not_kept_up_with),
        ("a_line_of_progress", a_line_of_progress),
        ("a_signal_ends_it_with_what_there_is", a_signal_ends_it_with_what_there_is),
        ("failures", failures),
    ];
    let with_php = with_php.map(|(name, run)| Case::new(name, run).needs(&[Peer::PhpFpm]));
    let with_ours = with_ours.map(|(name, run)| Case::new(name, run));
    harness::run(with_php.into_iter().chain(with_ours))
}

fn run(args: &[&str]) -> Output {
    let mut command = fcgi();
    command.arg("bench").args(args).output().expect("fcgi runs")
}

fn start(args: &[&str]) -> Child {
    let mut command = fcgi();
    command.arg("bench").args(args).stdout(Stdio::piped()).spawn().expect("fcgi runs")
}

fn ended(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it ends by itself");
    (code, text(&output.stdout), text(&output.stderr))
}

fn object(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

fn a_report_for_people() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let (code, out, err) = ended(&run(&[&php.unix_address(), "-n", "60", "-c", "2"]));
    assert_eq!((code, err.as_str()), (0, ""));
    let (figures, plot) = out.split_once("\n\n").ok_or("a plot")?;
    let names: Vec<&str> =
        figures.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = [
        "application",
        "load",
        "succeeded",
        "received",
        "failed",
        "latency",
        "50%",
        "75%",
        "90%",
        "95%",
        "99%",
        "99.9%",
        "99.99%",
    ];
    assert_eq!(names, expected, "{out}");
    let root = php.document_root().display().to_string();
    let result =
        object(&run(&[&php.unix_address(), "/big.php?n=7", "--root", &root, "-n", "3", "--json"]));
    assert_eq!((&result["succeeded"], &result["bytes"]), (&3.into(), &21.into()), "{result}");
    let has = |line: &str| assert!(figures.contains(line), "{line:?} in {out}");
    has(&format!("application  {}\n", php.unix_address()));
    has("load         2 connections, each for one request, closed loop\n");
    has("succeeded    60 in ");
    has("received     240B of bodies\n");
    has("failed       0\n");
    // Bars: `<2.3ms  16.45% ####`. All of them together are all requests.
    let mut all = 0.0;
    for bar in plot.lines() {
        let mut words = bar.split_whitespace();
        assert!(words.next().is_some_and(|word| word.starts_with('<')), "{plot}");
        let share = words.next().and_then(|word| word.strip_suffix('%')?.parse::<f64>().ok());
        all += share.ok_or_else(|| plot.to_owned())?;
        assert!(words.next().is_none_or(|bar| bar.chars().all(|c| c == '#')), "{plot}");
    }
    assert!((all - 100.0).abs() < 0.2, "{all} in {plot}");
    assert!(plot.contains(&"#".repeat(50)), "{plot}");
    // docs/cli.md's sample.
    let script = php.script("hello.php").display().to_string();
    let args = [&*php.unix_address(), "--script", &script, "-c", "8", "-t", "1"];
    let (_, out, _) = ended(&run(&args));
    let command = "fcgi bench unix:/run/php/php.sock --script /srv/www/index.php -c 8 -t 10";
    let names = [(&*php.unix_address(), "unix:/run/php/php.sock")];
    compare_shape("bench", &format!("$ {command}\n{out}"), &names);
    // Nagios takes one line.
    let (code, out, _) = ended(&run(&[&php.unix_address(), "-n", "5", "--nagios"]));
    assert_eq!((code, out.lines().count()), (0, 1), "{out}");
    assert!(out.starts_with("BENCH OK - ") && out.contains(" | rate="), "{out}");
    Ok(())
}

/// php-fpm counts requests as connections. So a relay in front of it counts connections.
fn connections_are_kept_or_not() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("socket");
    let count = counted(UnixListener::bind(&path)?, php.unix_address());
    let script = php.script("hello.php").display().to_string();
    let address = format!("unix:{}", path.display());
    let args = [&address, "--script", &script, "-n", "30", "-c", "2", "--json"];
    // The probe's connection is one.
    for (keep, expected) in [(false, 31), (true, 3)] {
        let before = count.load(Ordering::SeqCst);
        let result = object(&run(&[&args[..], if keep { &["--keep"] } else { &[] }].concat()));
        assert_eq!((&result["succeeded"], &result["keep"]), (&30.into(), &keep.into()), "{result}");
        assert_eq!(result["bytes"], 30 * 13);
        assert_eq!(count.load(Ordering::SeqCst) - before, expected, "keep: {keep}");
    }
    Ok(())
}

/// Passes connections on to an application, and counts them.
fn counted(listener: UnixListener, address: String) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    thread::spawn(move || {
        for client in listener.incoming().map_while(io::Result::ok) {
            counter.fetch_add(1, Ordering::SeqCst);
            let path = address.trim_start_matches("unix:");
            let Ok(application) = UnixStream::connect(path) else { return };
            for (from, to) in [(&client, &application), (&application, &client)] {
                let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    count
}

fn php_fpm_does_not_multiplex() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let (code, out, err) = ended(&run(&[&php.unix_address(), "--multiplex", "2", "-n", "4"]));
    assert_eq!((code, out.as_str()), (7, ""));
    assert!(err.contains("it does not multiplex"), "{err}");
    Ok(())
}

fn as_many_requests_as_were_asked_for() -> Result {
    let app = App::start();
    let output = run(&[&app.address, "--path", "/any", "-n", "77", "-c", "3", "--json"]);
    let result = object(&output);
    assert_eq!(output.status.code(), Some(0), "{result}");
    assert_eq!(app.state.asked(), 77);
    assert_eq!((&result["v"], &result["exit_status"]), (&1.into(), &0.into()));
    assert_eq!((&result["succeeded"], &result["failed"]), (&77.into(), &0.into()));
    assert_eq!(result["statuses"], serde_json::json!({"200": 77}));
    assert_eq!((&result["connections"], &result["rate_wanted"]), (&3.into(), &Value::Null));
    let figure = |name: &str| result[name].as_f64().unwrap_or_else(|| panic!("{name}: {result}"));
    let order = ["min", "p50", "p75", "p90", "p95", "p99", "p999", "p9999"];
    let order = order.map(|name| figure(&format!("latency_{name}_ms")));
    // The histogram keeps three digits.
    assert!(order.is_sorted() && order[7] <= figure("latency_max_ms") * 1.001, "{result}");
    assert!(figure("took_ms") > 0.0 && figure("rate") > 0.0, "{result}");
    Ok(())
}

fn bodies() -> Result {
    let app = App::start();
    let args = [&app.address, "--path", "/echo", "-n", "5", "-c", "2", "--json"];
    let result = object(&run(&[&args[..], &["--body", "100K"]].concat()));
    assert_eq!((&result["succeeded"], &result["bytes"]), (&5.into(), &(5 * 102_400).into()));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("body");
    std::fs::write(&file, "a body")?;
    let file = file.display().to_string();
    let result = object(&run(&[&args[..], &["--stdin", &file]].concat()));
    assert_eq!((&result["succeeded"], &result["bytes"]), (&5.into(), &30.into()));
    // A path with its query, as `fcgi call` takes it.
    let result = object(&run(&[&app.address, "/bytes?1000", "-n", "3", "--json"]));
    assert_eq!((&result["succeeded"], &result["bytes"]), (&3.into(), &3000.into()));
    Ok(())
}

/// Four requests are with the application at once, over one connection.
fn requests_share_a_connection() -> Result {
    let app = App::start();
    let args = ["--path", "/hold", "-n", "4", "-c", "1", "--multiplex", "4", "--json"];
    let child = start(&[&[&*app.address], &args[..]].concat());
    until("four are there at once", || app.state.asked() == 4);
    (0..4).for_each(|_| app.state.release());
    let output = child.wait_with_output()?;
    let result = object(&output);
    assert_eq!((output.status.code(), &result["succeeded"]), (Some(0), &4.into()), "{result}");
    Ok(())
}

/// Coordinated omission: the second and third requests wait behind the first, and that shows.
fn latencies_count_from_when_requests_were_due() -> Result {
    let app = App::start();
    let args = ["--path", "/hold", "-n", "3", "-c", "1", "--rate", "100", "--json"];
    let child = start(&[&[&*app.address], &args[..]].concat());
    until("the first is there", || app.state.asked() == 1);
    thread::sleep(Duration::from_millis(500));
    (0..3).for_each(|_| app.state.release());
    let result = object(&child.wait_with_output()?);
    assert_eq!(result["succeeded"], 3, "{result}");
    // They were due 10 and 20 ms after the first.
    assert!(result["latency_min_ms"].as_f64().is_some_and(|least| least >= 450.0), "{result}");
    Ok(())
}

fn a_rate_that_is_not_kept_up_with() -> Result {
    let app = App::start();
    let args = ["--path", "/hold", "-t", "1", "-c", "1", "--rate", "20", "--json"];
    let child = start(&[&[&*app.address], &args[..]].concat());
    until("the first is there", || app.state.asked() == 1);
    thread::sleep(Duration::from_millis(1100));
    (0..20).for_each(|_| app.state.release());
    let output = child.wait_with_output()?;
    let result = object(&output);
    assert_eq!(output.status.code(), Some(7), "{result}");
    assert_eq!((&result["succeeded"], &result["unsent"]), (&1.into(), &19.into()), "{result}");
    Ok(())
}

fn a_line_of_progress() -> Result {
    let app = App::start();
    let pty = Pty::open();
    let mut command = fcgi();
    command.args(["bench", &app.address, "--path", "/any", "-t", "1", "-c", "1"]);
    command.stdout(Stdio::null()).stderr(pty.end());
    let (text, code) = pty.run(command);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(" requests in ") && text.contains(" a second"), "{text:?}");
    // It is gone at the end.
    assert!(text.ends_with("\r\x1b[K"), "{text:?}");
    Ok(())
}

fn a_signal_ends_it_with_what_there_is() -> Result {
    let app = App::start();
    let child = start(&[&app.address, "--path", "/any", "-t", "600", "-c", "1"]);
    until("it runs", || app.state.asked() > 3);
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let (code, out, _) = ended(&child.wait_with_output()?);
    assert_eq!(code, 130, "{out}");
    assert!(out.contains("\nsucceeded "), "{out}");
    // It waits for no request that hangs.
    let asked = app.state.asked();
    let child = start(&[&app.address, "--path", "/hang", "-c", "1", "--timeout", "3600"]);
    until("it hangs", || app.state.asked() > asked);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(ended(&child.wait_with_output()?).0, 143);
    Ok(())
}

fn failures() -> Result {
    let app = App::start();
    let address = &*app.address;
    for (args, expected, said) in [
        (&["unix:/nonexistent/socket"][..], 5, "there is no such socket"),
        (&[address, "--path", "/early", "-n", "9"], 7, "9 failed, 9 of them with: status 403"),
        (&[address, "--path", "/cut", "-n", "3"], 1, "the application ended with status 7"),
        (&[address, "--path", "/overloaded", "-n", "3"], 3, "OVERLOADED"),
        (&[address, "--path", "/hang", "-n", "2", "--timeout", "0.2"], 6, "2 failed, 2 of them"),
        (&[address, "--stdin", "/nonexistent"], 2, "read /nonexistent"),
        (&[address, "-c", "0"], 2, "expected a number"),
        (&[address, "--rate", "0"], 2, "above 0"),
        (&[address, "-t", "0"], 2, "more than 0 seconds"),
        (&[address, "ping"], 2, "starts with a slash"),
    ] {
        let (code, out, err) = ended(&run(args));
        assert_eq!(code, expected, "{args:?}: {out} {err}");
        assert!(err.contains(said), "{args:?}: {err}");
    }
    Ok(())
}
