//! Writes `seeds/`: conversations as real peers have them, behind the heads that the targets read.
//! `cargo run --example seeds`, in `fuzz/`.

use std::{fs, io, path::Path};

use fcgi_fuzz::{
    input::{CALLS, DISCONNECT, DRAWN},
    wire::{kind::*, pair, record},
};

/// Draws the defaults: no small limit, a plan that echoes, reads of all sizes, then some calls.
fn steer(kind: u8) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, 0, 0, 0, kind, 0x0a, 0xff, 0x12, 0x80, 0x04, 0x33];
    out.extend((0..48).map(|i| (i * 41 + 3) as u8 ^ kind));
    out
}

/// The same with every limit small.
fn small(kind: u8) -> Vec<u8> {
    let mut out = steer(kind);
    out[..8].copy_from_slice(&[0xff, 0x0f, 3, 1, 2, 2, 4, 5]);
    out
}

fn begin(id: u16, role: u8, keep: u8) -> Vec<u8> {
    record(BEGIN, id, &[0, role, keep, 0, 0, 0, 0, 0], 0)
}

fn pairs(list: &[(&str, &str)]) -> Vec<u8> {
    list.iter().flat_map(|(name, value)| pair(name.as_bytes(), value.as_bytes())).collect()
}

fn padded(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    record(kind, id, content, (content.len().wrapping_neg() & 7) as u8)
}

fn nginx_params(method: &str, length: &str) -> Vec<u8> {
    pairs(&[
        ("QUERY_STRING", "a=1&b=2"),
        ("REQUEST_METHOD", method),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", length),
        ("SCRIPT_NAME", "/index.php"),
        ("REQUEST_URI", "/index.php?a=1&b=2"),
        ("DOCUMENT_ROOT", "/srv/www"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", "nginx"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REDIRECT_STATUS", "200"),
        ("SCRIPT_FILENAME", "/srv/www/index.php"),
        ("HTTP_COOKIE", &"c=0123456789; ".repeat(12)),
    ])
}

fn server() -> Vec<(&'static str, Vec<u8>)> {
    let values = pairs(&[("FCGI_MAX_CONNS", ""), ("FCGI_MAX_REQS", ""), ("FCGI_MPXS_CONNS", "")]);
    let end = |kind, id| record(kind, id, &[], 0);
    vec![
        (
            "get",
            [
                begin(1, 1, 0),
                padded(PARAMS, 1, &nginx_params("GET", "")),
                end(PARAMS, 1),
                end(STDIN, 1),
            ]
            .concat(),
        ),
        (
            "post",
            [
                begin(1, 1, 1),
                padded(PARAMS, 1, &nginx_params("POST", "5")),
                end(PARAMS, 1),
                padded(STDIN, 1, b"hello"),
                end(STDIN, 1),
            ]
            .concat(),
        ),
        (
            "kept",
            [
                begin(1, 1, 1),
                end(PARAMS, 1),
                end(STDIN, 1),
                begin(1, 1, 0),
                end(PARAMS, 1),
                end(STDIN, 1),
            ]
            .concat(),
        ),
        (
            "authorizer",
            [
                begin(1, 2, 1),
                padded(PARAMS, 1, &pairs(&[("HTTP_AUTHORIZATION", "x")])),
                end(PARAMS, 1),
                end(STDIN, 1),
            ]
            .concat(),
        ),
        (
            "filter",
            [
                begin(1, 3, 1),
                padded(PARAMS, 1, &pairs(&[("FCGI_DATA_LENGTH", "4")])),
                end(PARAMS, 1),
                padded(STDIN, 1, b"in"),
                end(STDIN, 1),
                padded(DATA, 1, b"data"),
                end(DATA, 1),
            ]
            .concat(),
        ),
        (
            "multiplexed",
            [
                begin(1, 1, 1),
                begin(2, 1, 1),
                padded(PARAMS, 2, &nginx_params("POST", "6")),
                padded(PARAMS, 1, &nginx_params("POST", "6")),
                end(PARAMS, 1),
                padded(STDIN, 1, b"one"),
                end(PARAMS, 2),
                padded(STDIN, 2, b"two"),
                padded(STDIN, 1, b"one"),
                end(STDIN, 2),
                end(STDIN, 1),
            ]
            .concat(),
        ),
        (
            "abort",
            [
                begin(1, 1, 1),
                end(PARAMS, 1),
                padded(STDIN, 1, b"half"),
                end(ABORT, 1),
                begin(2, 1, 0),
                end(ABORT, 2),
            ]
            .concat(),
        ),
        (
            "get_values",
            [
                padded(GET_VALUES, 0, &values),
                begin(1, 1, 1),
                padded(GET_VALUES, 0, &values),
                end(PARAMS, 1),
                record(99, 0, b"", 0),
                end(STDIN, 1),
            ]
            .concat(),
        ),
        (
            "refused",
            [
                begin(1, 9, 1),
                begin(2, 1, 1),
                record(PARAMS, 2, &[5, 5, b'x'], 0),
                end(PARAMS, 2),
                begin(3, 1, 1),
                record(PARAMS, 3, &[0xff; 8], 0),
            ]
            .concat(),
        ),
        (
            "early_input",
            [begin(1, 1, 1), padded(STDIN, 1, b"early"), end(STDIN, 1), end(PARAMS, 1)].concat(),
        ),
        (
            "wide",
            [begin(1, 1, 1), end(PARAMS, 1), record(STDIN, 1, &[7; 1200], 255), end(STDIN, 1)]
                .concat(),
        ),
        ("http", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("wrong_way", [begin(1, 1, 1), record(STDOUT, 1, b"x", 0)].concat()),
        (
            "stray_streams",
            [
                begin(1, 2, 1),
                padded(STDIN, 1, b"early"),
                padded(PARAMS, 1, &pairs(&[("HTTP_AUTHORIZATION", "x")])),
                end(PARAMS, 1),
                padded(STDIN, 1, b"no input"),
                end(STDIN, 1),
                begin(2, 1, 1),
                padded(PARAMS, 2, &nginx_params("POST", "2")),
                end(PARAMS, 2),
                padded(DATA, 2, b"no data"),
                padded(STDIN, 2, b"in"),
                end(DATA, 2),
                end(STDIN, 2),
            ]
            .concat(),
        ),
    ]
}

fn client() -> Vec<(&'static str, Vec<u8>)> {
    let end =
        |id, status, protocol| record(END, id, &[0, 0, 0, status, protocol, b'h', b'i', 0], 0);
    let php = b"X-Powered-By: PHP/8.2\r\nContent-type: text/html; charset=UTF-8\r\n\r\nhello\n";
    let values =
        pairs(&[("FCGI_MAX_CONNS", "10"), ("FCGI_MAX_REQS", "50"), ("FCGI_MPXS_CONNS", "0")]);
    vec![
        ("php_fpm", [padded(STDOUT, 1, php), end(1, 0, 0)].concat()),
        (
            "stderr",
            [padded(STDERR, 1, b"PHP message: notice"), padded(STDOUT, 1, php), end(1, 255, 0)]
                .concat(),
        ),
        (
            "closed_streams",
            [
                padded(STDOUT, 1, php),
                record(STDOUT, 1, &[], 0),
                record(STDERR, 1, &[], 0),
                end(1, 0, 0),
            ]
            .concat(),
        ),
        (
            "kept",
            [padded(STDOUT, 1, b"a"), end(1, 0, 0), padded(STDOUT, 1, b"b"), end(1, 0, 0)].concat(),
        ),
        (
            "multiplexed",
            [
                padded(STDOUT, 2, b"two"),
                padded(STDOUT, 1, b"one"),
                end(2, 0, 0),
                padded(STDERR, 1, b"one"),
                end(1, 0, 0),
                end(3, 0, 1),
                end(4, 0, 2),
            ]
            .concat(),
        ),
        ("overloaded", end(1, 0, 2)),
        (
            "values",
            [
                padded(GET_VALUES_RESULT, 0, &values),
                record(GET_VALUES_RESULT, 0, &[], 0),
                record(UNKNOWN_TYPE, 0, &[9, 0, 0, 0, 0, 0, 0, 0], 0),
            ]
            .concat(),
        ),
        ("end_twice", [end(1, 0, 0), padded(STDOUT, 1, b"late"), end(1, 0, 0)].concat()),
        ("truncated", padded(STDOUT, 1, php)[..40].to_vec()),
        ("wide", [record(STDOUT, 1, &[7; 1200], 255), end(1, 0, 0)].concat()),
        ("bad_status", end(1, 0, 4)),
        (
            "unknown_types",
            [record(77, 1, b"skip", 1), record(77, 0, b"skip", 1), end(1, 1, 0)].concat(),
        ),
    ]
}

fn write(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}

fn main() -> io::Result<()> {
    for (target, list) in [("server_bytes", server()), ("client_bytes", client())] {
        for (i, (name, wire)) in list.iter().enumerate() {
            let kind = [10, 0, 26, 8, 15][i % 5];
            for (suffix, steer, flags) in [
                ("", steer(kind), 0),
                ("_small", small(kind), 0),
                ("_calls", steer(kind), CALLS),
                ("_calls_small", small(kind), CALLS),
            ] {
                let end = if i % 2 == 0 { 0 } else { DISCONNECT };
                let mut input = vec![flags | end, steer.len() as u8];
                input.extend(steer);
                input.extend(wire);
                write(target, &format!("{name}{suffix}"), &input)?;
            }
        }
        // Drawn conversations.
        for n in 0..6u8 {
            let steer = steer(n * 5);
            let mut input = vec![DRAWN | if n < 3 { 0 } else { CALLS }, steer.len() as u8];
            input.extend(steer);
            input.extend((0..300u32).map(|i| (i * i * 31 + i * u32::from(n) * 17 + 5) as u8));
            write(target, &format!("drawn_{n}"), &input)?;
        }
    }

    let streams: [(&str, Vec<u8>); 6] = [
        ("nginx", nginx_params("GET", "")),
        ("empty_pairs", vec![0; 64]),
        ("long_form", [&[0x80, 0, 0, 1, 0x80, 0, 0, 2][..], b"abc"].concat()),
        ("declared", vec![0xff; 8]),
        ("cut", vec![200, 0, 0]),
        ("bytes", pair(b"\0\xff", &[0xfe; 300])),
    ];
    for (name, stream) in &streams {
        for (suffix, head) in [
            ("", &[3, 10, 1, 250, 2, 7, 0, 0, 0][..]),
            ("_small", &[2, 1, 5, 0, 2, 0xff, 0x0f, 1, 2, 3, 1, 0, 2]),
        ] {
            let mut input = vec![head.len() as u8];
            input.extend(head);
            input.extend(stream);
            write("params", &format!("{name}{suffix}"), &input)?;
        }
    }

    // Calls: begin, write, finish, move, answer, read; on one request and on several.
    let exchange =
        [0x10, 1, 0x08, 50, 0x0c, 0x0f, 0x0a, 90, 0x09, 200, 0x0d, 0, 0, 0, 0, 0x0f, 0x0b, 255];
    let limits = [3, 0, 0, 0, 0, 0];
    write("pair_ops", "exchange", &[&limits[..], &exchange].concat())?;
    write("pair_ops", "many", &[&limits[..], &exchange.repeat(12)].concat())?;
    write(
        "pair_ops",
        "small",
        &[&[3, 0xff, 0x01, 1, 2, 3, 1, 2, 3, 1, 1, 1][..], &exchange.repeat(6)].concat(),
    )?;
    let abort = [0x00, 1, 0x02, 40, 0x04, 200, 0x07, 0x0e, 0, 0x0f, 0x0f, 0x0e, 2, 0x0f];
    write("pair_ops", "abort", &[&limits[..], &abort.repeat(5), &exchange].concat())?;
    for n in 0..6u32 {
        let noise: Vec<u8> =
            (0..400u32).map(|i| (i * i * 7 + i * (n * 2 + 1) * 29) as u8).collect();
        write("pair_ops", &format!("noise_{n}"), &noise)?;
    }

    // Each byte is a choice of the model's: any are as good as others, short and long.
    for target in ["engine_client", "engine_pool", "engine_server"] {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for n in 0..16u32 {
            let noise: Vec<u8> = (0..40 * (n + 1))
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    (state >> 32) as u8
                })
                .collect();
            write(target, &format!("noise_{n:02}"), &noise)?;
        }
    }
    Ok(())
}
