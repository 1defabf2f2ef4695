//! How a response is cut into records (W-1).

use fcgi_driver::{
    http::{Body, Responder},
    runtime::Runtime,
    server::Server,
};
use fcgi_proto::{
    Params,
    record::{BeginRequestBody, HEADER_LEN, RecordHeader, RecordType},
};
use fcgi_testkit::sim::{self, Sim};
use http::Response;

use crate::{
    kit::{answer, service},
    support::{address, ms, serve},
};

pub(crate) fn record(kind: RecordType, id: u16, content: &[u8]) -> Vec<u8> {
    let header = RecordHeader::new(kind, id, u16::try_from(content.len()).unwrap());
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + usize::from(header.padding_length), 0);
    bytes
}

/// A GET of this path, whole.
fn get(id: u16, path: &str, keep_conn: bool) -> Vec<u8> {
    let params = [("REQUEST_METHOD", "GET"), ("REQUEST_URI", path)];
    let mut encoded = Vec::new();
    for (name, value) in Params::from_iter(params).iter() {
        encoded.extend([u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap()]);
        encoded.extend_from_slice(name);
        encoded.extend_from_slice(value);
    }
    [
        record(RecordType::BeginRequest, id, &BeginRequestBody { role: 1, keep_conn }.encode()),
        record(RecordType::Params, id, &encoded),
        record(RecordType::Params, id, b""),
        record(RecordType::Stdin, id, b""),
    ]
    .concat()
}

/// The records that have come whole.
pub(crate) fn records(mut rest: &[u8]) -> Vec<(RecordHeader, Vec<u8>)> {
    let mut records = Vec::new();
    while let Some((header, tail)) = rest.split_first_chunk::<HEADER_LEN>() {
        let header = RecordHeader::decode(*header).unwrap();
        let length = usize::from(header.content_length);
        let Some(content) = tail.get(..length) else { break };
        let Some(next) = tail.get(length + usize::from(header.padding_length)..) else { break };
        records.push((header, content.to_vec()));
        rest = next;
    }
    records
}

/// The content of each STDOUT record of a request.
fn stdout(bytes: &[u8], id: u16) -> Vec<Vec<u8>> {
    let of_it =
        |header: &RecordHeader| header.request_id == id && header.record_type == RecordType::Stdout;
    let records = records(bytes).into_iter().filter(|(header, _)| of_it(header));
    records.map(|(_, content)| content).collect()
}

/// A service whose head has as many bytes as the path says.
fn padded() -> impl fcgi_driver::server::Handler {
    Responder::new(service(|request: http::Request<Body>| async move {
        let path = request.uri().path();
        if path == "/flood" {
            return answer(Response::builder(), vec![b'x'; 1 << 20]);
        }
        let size: usize = path[1..].parse().unwrap();
        let rest = "Status: 200 OK\r\nx-pad: \r\ncontent-length: 5\r\n\r\n".len();
        answer(Response::builder().header("X-Pad", "p".repeat(size - rest)), "hello")
    }))
}

#[test]
fn a_head_is_in_the_first_record_whatever_its_size_w_1() {
    // 4,096 is where a write is no longer gathered, 65,528 where records are cut else.
    for size in [100, 4095, 4096, 4097, 20_000, 65_528, 65_529, 65_535] {
        sim::run(1, async move {
            serve(Server::new(), padded());
            let mut io = Sim::connect(&address()).await.unwrap();
            io.write_all(&get(1, &format!("/{size}"), false)).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(more) = Some(io.read().await.unwrap()).filter(|more| !more.is_empty()) {
                bytes.extend(more);
            }
            let records = stdout(&bytes, 1);
            let first = &records[0];
            assert!(first.starts_with(b"Status: 200 OK\r\n"));
            let head = first.windows(4).position(|end| end == b"\r\n\r\n");
            assert_eq!(head, Some(size - 4), "the head is whole in the first record");
            assert!(records.concat().ends_with(b"hello"));
            if size < 4096 {
                assert!(first.ends_with(b"hello"), "the body shares the record of a small head");
                assert_eq!(records.len(), 2, "and the stream's end is the other record");
            }
        });
    }
}

#[test]
fn a_head_is_not_cut_when_others_fill_the_connection_w_1_w_9() {
    for seed in 0..20 {
        sim::run(seed, async {
            serve(Server::new(), padded());
            let mut io = Sim::connect(&address()).await.unwrap();
            let sizes = [60_000, 50_000, 65_535, 5_000];
            let mut requests = get(1, "/flood", true);
            for (at, size) in sizes.iter().enumerate() {
                requests.extend(get(3 + 2 * at as u16, &format!("/{size}"), true));
            }
            io.write_all(&requests).await.unwrap();
            // Nothing is read until the server's queue is full.
            sim::sleep(ms(100)).await;
            let mut bytes = Vec::new();
            let mut ended = 0;
            while ended < 1 + sizes.len() {
                let more = io.read().await.unwrap();
                assert!(!more.is_empty());
                bytes.extend(more);
                if bytes.len() > 1 << 20 {
                    let ends = records(&bytes);
                    let is_end =
                        |header: &RecordHeader| header.record_type == RecordType::EndRequest;
                    ended = ends.iter().filter(|(header, _)| is_end(header)).count();
                }
            }
            for (at, size) in sizes.iter().enumerate() {
                let records = stdout(&bytes, 3 + 2 * at as u16);
                let head = records[0].windows(4).position(|end| end == b"\r\n\r\n");
                assert_eq!(head, Some(size - 4), "seed {seed}");
            }
        });
    }
}
