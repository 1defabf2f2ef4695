//! The peers start, answer and stop; the HTTP client reads what nginx sends.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use fcgi_testkit::harness::{self, Case, Failed};
use fcgi_testkit::http::{HttpConnection, pattern};
use fcgi_testkit::peers::{Nginx, NginxOptions, Peer, PhpFpm, PhpFpmOptions, cgi_fcgi};

type Outcome = Result<(), Failed>;

fn main() -> ExitCode {
    let both = &[Peer::Nginx, Peer::PhpFpm];
    harness::run([
        Case::new("php_fpm_pings", php_fpm_pings).needs(&[Peer::PhpFpm]),
        Case::new("php_fpm_pings_cgi_fcgi", php_fpm_pings_cgi_fcgi)
            .needs(&[Peer::PhpFpm, Peer::CgiFcgi]),
        Case::new("php_fpm_stops_while_a_script_sleeps", php_fpm_stops).needs(&[Peer::PhpFpm]),
        Case::new("php_fpm_scripts", php_fpm_scripts).needs(&[Peer::PhpFpm]),
        Case::new("nginx_answers_by_itself", nginx_static).needs(&[Peer::Nginx]),
        Case::new("nginx_stops", nginx_stops).needs(&[Peer::Nginx]),
        Case::new("nginx_refuses_options", nginx_options).needs(&[Peer::Nginx]),
        Case::new("nginx_without_application", nginx_bad_gateway).needs(&[Peer::Nginx]),
        Case::new("nginx_passes_to_php_fpm", nginx_to_php).needs(both),
        Case::new("nginx_client_leaves_half_way", nginx_leaves).needs(both),
    ])
}

fn require(condition: bool, what: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(what().into()) }
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let mut bytes = vec![1, kind, 0, 1, high, low, 0, 0];
    bytes.extend_from_slice(content);
    bytes
}

/// A Responder's request with short parameters and an empty STDIN.
fn request(params: &[(&str, &str)]) -> Vec<u8> {
    let mut pairs = Vec::new();
    for (name, value) in params {
        pairs.extend([name.len() as u8, value.len() as u8]);
        pairs.extend_from_slice(name.as_bytes());
        pairs.extend_from_slice(value.as_bytes());
    }
    let mut bytes = record(1, &[0, 1, 0, 0, 0, 0, 0, 0]);
    bytes.extend(record(4, &pairs));
    bytes.extend(record(4, &[]));
    bytes.extend(record(5, &[]));
    bytes
}

/// What came on STDOUT (6) and on STDERR (7), and END_REQUEST's app status.
fn answer(mut stream: impl Read) -> Result<(String, String, u32), Failed> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header)?;
        let [_, kind, _, _, high, low, padding, _] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let mut content = vec![0; length + usize::from(padding)];
        stream.read_exact(&mut content)?;
        content.truncate(length);
        match (kind, content.as_slice()) {
            (6, _) => stdout.extend(content),
            (7, _) => stderr.extend(content),
            (3, &[a, b, c, d, ..]) => {
                return Ok((
                    String::from_utf8_lossy(&stdout).into_owned(),
                    String::from_utf8_lossy(&stderr).into_owned(),
                    u32::from_be_bytes([a, b, c, d]),
                ));
            }
            _ => return Err(format!("unexpected record {header:?}").into()),
        }
    }
}

fn unix(php: &PhpFpm) -> Result<UnixStream, Failed> {
    let address = php.unix_address();
    let path = address.strip_prefix("unix:").unwrap_or(&address);
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

fn call(php: &PhpFpm, script: &str, query: &str) -> Result<(String, String, u32), Failed> {
    let mut stream = unix(php)?;
    stream.write_all(&request(&[
        ("SCRIPT_FILENAME", &php.script(script).to_string_lossy()),
        ("SCRIPT_NAME", script),
        ("REQUEST_METHOD", "GET"),
        ("QUERY_STRING", query),
    ]))?;
    answer(stream)
}

fn php_fpm_pings() -> Outcome {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let ping = request(&[
        ("SCRIPT_NAME", "/ping"),
        ("SCRIPT_FILENAME", "/ping"),
        ("REQUEST_METHOD", "GET"),
    ]);
    let mut stream = unix(&php)?;
    stream.write_all(&ping)?;
    let (stdout, ..) = answer(stream)?;
    require(stdout.ends_with("\r\n\r\npong"), || format!("unix: {stdout}; {}", php.log()))?;

    let address = php.tcp_address();
    let mut stream = TcpStream::connect(address.strip_prefix("tcp:").unwrap_or(&address))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(&ping)?;
    let (stdout, ..) = answer(stream)?;
    require(stdout.ends_with("\r\n\r\npong"), || format!("tcp: {stdout}; {}", php.log()))
}

fn php_fpm_pings_cgi_fcgi() -> Outcome {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let address = php.unix_address();
    let output = Command::new(cgi_fcgi()?)
        .args(["-bind", "-connect", address.trim_start_matches("unix:")])
        .env_clear()
        .envs([("SCRIPT_NAME", "/ping"), ("SCRIPT_FILENAME", "/ping"), ("REQUEST_METHOD", "GET")])
        .stdin(Stdio::null())
        .output()?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    require(stdout.ends_with("\r\n\r\npong"), || format!("{output:?}; {}", php.log()))
}

fn php_fpm_stops() -> Outcome {
    let php = PhpFpm::start(PhpFpmOptions::default().children(2))?;
    let (id, root) = (php.id(), php.document_root());
    let mut stream = unix(&php)?;
    stream.write_all(&request(&[
        ("SCRIPT_FILENAME", &php.script("sleep.php").to_string_lossy()),
        ("REQUEST_METHOD", "GET"),
        ("QUERY_STRING", "s=60"),
    ]))?;
    drop(php);
    require(!Path::new(&format!("/proc/{id}")).exists(), || format!("process {id} still runs"))?;
    require(!root.exists(), || format!("{} was left", root.display()))?;
    // Its workers are gone with it, or the connection would stay open.
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err("a worker still runs".into())
        }
        _ => Ok(()),
    }
}

fn php_fpm_scripts() -> Outcome {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let (stdout, ..) = call(&php, "hello.php", "")?;
    require(stdout.ends_with("\r\n\r\nHello, world\n"), || stdout)?;
    let (stdout, ..) = call(&php, "big.php", "n=100000")?;
    let body = stdout.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
    require(body == 100_000, || format!("big.php gave {body} bytes"))?;
    let (stdout, stderr, _) = call(&php, "err.php", "")?;
    require(stdout.contains("Status: 418") && stdout.ends_with("teapot\n"), || stdout)?;
    require(stderr.contains("logged to STDERR"), || stderr)?;
    let (stdout, _, status) = call(&php, "exit.php", "c=7")?;
    // php-fpm keeps a script's exit status to itself.
    require(stdout.ends_with("exiting\n") && status == 0, || format!("{stdout}, {status}"))?;
    let (stdout, ..) = call(&php, "sleep.php", "s=0")?;
    require(stdout.ends_with("awake\n"), || stdout)?;
    let (stdout, ..) = call(&php, "slow.php", "")?;
    require(stdout.ends_with("tick 4\n"), || stdout)
}

/// nginx with no application behind it.
fn lone_nginx() -> Result<Nginx, Failed> {
    Ok(Nginx::start(NginxOptions::new("tcp:127.0.0.1:1"))?)
}

fn connect(nginx: &Nginx) -> Result<HttpConnection, Failed> {
    Ok(HttpConnection::connect(("127.0.0.1", nginx.port()))?)
}

fn nginx_static() -> Outcome {
    let nginx = lone_nginx()?;
    let mut http = connect(&nginx)?;
    for _ in 0..3 {
        let reply = http.get("/static")?;
        require(reply.head.status == 200, || format!("{reply:?}"))?;
        require(reply.head.field("content-type") == Some("text/plain"), || format!("{reply:?}"))?;
        require(reply.body == b"Hello, world\n", || format!("{reply:?}"))?;
    }
    Ok(())
}

fn nginx_stops() -> Outcome {
    let nginx = lone_nginx()?;
    let (id, port) = (nginx.id(), nginx.port());
    require(nginx.url() == format!("http://127.0.0.1:{port}"), || nginx.url())?;
    drop(nginx);
    require(!Path::new(&format!("/proc/{id}")).exists(), || format!("process {id} still runs"))?;
    require(HttpConnection::connect(("127.0.0.1", port)).is_err(), || {
        format!("port {port} still accepts")
    })
}

fn nginx_options() -> Outcome {
    let bad_address = Nginx::start(NginxOptions::new("/run/app.sock"));
    let error = bad_address.map(drop).map_or_else(|e| e.to_string(), |()| "started".into());
    require(error.contains("unix:PATH or tcp:HOST:PORT"), || error)?;
    let bad_line = Nginx::start(NginxOptions::new("tcp:127.0.0.1:1").extra("no_such_thing on;"));
    let error = bad_line.map(drop).map_or_else(|e| e.to_string(), |()| "started".into());
    require(error.contains("unknown directive \"no_such_thing\""), || error)
}

fn nginx_bad_gateway() -> Outcome {
    let nginx = lone_nginx()?;
    let reply = connect(&nginx)?.get("/plain/hello")?;
    require(reply.head.status == 502, || format!("{reply:?}"))?;
    require(nginx.log().contains("Connection refused"), || nginx.log())
}

fn nginx_to_php() -> Outcome {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    for upstream in [php.unix_address(), php.tcp_address()] {
        for buffering in [true, false] {
            let nginx = Nginx::start(
                NginxOptions::new(&upstream)
                    .keep_alive(1)
                    .request_buffering(buffering)
                    .document_root(php.document_root()),
            )?;
            let mut http = connect(&nginx)?;
            for prefix in ["/kept", "/plain", "/unbuffered"] {
                through(&mut http, prefix).map_err(|failed| {
                    let reason = failed.message().unwrap_or("failed").to_owned();
                    format!("{upstream} {prefix} {buffering}: {reason}; {}", nginx.log())
                })?;
            }
        }
    }
    Ok(())
}

fn through(http: &mut HttpConnection, prefix: &str) -> Outcome {
    let reply = http.get(&format!("{prefix}/hello.php"))?;
    require(reply.body == b"Hello, world\n", || format!("{reply:?}"))?;
    let reply = http.get(&format!("{prefix}/big.php?n=3000000"))?;
    require(reply.body.len() == 3_000_000, || format!("{:?}", reply.head))?;
    let reply = http.post(&format!("{prefix}/echo.php"), 2_000_000)?;
    require(reply.body.len() == 2_000_000, || format!("{:?}", reply.head))?;
    let same = (0..).zip(&reply.body).all(|(at, byte)| pattern(at) == *byte);
    require(same, || "the echo differs from what was sent".into())?;
    let reply = http.get(&format!("{prefix}/err.php"))?;
    require(reply.head.status == 418, || format!("{reply:?}"))
}

fn nginx_leaves() -> Outcome {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let root = php.document_root();
    require(fs::read_dir(&root)?.count() == 10, || format!("{}", root.display()))?;
    let nginx = Nginx::start(NginxOptions::new(php.unix_address()).document_root(root))?;
    let mut http = connect(&nginx)?;
    http.send_head("GET", "/unbuffered/big.php?n=50000000", &[])?;
    require(http.read_head()?.status == 200, || nginx.log())?;
    require(http.read_body(&mut [0; 1000])? > 0, || nginx.log())?;
    drop(http);
    let reply = connect(&nginx)?.get("/kept/hello.php")?;
    require(reply.body == b"Hello, world\n", || format!("{reply:?}"))
}
