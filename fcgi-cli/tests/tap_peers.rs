//! `fcgi tap` between real peers, and its recordings in tshark.

mod common;

use std::{
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::{Command, ExitCode},
};

use common::{fcgi, gateway::until, tap::Tap};
use fcgi_testkit::{
    harness::{self, Case, Failed},
    http::HttpConnection,
    peers::{Nginx, NginxOptions, Peer, PhpFpm, PhpFpmOptions},
    wire::{
        self, CLOSE, KEEP, RESPONDER, RawApp, Type, answer, begin, close, padded, pair, record,
        request, stream,
    },
};

type Result = std::result::Result<(), Failed>;
type Test = (&'static str, fn() -> Result, &'static [Peer]);

fn main() -> ExitCode {
    let cases: [Test; 5] = [
        ("nginx_and_php_fpm", nginx_and_php_fpm, &[Peer::Nginx, Peer::PhpFpm]),
        ("php_fpm_over_tcp", php_fpm_over_tcp, &[Peer::PhpFpm, Peer::Tshark]),
        ("tshark_counts_the_same_records", tshark_counts_the_same_records, &[Peer::Tshark]),
        ("its_socket_is_open_to_nobody_else", its_socket_is_open_to_nobody_else, &[Peer::Strace]),
        ("a_capture_of_another_program", a_capture_of_another_program, &[Peer::Tshark]),
    ];
    harness::run(cases.map(|(name, run, peers)| Case::new(name, run).needs(peers)))
}

fn nginx_and_php_fpm() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let mut tap = Tap::start(php.unix_address(), &["--write", "r.pcapng"]);
    let options = NginxOptions::new(tap.address.to_string()).document_root(php.document_root());
    let nginx = Nginx::start(options)?;
    let get = |path: &str| HttpConnection::connect(("127.0.0.1", nginx.port()))?.get(path);
    for path in ["/kept", "/plain", "/unbuffered"] {
        let reply = get(&format!("{path}/hello.php?{path}"))?;
        assert_eq!(reply.body, b"Hello, world\n");
    }
    let big =
        HttpConnection::connect(("127.0.0.1", nginx.port()))?.post("/kept/echo.php", 5 << 20)?;
    assert_eq!(big.body.len(), 5 << 20);
    assert_eq!(get("/plain/err.php")?.head.status, 418);
    until("all are told of", || tap.stdout().contains("err.php"));
    drop(nginx);
    tap.stop();
    let stdout = tap.stdout();
    for start in [
        "    1  GET /kept/hello.php?/kept  200  first ",
        "    2  GET /plain/hello.php?/plain  200  first ",
        "    3  GET /unbuffered/hello.php?/unbuffered  200  first ",
        "    4  POST /kept/echo.php  200  first ",
        "    5  STDERR: ",
        "    5  GET /plain/err.php  418  first ",
    ] {
        assert!(stdout.lines().any(|line| line.starts_with(start)), "{start:?} in\n{stdout}");
    }
    assert!(stdout.contains(&format!("in {} B, out ", 5 << 20)), "{stdout}");
    let output = fcgi().arg("decode").arg(tap.file("r.pcapng")).output()?;
    assert_eq!(String::from_utf8(output.stdout)?, stdout);
    Ok(())
}

fn its_socket_is_open_to_nobody_else() -> Result {
    let app = RawApp::new();
    let fcgi_tokio::Target::Unix(path) = app.address.target() else { return Err("a path".into()) };
    fs::set_permissions(path, fs::Permissions::from_mode(0o622))?;
    let is_root = fs::metadata("/proc/self")?.uid() == 0;
    if is_root {
        // Only root can run an application as another user.
        chown(path, Some(33), Some(34))?;
    }
    let model = fs::metadata(path)?;
    for umask in ["000", "077"] {
        let mut tap = Tap::start_traced(&Peer::Strace.find()?, umask, &app.address);
        let seen = fs::symlink_metadata(tap.file("tap.sock"))?;
        let of = |file: &fs::Metadata| (file.mode() & 0o777, file.uid(), file.gid());
        assert_eq!(of(&seen), of(&model), "{umask}");
        tap.stop();
        let calls = fs::read_to_string(tap.file("calls"))?;
        let at = |name: &str| calls.rfind(&format!(" {name}(")).unwrap_or(0);
        let (listen, owner) = (at("listen"), ["chown", "lchown", "fchownat"].map(at));
        let owner = owner.into_iter().max().unwrap_or(0);
        let mode = ["chmod", "fchmodat"].map(at).into_iter().max().unwrap_or(0);
        assert!(listen > 0 && (owner > 0 || !is_root), "{calls}");
        assert!(mode.max(owner) < listen, "nobody connects before it is in order: {calls}");
        // Its owner may have put a link in its place.
        let later = calls.get(owner..).unwrap_or_default();
        let by_name = |call: &str| call.contains("chmod") && call.contains("tap.sock");
        assert!(!is_root || !later.lines().any(by_name), "{calls}");
    }
    Ok(())
}

/// Type and id of each record as tshark reads them, in the order of the file.
fn tshark(file: &Path, port: u16) -> std::result::Result<Vec<(u8, u16)>, Failed> {
    let decode = format!("tcp.port=={port},fcgi");
    let output = Command::new(Peer::Tshark.find()?)
        .args(["-r", &file.display().to_string(), "-d", &decode, "-Y", "fcgi"])
        .args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"])
        .args(["-T", "fields", "-e", "fcgi.type", "-e", "fcgi.id"])
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let mut records = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let (types, ids) = line.split_once('\t').ok_or("two fields")?;
        for (kind, id) in types.split(',').zip(ids.split(',')) {
            records.push((kind.parse()?, id.parse()?));
        }
    }
    Ok(records)
}

/// tshark's complaints: checksums, sequence numbers, malformed packets.
fn complaints(file: &Path, port: u16) -> std::result::Result<String, Failed> {
    let decode = format!("tcp.port=={port},fcgi");
    let output = Command::new(Peer::Tshark.find()?)
        .args(["-r", &file.display().to_string(), "-d", &decode])
        .args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"])
        .args(["-Y", "_ws.malformed || tcp.analysis.flags || tcp.checksum.status == \"Bad\" || ip.checksum.status == \"Bad\""])
        .output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Type and id of each record of some bytes.
fn records(mut bytes: &[u8]) -> Vec<(u8, u16)> {
    let mut records = Vec::new();
    while let [_, kind, a, b, c, d, padding, _, ..] = *bytes {
        records.push((kind, u16::from_be_bytes([a, b])));
        bytes = &bytes[8 + usize::from(u16::from_be_bytes([c, d])) + usize::from(padding)..];
    }
    assert!(bytes.is_empty());
    records
}

fn tshark_counts_the_same_records() -> Result {
    let body = vec![b'x'; 300_000];
    let requests = [
        [
            begin(1, RESPONDER, KEEP),
            padded(Type::Params, 1, &pair(b"REQUEST_METHOD", b"GET"), 255),
            close(Type::Params, 1),
            // As long as a record can be (H-3), and many small ones.
            padded(Type::Stdin, 1, &vec![b'y'; 65_535], 255),
            stream(Type::Stdin, 1, &body),
            (0..200).flat_map(|n| record(Type::Stdin, 1, &vec![b'z'; n + 1])).collect(),
            close(Type::Stdin, 1),
        ]
        .concat(),
        request(7, KEEP, &[("SCRIPT_NAME", "/x")], b"small"),
        request(65535, CLOSE, &[("SCRIPT_NAME", "/last")], b""),
    ];
    let answers = [answer(1, &body), answer(7, b"ok"), answer(65535, &[b'a'; 70_000])];
    for (tcp, ipv6) in [(false, false), (true, false), (true, true)] {
        let (expected_up, expected_down) =
            (records(&requests.concat()), records(&answers.concat()));
        // It reads no records: what is sent here is more than an orderly peer sends.
        let script: Vec<_> = requests.iter().map(Vec::len).zip(answers.clone()).collect();
        let serve = move |mut peer: wire::Peer| {
            let mut reader = fs::File::from(peer.socket());
            for (length, answer) in &script {
                reader.read_exact(&mut vec![0; *length]).unwrap();
                peer.send(answer);
            }
        };
        let (application, port) = if tcp {
            let host = if ipv6 { "[::1]:0" } else { "127.0.0.1:0" };
            let listener = std::net::TcpListener::bind(host)?;
            let address = listener.local_addr()?;
            std::thread::spawn(move || serve(wire::Peer::tcp(listener.accept().unwrap().0)));
            (format!("tcp:{address}"), address.port())
        } else {
            (RawApp::new().serve(serve).to_string(), 9000)
        };
        let mut tap = Tap::start_on_tcp(&application, &["--write", "r.pcapng"]);
        let mut web = tap.connect();
        for (request, answer) in requests.iter().zip(&answers) {
            // Cut anywhere: headers too.
            let sent = web.send_beside(request.clone());
            for _ in records(answer) {
                web.record();
            }
            assert!(sent.join());
        }
        drop(web);
        tap.lines(3);
        tap.stop();
        assert!(!tap.stderr().contains("not recorded"), "{}", tap.stderr());
        let file = tap.file("r.pcapng");
        let seen = tshark(&file, port)?;
        type Records = Vec<(u8, u16)>;
        let is_up = |record: &(u8, u16)| matches!(record.0, 1 | 2 | 4 | 5 | 8 | 9);
        let (up, down): (Records, Records) = seen.into_iter().partition(is_up);
        assert!(up == expected_up, "{} of {} records", up.len(), expected_up.len());
        assert!(down == expected_down, "{} of {} records", down.len(), expected_down.len());
        assert_eq!(complaints(&file, port)?, "");
        assert!(tap.stderr().contains(&format!("tshark -r r.pcapng -d tcp.port=={port},fcgi")));
    }
    Ok(())
}

fn php_fpm_over_tcp() -> Result {
    let php = PhpFpm::start(PhpFpmOptions::default())?;
    let mut tap = Tap::start(php.tcp_address(), &["--write", "r.pcapng"]);
    let script = php.script("hello.php").display().to_string();
    let address = tap.address.to_string();
    let file = format!("SCRIPT_FILENAME={script}");
    let output = fcgi()
        .args(["call", &address, "--param", "REQUEST_METHOD=GET", "--param", &file])
        .output()?;
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("Hello, world\n"));
    tap.lines(1);
    tap.stop();
    assert!(tap.stdout().contains(&format!("GET {script}  200  first")), "{}", tap.stdout());
    let port = php.tcp_address().rsplit(':').next().ok_or("a port")?.parse()?;
    let types: Vec<u8> = tshark(&tap.file("r.pcapng"), port)?.iter().map(|seen| seen.0).collect();
    // Q-3: the application's STDOUT has no end.
    assert_eq!(types, [1, 4, 4, 5, 6, 3]);
    Ok(())
}

/// Another program's file: written again by tshark as pcap, and as a pcapng of its own.
fn a_capture_of_another_program() -> Result {
    let application = RawApp::new().serve(|mut peer| peer.echo());
    let mut tap = Tap::start(application, &["--write", "r.pcapng"]);
    let mut web = tap.connect();
    for n in 0..3 {
        web.send(request(
            n + 1,
            KEEP,
            &[("REQUEST_METHOD", "PUT"), ("SCRIPT_NAME", "/p")],
            b"body",
        ));
        web.answer(n + 1);
    }
    drop(web);
    tap.lines(3);
    tap.stop();
    for format in ["pcap", "nsecpcap", "pcapng"] {
        let file = tap.file(format);
        let from = tap.file("r.pcapng").display().to_string();
        let to = file.display().to_string();
        let output = Command::new(Peer::Tshark.find()?)
            .args(["-r", &from, "-F", format, "-w", &to])
            .output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let output = fcgi().arg("decode").arg(&file).output()?;
        let stdout = String::from_utf8(output.stdout)?;
        assert_eq!(stdout.matches("PUT /p  -  first").count(), 3, "{format}: {stdout}");
        assert!(fs::metadata(&file)?.len() > 0);
    }
    Ok(())
}
