//! `fcgi decode`: recordings, captures and raw bytes.

mod common;

use std::fs;

use common::{
    fcgi,
    tap::{PAGE, Tap, decode, decode_within, get, page},
};
use fcgi_testkit::wire::{CLOSE, Type, answer, end, request, stream};
use serde_json::Value;

#[test]
fn a_recording_prints_the_same_again() {
    let mut tap = Tap::start(page("a warning\n", PAGE).to_string(), &["--write", "r.pcapng"]);
    let mut web = [tap.connect(), tap.connect()];
    for n in 0..20 {
        let web = &mut web[n % 2];
        web.send(get(n as u16 + 1, &format!("/page/{n}")));
        web.answer(n as u16 + 1);
    }
    drop(web);
    tap.stop();
    let decode = |args: &[&str]| {
        let output =
            fcgi().arg("decode").arg(tap.file("r.pcapng")).args(args).output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).expect("text")
    };
    // To the microsecond.
    assert_eq!(decode(&[]), tap.stdout());
    assert_eq!(decode(&["--filter", "/page/1*"]).lines().filter(|l| l.contains("GET")).count(), 11);
    let objects = decode(&["--json"]);
    let end: Value =
        serde_json::from_str(objects.lines().last().unwrap_or_default()).expect("JSON");
    assert_eq!(
        (&end["v"], &end["event"], &end["exit_status"]),
        (&1.into(), &"end".into(), &0.into())
    );
    assert_eq!(objects.lines().count(), 21);
    let records = decode(&["-v"]);
    assert_eq!(records.matches("BEGIN_REQUEST").count(), 20);
    assert_eq!(records.matches("HTTP_COOKIE=**************").count(), 20);
}

#[test]
fn a_recording_that_is_cut_is_shown_as_far_as_it_goes() {
    let mut tap = Tap::start(page("", PAGE).to_string(), &["--write", "r.pcapng"]);
    let mut web = tap.connect();
    for id in [1, 2] {
        web.send(get(id, "/page"));
        web.answer(id);
    }
    drop(web);
    tap.stop();
    let whole = fs::read(tap.file("r.pcapng")).expect("the recording");
    for (length, requests) in [(27, 0), (28 + 4, 0), (whole.len() - 1, 2)] {
        let (stdout, stderr, code) = decode(&whole[..length]);
        assert_eq!(code, Some(4), "{length}: {stderr}");
        assert_eq!(stderr, "fcgi decode: -: it ends within a packet\n", "{length}");
        assert_eq!(stdout.matches("GET /page").count(), requests, "{length}: {stdout}");
    }
}

#[test]
fn raw_bytes_are_records() {
    let wire = [
        request(1, CLOSE, &[("REQUEST_METHOD", "GET"), ("SCRIPT_NAME", "/raw")], b""),
        stream(Type::Stdout, 1, b"Status: 201\r\n\r\nok"),
        end(1, 3, 0),
    ]
    .concat();
    let (stdout, stderr, code) = decode(&wire);
    let expected =
        "    0.000     1  web → app  BEGIN_REQUEST       1       8    0  Responder, no keep_conn
    0.000     1  web → app  PARAMS              1      36    4  REQUEST_METHOD=GET
                                                                SCRIPT_NAME=/raw
    0.000     1  web → app  PARAMS              1       0    0  end of PARAMS
    0.000     1  web → app  STDIN               1       0    0  end of STDIN
    0.000     1  web ← app  STDOUT              1      17    7  Status: 201\\r\\n
                                                                \\r\\n
                                                                ok
    0.000     1  web ← app  END_REQUEST         1       8    0  app status 3, REQUEST_COMPLETE
    1  GET /raw  201 app status 3  first 0.00 ms, total 0.00 ms  in 0 B, out 17 B
";
    assert_eq!((&*stdout, &*stderr, code), (expected, "", Some(0)));
    // A recording that is cut, and a file that is none.
    let (stdout, stderr, code) = decode(&wire[..wire.len() - 1]);
    assert!(stdout.contains("GET /raw  201 open"), "{stdout}");
    let at = wire.len() - 16;
    assert_eq!(stderr, format!("fcgi decode: -: it breaks off in the record at byte {at}\n"));
    assert_eq!(code, Some(4));
    let (_, stderr, code) = decode(b"GET / HTTP/1.1\r\n");
    assert!(stderr.starts_with("fcgi decode: -: no record at byte 0: "), "{stderr}");
    assert_eq!(code, Some(4));
    let nothing = "fcgi decode: -: there is no FastCGI in an empty file\n".to_owned();
    assert_eq!(decode(b""), (String::new(), nothing, Some(4)));
}

#[test]
fn what_can_not_be_read_says_so() {
    for (file, code) in [("/nonexistent", 2), ("/dev/null", 4), ("/dev/zero", 4)] {
        let output = fcgi().args(["decode", file, "--json"]).output().expect("it runs");
        let end: Value = serde_json::from_slice(&output.stdout).expect("one object");
        assert_eq!((&end["event"], &end["exit_status"]), (&"end".into(), &code.into()), "{end}");
        assert_eq!((output.status.code(), &*output.stderr), (Some(code), &b""[..]));
    }
    let output = fcgi().args(["decode", "/nonexistent"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("fcgi decode: /nonexistent: No such file"), "{said}");
}

const SYN: u8 = 2;
const FIN: u8 = 1;
const RST: u8 = 4;

/// A capture of packets between a web server's port and port 9000: port, whether it goes to the
/// application, flags, sequence number and bytes of each.
fn capture<'a>(packets: impl IntoIterator<Item = (u16, bool, u8, u32, &'a [u8])>) -> Vec<u8> {
    const RAW_IP: u32 = 101;
    let mut out = 0xA1B2_C3D4_u32.to_le_bytes().to_vec();
    for word in [0x0004_0002, 0, 0, 0xFFFF, RAW_IP] {
        out.extend(u32::to_le_bytes(word));
    }
    for (n, (port, up, flags, sequence, payload)) in packets.into_iter().enumerate() {
        let length = 40 + payload.len() as u32;
        for word in [n as u32 / 1000, n as u32 % 1000, length, length] {
            out.extend(word.to_le_bytes());
        }
        out.extend([0x45, 0]);
        out.extend((length as u16).to_be_bytes());
        out.extend([0, 0, 0, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        let (from, to) = if up { (port, 9000) } else { (9000, port) };
        out.extend([from.to_be_bytes(), to.to_be_bytes()].concat());
        out.extend(sequence.to_be_bytes());
        let ack = if (flags, up) == (SYN, true) { 0 } else { 16 };
        out.extend([0, 0, 0, 0, 5 << 4, flags | ack, 0xFF, 0xFF, 0, 0, 0, 0]);
        out.extend(payload);
    }
    out
}

#[test]
fn connections_that_have_ended_cost_nothing() {
    let body = vec![b'x'; 20_000];
    let asked = request(1, CLOSE, &[("REQUEST_METHOD", "POST")], &body);
    let answered = answer(1, &body);
    let count = 3000_u16;
    for reset in [false, true] {
        let packets = (0..count).flat_map(|n| {
            let (up, down) = (1 + asked.len() as u32, 1 + answered.len() as u32);
            let port = 10_000 + n;
            let end = if reset { RST } else { FIN };
            [
                (port, true, SYN, 0, &b""[..]),
                (port, false, SYN, 0, b""),
                (port, true, 0, 1, &asked),
                (port, false, 0, 1, &answered),
                (port, false, end, down, b""),
                (port, true, FIN, up, b""),
                // Bytes that come twice begin no request.
                (port, true, 0, 1, &asked),
                (port, false, 0, down + 1, b""),
            ]
        });
        let (stdout, stderr, code) = decode_within("v 150000", &capture(packets));
        assert_eq!((&*stderr, code), ("", Some(0)));
        assert_eq!(
            stdout.lines().count(),
            usize::from(count),
            "{}",
            &stdout[..stdout.len().min(500)]
        );
        assert!(stdout.lines().all(|line| line.contains("in 20000 B, out 20000 B")), "{stdout}");
    }
}

#[test]
fn many_small_packets_in_the_wrong_order_take_no_time() {
    let body = vec![b'x'; 40_000];
    let asked = request(1, CLOSE, &[("REQUEST_METHOD", "POST")], &body);
    let number = |n: usize| (n as u32).wrapping_sub(20_000);
    let mut packets = vec![(10_000, true, SYN, number(0).wrapping_sub(1), &b""[..])];
    // The first packet shows that it is FastCGI.
    let rest = asked.iter().enumerate().skip(9).rev();
    packets.push((10_000, true, 0, number(0), &asked[..8]));
    packets.extend(rest.map(|(n, byte)| (10_000, true, 0, number(n), std::slice::from_ref(byte))));
    // A part of the next packet came before.
    packets.push((10_000, true, 0, number(4), &asked[4..200]));
    let answered = answer(1, b"");
    packets.push((10_000, false, 0, 1, &answered));
    let (stdout, stderr, code) = decode_within("t 10", &capture(packets));
    assert_eq!((&*stderr, code), ("", Some(0)), "{stdout}");
    assert!(stdout.contains("in 40000 B, out 0 B"), "{stdout}");
}
