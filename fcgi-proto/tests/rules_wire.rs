//! The wire format: records (FC-3.3), name-value pairs (FC-3.4), and what hostile or odd bytes may
//! not do at either end (H). Each test names its rule.
#![allow(missing_docs)]
mod common;

use bytes::Bytes;
use common::*;
use fcgi_proto::{
    BeginRequest, Input, Limits, Output, Params, ProtocolErrorKind as Kind, Role, UsageError,
    client::Outcome,
    pairs::{self, PairDecoder, PairPiece},
    record::{Framer, Piece, RecordHeader, RecordType},
    server::Event,
};

#[test]
fn fc_3_3_1_header_is_eight_bytes_big_endian() {
    let header = RecordHeader {
        record_type: RecordType::Stdin,
        request_id: 0x0102,
        content_length: 0xFFFE,
        padding_length: 7,
    };
    assert_eq!(header.encode(), [1, 5, 1, 2, 0xFF, 0xFE, 7, 0]);
    assert_eq!(RecordHeader::decode(header.encode()), Ok(header));
    for number in 0..=u8::MAX {
        assert_eq!(RecordType::from_u8(number).as_u8(), number);
    }
}

#[test]
fn fc_3_3_1_h_3_longest_content_with_any_padding() {
    for padding in [0, 1, 127, 254, 255] {
        let wire = [padded(STDIN, 1, &[b'x'; 65_535], padding), rec(STDIN, 1, b"")].concat();
        let mut server = server();
        let (key, _) = requested(&feed(&mut server, head(1, 1, 0)));
        feed(&mut server, wire);
        assert_eq!(read_in(&mut server, key, Input::Stdin), (vec![b'x'; 65_535], true));
    }
}

#[test]
fn fc_3_3_2_padding_is_ignored_on_every_record() {
    let mut server = server();
    let events = feed(
        &mut server,
        [
            padded(GET_VALUES, 0, b"", 255),
            padded(BEGIN, 1, &[0, 3, KEEP, 0, 0, 0, 0, 0], 255),
            padded(PARAMS, 1, &pair(b"N", b"V"), 1),
            padded(PARAMS, 1, b"", 255),
            padded(STDIN, 1, b"in", 255),
            padded(STDIN, 1, b"", 3),
            padded(DATA, 1, b"data", 9),
            padded(DATA, 1, b"", 8),
            padded(77, 1, b"?", 200),
        ]
        .concat(),
    );
    let (key, params) = requested(&events);
    assert_eq!(params.get("N"), Some(&b"V"[..]));
    assert_eq!(read_in(&mut server, key, Input::Stdin), (b"in".to_vec(), true));
    assert_eq!(read_in(&mut server, key, Input::Data), (b"data".to_vec(), true));

    let mut client = client();
    let key = get(&mut client);
    let mut body = [0; 8];
    body[3] = 4;
    let wire = [
        padded(STDOUT, 1, b"out", 255),
        padded(STDERR, 1, b"err", 255),
        padded(STDERR, 1, b"", 255),
        padded(STDOUT, 1, b"", 255),
        padded(END, 1, &body, 255),
    ];
    let events = feed(&mut client, wire.concat());
    assert_eq!(finished(&events), [(key, Outcome::Complete { app_status: 4 })]);
    assert_eq!(read_out(&mut client, key, Output::Stderr).0, b"err");
    assert_eq!(read_out(&mut client, key, Output::Stdout).0, b"out");
}

/// What a client with all streams, and a server that answers it, put on the wire.
fn a_whole_conversation() -> (Vec<u8>, Vec<u8>) {
    let mut client = client();
    client.query_values().unwrap();
    let key = start(&mut client, Role::Filter);
    let mut request = client.request(key).unwrap();
    for (input, size) in [(Input::Stdin, 11), (Input::Data, 70_001)] {
        assert_eq!(request.write(input, &mut Bytes::from(vec![7; size])), Ok(size));
        request.finish(input).unwrap();
    }
    let asked = sent(&mut client);

    let mut server = server();
    let (key, _) = requested(&feed(&mut server, &asked));
    let mut request = server.request(key).unwrap();
    request.write(Output::Stderr, &mut Bytes::from_static(b"!")).unwrap();
    request.write(Output::Stdout, &mut Bytes::from(vec![8; 70_001])).unwrap();
    request.finish(u32::MAX).unwrap();
    feed(&mut server, rec(99, 0, b"what is this"));
    (asked, sent(&mut server))
}

#[test]
fn fc_3_3_2_q_2_records_are_aligned_and_empty_ones_not_padded() {
    let (asked, answered) = a_whole_conversation();
    let all = [records(&asked), records(&answered)].concat();
    assert!(all.len() > 15);
    for record in all {
        assert_eq!((record.content.len() + record.padding) % 8, 0, "{record:?}");
        // GET_VALUES has padding even where none is needed.
        let most = if record.kind == GET_VALUES { 8 } else { 7 };
        assert!(record.padding <= most && (record.padding == 0 || !record.content.is_empty()));
    }
}

#[test]
fn fc_3_3_3_reserved_bytes_are_sent_as_zero() {
    let (asked, answered) = a_whole_conversation();
    for record in [records(&asked), records(&answered)].concat() {
        assert_eq!(record.reserved, 0);
        let reserved = match record.kind {
            BEGIN => 3..8,
            END => 5..8,
            UNKNOWN_TYPE => 1..8,
            _ => continue,
        };
        assert!(record.content[reserved].iter().all(|byte| *byte == 0), "{record:?}");
    }
}

#[test]
fn fc_3_3_3_q_3_reserved_bytes_and_flags_are_ignored() {
    let mut server = server();
    let mut wire = rec(BEGIN, 1, &[0, 1, 0xFF, 9, 9, 9, 9, 9]);
    wire[7] = 0xEE;
    wire.extend(rec(PARAMS, 1, b""));
    let events = feed(&mut server, wire);
    assert!(matches!(events[..], [Event::Request { keep_conn: true, .. }]));

    let mut client = client();
    let key = get(&mut client);
    let mut wire = rec(END, 1, &[0, 0, 0, 0, 0, 0xDE, 0xAD, 0xBE]);
    wire[7] = 0xEE;
    let events = feed(&mut client, wire);
    assert_eq!(finished(&events), [(key, Outcome::Complete { app_status: 0 })]);
}

#[test]
fn fc_3_3_4_any_other_version_is_fatal() {
    for version in [0, 2, b'G', 255] {
        let mut wire = rec(STDIN, 1, b"x");
        wire[0] = version;
        assert_eq!(feed_bad(&mut server(), &wire), Kind::Version(version));
        assert_eq!(feed_bad(&mut client(), &wire), Kind::Version(version));
    }
}

#[test]
fn fc_3_3_4_the_error_says_where_its_record_starts() {
    let before = padded(99, 4, b"12345", 250);
    for cut in [8, before.len() - 1, before.len(), before.len() + 3] {
        let wire = [before.clone(), b"GET / HTTP/1.1".to_vec()].concat();
        let mut server = server();
        feed(&mut server, &wire[..cut]);
        let error = offer(&mut server, &wire[cut..]).error.unwrap();
        assert_eq!(error.offset, before.len() as u64, "cut at {cut}");
    }
}

#[test]
fn fc_3_3_5_h_8_application_records_with_id_0_are_fatal() {
    for kind in [BEGIN, ABORT, PARAMS, STDIN, DATA] {
        let expected = Kind::ZeroRequestId(RecordType::from_u8(kind));
        assert_eq!(feed_bad(&mut server(), rec(kind, 0, &[0; 8])), expected);
    }
    for kind in [END, STDOUT, STDERR] {
        let expected = Kind::ZeroRequestId(RecordType::from_u8(kind));
        assert_eq!(feed_bad(&mut client(), rec(kind, 0, &[0; 8])), expected);
    }
}

#[test]
fn fc_3_3_5_management_records_with_an_id_are_skipped() {
    let mut server = server();
    assert_eq!(feed(&mut server, rec(GET_VALUES, 3, &pair(b"FCGI_MAX_REQS", b""))), []);
    assert_eq!(sent(&mut server), b"");
    let mut client = client();
    client.query_values().unwrap();
    assert_eq!(feed(&mut client, rec(GET_VALUES_RESULT, 3, &pair(b"FCGI_MAX_REQS", b"1"))), []);
    assert_eq!(feed(&mut client, rec(UNKNOWN_TYPE, 3, b"")), []);
}

#[test]
fn fc_3_3_6_records_of_inactive_ids_are_ignored() {
    let mut server = server();
    let stray = [
        rec(PARAMS, 9, b"no pairs at all"),
        rec(STDIN, 9, b"x"),
        rec(DATA, 9, b"x"),
        rec(ABORT, 9, b""),
    ]
    .concat();
    assert_eq!(feed(&mut server, &stray), []);
    let (key, _) = requested(&feed(&mut server, post(9, KEEP, b"")));
    reply(&mut server, key, b"", 0);
    sent(&mut server);
    assert_eq!(feed(&mut server, &stray), [], "inactive again after END_REQUEST");
    assert_eq!(sent(&mut server), b"");
    assert!(server.request(key).is_none());

    let mut client = client();
    assert_eq!(feed(&mut client, [rec(STDOUT, 9, b"x"), end(9, 0, 0)].concat()), []);
}

#[test]
fn fc_3_3_7_ids_are_small_and_reused_and_all_are_legal() {
    let mut client = mux_client(3);
    let keys: Vec<_> = (0..3).map(|_| get(&mut client)).collect();
    assert_eq!(keys.iter().map(|key| key.id()).collect::<Vec<_>>(), [1, 2, 3]);
    feed(&mut client, [end(2, 0, 0), end(1, 0, 0)].concat());
    assert_eq!([get(&mut client).id(), get(&mut client).id()], [1, 2]);

    for id in [1, 255, 256, 65_535] {
        let mut server = server();
        let (key, _) = requested(&feed(&mut server, post(id, KEEP, b"")));
        reply(&mut server, key, b"", 0);
        assert!(records(&sent(&mut server)).iter().all(|record| record.id == id));
    }
}

#[test]
fn fc_3_3_8_a_stream_does_not_depend_on_its_cuts() {
    for cuts in [vec![10], vec![1; 10], vec![3, 7], vec![9, 1]] {
        let mut server = server();
        let (key, _) = requested(&feed(&mut server, head(1, 1, 0)));
        let mut at = 0;
        for n in cuts {
            feed(&mut server, rec(STDIN, 1, &b"0123456789"[at..at + n]));
            at += n;
        }
        feed(&mut server, rec(STDIN, 1, b""));
        assert_eq!(read_in(&mut server, key, Input::Stdin), (b"0123456789".to_vec(), true));
    }
}

#[test]
fn fc_3_3_9_application_records_of_unknown_type_are_skipped() {
    for kind in [0, 12, 200] {
        let mut server = server();
        let wire =
            [begin(1, 1, 0), rec(kind, 1, b"?"), rec(PARAMS, 1, b""), rec(kind, 2, b"?")].concat();
        requested(&feed(&mut server, wire));
        assert_eq!(sent(&mut server), b"");

        let mut client = client();
        let key = get(&mut client);
        let events = feed(&mut client, [rec(kind, 1, b"?"), end(1, 0, 0)].concat());
        assert_eq!(finished(&events), [(key, Outcome::Complete { app_status: 0 })]);
    }
}

#[test]
fn fc_3_3_10_begin_for_an_active_id_is_fatal() {
    for before in [begin(7, 1, KEEP), post(7, KEEP, b"")] {
        let mut server = server();
        feed(&mut server, before);
        assert_eq!(feed_bad(&mut server, begin(7, 1, KEEP)), Kind::DuplicateBegin(7));
    }
}

#[test]
fn fc_3_3_11_h_8_w_11_records_of_the_wrong_direction_are_fatal() {
    for (kind, id) in
        [(END, 1), (STDOUT, 1), (STDERR, 1), (GET_VALUES_RESULT, 0), (UNKNOWN_TYPE, 0)]
    {
        let expected = Kind::WrongDirection(RecordType::from_u8(kind));
        assert_eq!(feed_bad(&mut server(), rec(kind, id, &[0; 8])), expected);
    }
    for (kind, id) in [(BEGIN, 1), (ABORT, 1), (PARAMS, 1), (STDIN, 1), (DATA, 1), (GET_VALUES, 0)]
    {
        let expected = Kind::WrongDirection(RecordType::from_u8(kind));
        assert_eq!(feed_bad(&mut client(), rec(kind, id, &[0; 8])), expected);
    }
    let text = Kind::WrongDirection(RecordType::GetValuesResult).to_string();
    assert_eq!(text, "GET_VALUES_RESULT record, which only this side may send");
}

#[test]
fn fc_3_3_12_data_after_a_streams_end_is_fatal_a_second_end_skipped() {
    let filter = [head(1, 3, 0), rec(STDIN, 1, b""), rec(DATA, 1, b"")].concat();
    for kind in [PARAMS, STDIN, DATA] {
        let record_type = RecordType::from_u8(kind);
        let mut server = server();
        requested(&feed(&mut server, &filter));
        assert_eq!(feed(&mut server, rec(kind, 1, b"")), []);
        let expected = Kind::DataAfterEnd { record_type, request_id: 1 };
        assert_eq!(feed_bad(&mut server, rec(kind, 1, b"x")), expected);
    }
    for kind in [STDOUT, STDERR] {
        let record_type = RecordType::from_u8(kind);
        let mut client = client();
        get(&mut client);
        feed(&mut client, rec(kind, 1, b""));
        assert_eq!(feed(&mut client, rec(kind, 1, b"")), []);
        let expected = Kind::DataAfterEnd { record_type, request_id: 1 };
        assert_eq!(feed_bad(&mut client, rec(kind, 1, b"x")), expected);
    }
}

#[test]
fn fc_3_4_1_fc_3_4_2_a_sender_uses_the_shortest_length() {
    let lengths = |name: usize, value: usize| {
        let mut wire = Vec::new();
        pairs::encode(&vec![b'n'; name], &vec![b'v'; value], &mut wire).unwrap();
        assert_eq!(wire.len(), pairs::encoded_len(name, value));
        wire.truncate(wire.len() - name - value);
        wire
    };
    assert_eq!(lengths(0, 0), [0, 0]);
    assert_eq!(lengths(127, 1), [127, 1]);
    assert_eq!(lengths(1, 128), [1, 0x80, 0, 0, 128]);
    assert_eq!(lengths(128, 0x1_0203), [0x80, 0, 0, 128, 0x80, 1, 2, 3]);
}

#[test]
fn fc_3_4_2_the_long_form_is_read_for_short_lengths() {
    let mut server = server();
    let long = b"\x80\0\0\x01\x80\0\0\x01NV\x80\0\0\0\0\x01\x80\0\0\x02Mvv";
    let wire = [begin(1, 1, 0), rec(PARAMS, 1, long), rec(PARAMS, 1, b"")].concat();
    let (_, params) = requested(&feed(&mut server, wire));
    assert_eq!(params, Params::from_iter([("N", "V"), ("", ""), ("M", "vv")]));
    assert_eq!(params.encoded_len(), 3 + 1 + 2 + 5, "kept in the shortest form");
}

#[test]
fn fc_3_4_3_pairs_may_be_cut_anywhere() {
    let pairs =
        [pair(b"NAME", b"value"), pair(&[b'n'; 130], b""), pair(b"", &[b'v'; 130])].concat();
    for cut in 0..=pairs.len() {
        let mut server = server();
        let mut wire = begin(1, 1, 0);
        for part in [&pairs[..cut], &pairs[cut..]] {
            if !part.is_empty() {
                wire.extend(rec(PARAMS, 1, part));
            }
        }
        wire.extend(rec(PARAMS, 1, b""));
        let (_, params) = requested(&feed(&mut server, wire));
        let expected: [(&[u8], &[u8]); 3] =
            [(b"NAME", b"value"), (&[b'n'; 130], b""), (b"", &[b'v'; 130])];
        assert!(params.iter().eq(expected), "cut at {cut}");
    }
}

#[test]
fn fc_3_4_4_h_7_names_and_values_are_bytes_in_order_with_duplicates() {
    let expected: [(&[u8], &[u8]); 5] =
        [(b"A", b"1"), (b"\xFF\0", b"\0\xC3\x28"), (b"A", b"2"), (b"", b""), (b"Z", b"\xFE")];
    let content: Vec<u8> = expected.iter().flat_map(|(name, value)| pair(name, value)).collect();
    let mut server = server();
    let wire = [begin(1, 1, 0), rec(PARAMS, 1, &content), rec(PARAMS, 1, b"")].concat();
    let (_, params) = requested(&feed(&mut server, wire));
    assert!(params.iter().eq(expected));
    assert_eq!((params.len(), params.get("A")), (5, Some(&b"2"[..])));
    assert_eq!((params.get("Z"), params.get_str("Z")), (Some(&b"\xFE"[..]), None));
}

/// What a server answers to a request of this role whose PARAMS are these.
fn bad_params(role: u16, limits: Limits, contents: &[&[u8]]) -> Vec<(u8, u16, Vec<u8>)> {
    let mut server = server_with(limits);
    let mut wire = begin(1, role, KEEP);
    contents.iter().for_each(|content| wire.extend(rec(PARAMS, 1, content)));
    wire.extend([rec(PARAMS, 1, b""), rec(STDIN, 1, b"body"), rec(STDIN, 1, b"")].concat());
    assert_eq!(feed(&mut server, wire), [], "the application never hears of it");
    let answer = brief(&sent(&mut server));
    requested(&feed(&mut server, post(1, KEEP, b"")));
    answer
}

fn assert_bad_request(answer: &[(u8, u16, Vec<u8>)]) {
    let [(STDOUT, 1, page), (STDOUT, 1, close), (END, 1, end)] = answer else {
        panic!("{answer:?}");
    };
    assert!(page.starts_with(b"Status: 400 "));
    assert_eq!((&close[..], &end[..]), (&b""[..], &[0, 0, 0, 1, 0, 0, 0, 0][..]));
}

#[test]
fn fc_3_4_5_params_that_end_inside_a_pair_fail_the_request() {
    for cut in [&b"\x04"[..], b"\x04\x05NAM", b"\x04\x05NAMEval", b"\x80\0\0"] {
        assert_bad_request(&bad_params(1, Limits::server(), &[&pair(b"A", b"B"), cut]));
    }
    let answer = bad_params(2, Limits::server(), &[b"\x01"]);
    assert!(matches!(answer[..], [(STDOUT, 1, _), (END, 1, _)]), "no page: {answer:?}");
}

#[test]
fn fc_3_4_5_params_past_the_limits_fail_the_request() {
    let mut limits = Limits::server();
    limits.params_bytes = 100;
    let fits = pair(b"N", &[b'v'; 97]);
    assert_bad_request(&bad_params(1, limits, &[&fits, &pair(b"", b"")]));
    assert_bad_request(&bad_params(1, limits, &[&pair(b"N", &[b'v'; 98])]));
    let mut server = server_with(limits);
    let wire = [begin(1, 1, 0), rec(PARAMS, 1, &fits), rec(PARAMS, 1, b"")].concat();
    requested(&feed(&mut server, wire));

    limits.params_pairs = 2;
    assert_bad_request(&bad_params(1, limits, &[&pair(b"A", b"B").repeat(3)]));
}

#[test]
fn fc_3_4_5_params_of_all_requests_have_a_limit() {
    let mut limits = Limits::server();
    limits.params_bytes_connection = 150;
    let mut server = server_with(limits);
    let hundred = pair(b"N", &[b'v'; 97]);
    for id in [1, 2] {
        feed(&mut server, [begin(id, 1, KEEP), rec(PARAMS, id, &hundred)].concat());
    }
    assert_eq!(records(&sent(&mut server)).last().unwrap().content[4], 2, "OVERLOADED");
    let events = feed(&mut server, rec(PARAMS, 1, b""));
    assert_eq!(requested(&events).0.id(), 1, "the other goes on");
    feed(&mut server, [begin(3, 1, KEEP), rec(PARAMS, 3, &hundred)].concat());
    requested(&feed(&mut server, rec(PARAMS, 3, b"")));
}

#[test]
fn h_1_lengths_near_2_31_fail_the_request() {
    for huge in [&[0xFF; 8][..], &[0x7F, 0xFF, 0xFF, 0xFF, 0xFF], &[0xFF, 0xFF, 0xFF, 0xFF, 0]] {
        assert_bad_request(&bad_params(1, Limits::server(), &[huge]));
    }
    let mut decoder = PairDecoder::new();
    let expected = PairPiece::Lengths { name: 0x7FFF_FFFF, value: 0x7FFF_FFFF };
    assert_eq!(decoder.next(&[0xFF; 8]), (8, Some(expected)));

    let mut client = client();
    client.query_values().unwrap();
    let events = feed(&mut client, rec(GET_VALUES_RESULT, 0, &[0xFF; 64]));
    assert_eq!(events.len(), 1, "no values, but an answer: {events:?}");
}

#[test]
fn h_4_a_payload_over_65535_bytes_is_split_never_cut_short() {
    for size in [65_528, 65_529, 65_535, 65_536, 65_537, 200_000] {
        let body: Vec<u8> = (0..size).map(|i| i as u8).collect();
        let mut client = client();
        let key = start(&mut client, Role::Responder);
        let mut bytes = Bytes::from(body.clone());
        client.request(key).unwrap().write(Input::Stdin, &mut bytes).unwrap();
        let wire = records(&sent(&mut client));
        let stdin = wire.into_iter().filter(|record| record.kind == STDIN);
        assert_eq!(stdin.flat_map(|record| record.content).collect::<Vec<_>>(), body);
    }
    let value = vec![b'v'; 200_000];
    let params = Params::from_iter([("A", &b"1"[..]), ("BIG", &value), ("Z", b"2")]);
    let mut client = client();
    let request = BeginRequest { role: Role::Responder, keep_conn: false, params: params.clone() };
    client.begin(request).unwrap();
    let (_, received) = requested(&feed(&mut server(), sent(&mut client)));
    assert_eq!(received, params);
}

#[test]
fn h_5_fc_5_1_1_fc_5_5_1_fixed_bodies_of_other_lengths_are_fatal() {
    for length in [0, 1, 4, 7, 9, 16, 300] {
        let kind = |record_type| Kind::ContentLength { record_type, length: length as u16 };
        let content = vec![0; length];
        let begin = feed_bad(&mut server(), rec(BEGIN, 1, &content));
        assert_eq!(begin, kind(RecordType::BeginRequest));
        let mut client = client();
        get(&mut client);
        assert_eq!(feed_bad(&mut client, rec(END, 1, &content)), kind(RecordType::EndRequest));
        let unknown = feed_bad(&mut common::client(), rec(UNKNOWN_TYPE, 0, &content));
        assert_eq!(unknown, kind(RecordType::UnknownType));
    }
}

#[test]
fn h_6_many_empty_pairs_fail_the_request() {
    let content = [0; 65_535];
    assert_bad_request(&bad_params(1, Limits::server(), &[&content[..]; 8]));
}

#[test]
fn h_13_fixed_bodies_may_be_cut_anywhere() {
    let wire = end(1, 0x0102_0304, 0);
    for cut in 1..wire.len() {
        let mut client = client();
        let key = get(&mut client);
        assert_eq!(feed(&mut client, &wire[..cut]), []);
        let events = feed(&mut client, &wire[cut..]);
        assert_eq!(finished(&events), [(key, Outcome::Complete { app_status: 0x0102_0304 })]);
    }
}

#[test]
fn q_1_params_records_hold_whole_pairs() {
    let mut params = Params::new();
    for size in [10, 30_000, 35_000, 60_000, 65_524, 65_529, 20, 65_400, 200, 300] {
        params.push("N", vec![b'v'; size]);
    }
    let mut client = client();
    client.begin(BeginRequest { role: Role::Responder, keep_conn: true, params }).unwrap();
    let all = records(&sent(&mut client));
    let params: Vec<_> = all.iter().filter(|record| record.kind == PARAMS).collect();
    assert!(params.len() > 4 && params.last().unwrap().content.is_empty());
    for record in params {
        let mut left = &record.content[..];
        let mut decoder = PairDecoder::new();
        while let (used, Some(_)) = decoder.next(left) {
            left = &left[used..];
        }
        assert!(decoder.is_at_boundary(), "a pair is cut after {} bytes", record.content.len());
    }
}

#[test]
fn the_framer_alone_reads_any_cut() {
    let wire = [padded(STDIN, 1, b"hello", 3), padded(STDIN, 1, b"", 5)].concat();
    let mut framer = Framer::new();
    let (mut headers, mut content, mut ends) = (0, 0, 0);
    for byte in &wire {
        let mut input = std::slice::from_ref(byte);
        loop {
            let (used, piece) = framer.next(input, usize::MAX).unwrap();
            input = &input[used..];
            match piece {
                Some(Piece::Header(_)) => headers += 1,
                Some(Piece::Content(n)) => content += n,
                Some(Piece::End) => ends += 1,
                None => break,
            }
        }
    }
    assert_eq!((headers, content, ends), (2, 5, 2));
    assert!(framer.is_at_boundary());
}

#[test]
fn receive_calls_out_of_turn_change_nothing() {
    let mut server = server();
    assert_eq!(server_recv(&mut server, 1), Err(UsageError::RecvOverrun { given: 1, room: 0 }));
    let room = fcgi_proto::Connection::recv_buffer(&mut server).len();
    let overrun = UsageError::RecvOverrun { given: room + 1, room };
    assert_eq!(server_recv(&mut server, room + 1), Err(overrun));
    assert_eq!(server_recv(&mut server, 0), Ok(()));
    requested(&feed(&mut server, post(1, KEEP, b"")));
    fcgi_proto::Connection::handle_eof(&mut server);
    assert_eq!(server_recv(&mut server, 1), Err(UsageError::AfterEof));
}

fn server_recv(server: &mut fcgi_proto::ServerConnection, n: usize) -> Result<(), UsageError> {
    fcgi_proto::Connection::handle_recv(server, n)
}
