//! `fcgi gateway`: files come byte for byte, however they are asked for; and STDERR without end.

mod common;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Duration,
};

use common::gateway::{App, Gateway, Http2, PAGE, PATIENCE, Root, block_on, text, until};
use fcgi_testkit::http::{Reply, pattern};
use http_body_util::BodyExt;
use rustix::{
    fs::{Advice, fadvise},
    io::ioctl_fionread,
    process::Signal,
};

/// Around every size at which files are sent in another way.
const SIZES: [u64; 10] = [
    0,
    1,
    1000,
    32 * 1024,
    32 * 1024 + 1,
    64 * 1024,
    64 * 1024 + 1,
    1 << 20,
    (1 << 20) + 1,
    3_000_001,
];

fn bytes(range: std::ops::Range<u64>) -> Vec<u8> {
    range.map(pattern).collect()
}

fn site() -> (App, Root, Gateway) {
    let (app, root) = (App::start(), Root::new());
    for size in SIZES {
        fs::write(root.path().join(format!("{size}.bin")), bytes(0..size)).expect("a file");
    }
    let gateway = Gateway::start(&[&app.address, "--root", &root.arg()]);
    (app, root, gateway)
}

/// Makes the kernel forget a file's bytes in memory.
fn make_cold(path: &std::path::Path) {
    let file = File::open(path).expect("a file");
    file.sync_all().expect("it can be written");
    let advice = rustix::fs::Advice::DontNeed;
    rustix::fs::fadvise(&file, 0, None, advice).expect("advice");
}

#[test]
fn whole_and_in_parts_warm_and_cold() {
    let (_app, root, gateway) = site();
    for size in SIZES {
        let path = format!("/{size}.bin");
        for cold in [false, true] {
            if cold {
                make_cold(&root.path().join(&path[1..]));
            }
            let reply = gateway.get(&path);
            assert_eq!(reply.head.status, 200);
            assert_eq!(reply.head.field("content-length"), Some(&*size.to_string()));
            assert!(reply.body == bytes(0..size), "{path}, cold: {cold}");
        }
        for (first, last) in
            [(0, 0), (1, size / 2), (size / 3, size.saturating_sub(1)), (size / 2, size + 9)]
        {
            if first > last || first >= size {
                continue;
            }
            let range = format!("bytes={first}-{last}");
            let reply = gateway.ask("GET", &path, &[("Range", &range)]);
            assert_eq!(reply.head.status, 206, "{path} {range}");
            assert!(reply.body == bytes(first..size.min(last + 1)), "{path} {range}");
        }
    }
}

/// The parts of an answer with several ranges: what each says it is, and its bytes.
fn parts(reply: &Reply) -> Vec<(String, Vec<u8>)> {
    let kind = reply.head.field("content-type").expect("a type");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("several parts");
    let (mut rest, mut found) = (&reply.body[..], Vec::new());
    let head = format!("\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n");
    while let Some(part) = rest.strip_prefix(head.as_bytes()) {
        let end = part.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
        let range = String::from_utf8_lossy(&part[..end]).into_owned();
        let range = range.strip_prefix("Content-Range: bytes ").expect("a range").to_owned();
        let (first, last) = range.split('/').next().and_then(|of| of.split_once('-')).expect("two");
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let bytes = &part[end + 4..][..number(last) + 1 - number(first)];
        rest = &part[end + 4 + bytes.len()..];
        found.push((range, bytes.to_vec()));
    }
    assert_eq!(rest, format!("\r\n--{boundary}--\r\n").as_bytes());
    found
}

#[test]
fn several_ranges_come_in_one_answer() {
    let (_app, root, gateway) = site();
    for size in SIZES.into_iter().filter(|size| *size >= 1000) {
        let path = format!("/{size}.bin");
        let wanted = [(size - 1, size - 1), (0, 9), (size / 3, size / 2), (5, 5)];
        let list: Vec<_> = wanted.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let list = format!("bytes={},{size}-", list.join(", "));
        for cold in [false, true] {
            if cold {
                make_cold(&root.path().join(&path[1..]));
            }
            let reply = gateway.ask("GET", &path, &[("Range", &list)]);
            assert_eq!(reply.head.status, 206, "{path}");
            assert_eq!(reply.head.field("content-range"), None);
            assert_eq!(reply.head.field("content-length"), Some(&*reply.body.len().to_string()));
            let expected = wanted
                .map(|(first, last)| (format!("{first}-{last}/{size}"), bytes(first..last + 1)));
            assert!(parts(&reply) == expected, "{path}, cold: {cold}");
        }
    }
}

#[test]
fn pipelined_and_by_http_1_0() {
    let (_app, _root, gateway) = site();
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut asked = String::new();
    let mut expected = Vec::new();
    for (n, size) in SIZES.iter().enumerate() {
        let close = if n + 1 == SIZES.len() { "Connection: close\r\n" } else { "" };
        asked.push_str(&format!("GET /{size}.bin HTTP/1.1\r\nHost: a\r\n{close}\r\n"));
        expected.push(bytes(0..*size));
    }
    stream.write_all(asked.as_bytes()).expect("send");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("answers");
    let mut rest = &all[..];
    for body in expected {
        let end = rest.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
        assert!(rest[..end].starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(rest[end..].starts_with(&body), "{} bytes", body.len());
        rest = &rest[end + body.len()..];
    }
    assert!(rest.is_empty());

    for size in SIZES {
        let mut stream = TcpStream::connect(("127.0.0.1", gateway.port)).expect("it accepts");
        stream.write_all(format!("GET /{size}.bin HTTP/1.0\r\n\r\n").as_bytes()).expect("send");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("an answer");
        let end = all.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
        assert!(all[end..] == bytes(0..size), "{size}");
    }
}

#[test]
fn by_http_2_and_to_slow_readers() {
    let (_app, _root, gateway) = site();
    block_on(async {
        let mut client = Http2::connect(&gateway).await;
        let answers: Vec<_> =
            SIZES.iter().map(|size| (*size, client.get(&format!("/{size}.bin")))).collect();
        for (size, answer) in answers {
            let body = answer.await.expect("an answer").into_body().collect().await;
            assert!(body.expect("a body").to_bytes() == bytes(0..size), "{size}");
        }
    });
    let mut connection = gateway.connect();
    connection.send_head("GET", "/3000001.bin", &[]).expect("send");
    connection.read_head().expect("a head");
    let mut all = Vec::new();
    let mut block = vec![0; 100_000];
    while let n @ 1.. = connection.read_body(&mut block).expect("more") {
        all.extend_from_slice(&block[..n]);
        thread::sleep(Duration::from_millis(1));
    }
    assert!(all == bytes(0..3_000_001));
}

/// Files whose bytes never pass through the gateway, between answers whose bytes do.
#[test]
fn files_and_other_answers_take_turns() {
    let (app, root) = (App::start(), Root::new());
    let size = 3_000_001;
    fs::write(root.path().join("big.bin"), bytes(0..size)).expect("a file");
    let socket = root.path().join("../http");
    let listen = format!("unix:{}", socket.display());
    let _gateway = Gateway::start(&[&app.address, "--root", &root.arg(), "--listen", &listen]);
    let mut stream = UnixStream::connect(&socket).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let whole = bytes(0..size);
    let mut expected: Vec<(&str, &str, &str, &[u8])> = Vec::new();
    for _ in 0..3 {
        expected.extend([
            ("GET", "/big.bin", "", &whole[..]),
            ("HEAD", "/big.bin", "", &[][..]),
            ("GET", "/page.txt", "", PAGE.as_bytes()),
            ("GET", "/app.php/bytes?70000", "", &whole[..70_000]),
            ("GET", "/big.bin", "Range: bytes=99-2100000", &whole[99..=2_100_000]),
            ("GET", "/big.bin", "Range: bytes=-40000", &whole[whole.len() - 40_000..]),
        ]);
    }
    // One after the other, and all at once.
    for pipelined in [false, true] {
        let mut sent = expected.iter();
        let mut send = |stream: &mut UnixStream| {
            let Some((method, target, range, _)) = sent.next() else { return false };
            let range = if range.is_empty() { String::new() } else { format!("{range}\r\n") };
            let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{range}\r\n");
            stream.write_all(head.as_bytes()).expect("send");
            true
        };
        while pipelined && send(&mut stream) {}
        let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
        for (method, target, range, body) in &expected {
            if !pipelined {
                send(&mut stream);
            }
            let (mut length, mut is_chunked) = (0, false);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a head");
                if line.trim_end().is_empty() {
                    break;
                }
                if let Some(text) = line.strip_prefix("content-length: ") {
                    length = text.trim_end().parse().expect("a length");
                }
                is_chunked |= line.starts_with("transfer-encoding: chunked");
            }
            let mut all = Vec::new();
            while is_chunked {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a chunk");
                length = usize::from_str_radix(line.trim_end(), 16).expect("its length");
                let at = all.len();
                all.resize(at + length + 2, 0);
                reader.read_exact(&mut all[at..]).expect("a chunk");
                all.truncate(at + length);
                is_chunked = length > 0;
                length = 0;
            }
            if *method == "GET" {
                let at = all.len();
                all.resize(at + length, 0);
                reader.read_exact(&mut all[at..]).expect("a body");
            }
            assert!(all == *body, "{method} {target} {range}, pipelined: {pipelined}");
        }
    }
}

/// Requests a file whose name is its size. Returns the connection after the answer's head.
fn unread(socket: &Path, size: u64) -> BufReader<UnixStream> {
    let mut stream = UnixStream::connect(socket).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    write!(stream, "GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).expect("a head");
    }
    reader
}

/// Files of many sizes, since the kernel decides how much of them it takes at once, and a gateway
/// at a Unix socket.
fn many_sizes() -> (Vec<u64>, Root, Gateway, std::path::PathBuf) {
    let root = Root::new();
    let sizes: Vec<u64> = (2..=36).map(|n| n * 32 * 1024).collect();
    for size in &sizes {
        fs::write(root.path().join(size.to_string()), bytes(0..*size)).expect("a file");
    }
    let socket = root.path().join("../http");
    let listen = format!("unix:{}", socket.display());
    let gateway =
        Gateway::start(&["unix:/nobody/here", "--root", &root.arg(), "--listen", &listen]);
    (sizes, root, gateway, socket)
}

/// The bytes in the log line of a file, if it is there.
fn logged(log: &str, size: u64) -> Option<u64> {
    let (_, line) = log.split_once(&format!("\"GET /{size} HTTP/1.1\" 200 "))?;
    line.split(' ').next()?.parse().ok()
}

/// A file counts as sent when the kernel has its last byte, not before: a slow client gets all of
/// it from a gateway that ends.
#[test]
fn a_gateway_that_ends_sends_the_rest_of_a_file_to_a_slow_client() {
    let (sizes, _root, mut gateway, socket) = many_sizes();
    let mut clients: Vec<_> = sizes.iter().map(|size| unread(&socket, *size)).collect();
    gateway.signal(Signal::TERM);
    // Longer than a connection without a request is kept.
    thread::sleep(Duration::from_millis(2500));
    let log = gateway.access_log();
    for (client, size) in clients.iter_mut().zip(&sizes) {
        let taken =
            client.buffer().len() as u64 + ioctl_fionread(client.get_ref()).expect("a size");
        assert!(logged(&log, *size).is_none() || taken == *size, "{taken} of {size}: {log}");
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("all of it");
        assert!(all == bytes(0..*size), "{} of {size}", all.len());
    }
    assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.error_log());
    for size in sizes {
        assert_eq!(logged(&gateway.access_log(), size), Some(size));
    }
}

#[test]
fn what_is_logged_of_a_file_was_sent() {
    let (sizes, _root, gateway, socket) = many_sizes();
    let sent = sizes.iter().map(|size| {
        let mut client = unread(&socket, *size);
        // Nothing comes any more, but what has come can be read.
        client.get_ref().shutdown(Shutdown::Read).expect("a socket");
        let mut all = Vec::new();
        client.read_to_end(&mut all).expect("what was sent");
        all.len() as u64
    });
    for (size, sent) in sizes.iter().zip(sent) {
        until("it is logged", || logged(&gateway.access_log(), *size).is_some());
        assert_eq!(logged(&gateway.access_log(), *size), Some(sent), "of {size}");
    }
}

/// The kernel may drop a part of a file while another is sent.
#[test]
fn a_file_that_is_only_partly_in_memory_comes_whole() {
    let (_app, root, gateway) = site();
    let size = 3_000_001;
    let path = root.path().join("cold.bin");
    fs::write(&path, bytes(0..size)).expect("a file");
    let file = File::open(&path).expect("a file");
    file.sync_all().expect("a disk");
    for dropped in [0, 50_000, 200_000, 2_000_000] {
        fadvise(&file, dropped, None, Advice::DontNeed).expect("a file");
        assert!(gateway.get("/cold.bin").body == bytes(0..size), "without those after {dropped}");
    }
}

#[test]
fn a_file_that_is_cut_meanwhile_is_not_taken_for_whole() {
    let (_app, root, gateway) = site();
    let path = root.path().join("big.bin");
    File::create(&path).and_then(|file| file.set_len(64 << 20)).expect("a file");
    let mut connection = gateway.connect();
    connection.send_head("GET", "/big.bin", &[]).expect("send");
    connection.read_head().expect("a head");
    File::options().write(true).open(&path).and_then(|file| file.set_len(1)).expect("it is cut");
    let mut block = vec![0; 1 << 20];
    let mut seen = 0;
    let whole = loop {
        match connection.read_body(&mut block) {
            Ok(0) => break true,
            Ok(n) => seen += n,
            Err(_) => break false,
        }
    };
    assert!(!whole && seen < 64 << 20, "{seen}");
    until("it is logged", || gateway.error_log().contains("GET /big.bin: read the file: "));
}

/// An application that writes to STDERR without end waits, like one whose answer nobody reads.
#[test]
fn stderr_without_end_is_throttled() {
    let app = App::start();
    let gateway = Gateway::start(&[&app.address, "--mount", "/"]);
    let mut noisy = gateway.connect();
    noisy.send_head("GET", "/noisy", &[]).expect("send");
    // Although the log is read, it grows more slowly than the application could write.
    until("it has its first megabyte", || gateway.error_log().len() > 1 << 20);
    let before = gateway.error_log().len();
    let started = std::time::Instant::now();
    thread::sleep(Duration::from_secs(2));
    let grown = gateway.error_log().len() - before;
    let passed = started.elapsed().as_secs_f64();
    // Each line has a title beside its text. A slow machine only writes less in that time.
    assert!((grown as f64) < 20e6 * passed, "{grown} bytes in {passed} s");
    // Others are served.
    assert!(text(&gateway.get("/x")).contains("STDIN=0\n"));
    drop(noisy);
    until("it is cancelled", || app.state.cancelled() == 1);
}
