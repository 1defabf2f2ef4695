//! H-13: the same bytes in other pieces are the same events.

use fcgi_proto::{
    Connection, Input, Limits, Params, ServerConfig, ServerConnection,
    server::{Event, Whole},
};
use proptest::{collection::vec, prelude::*};

use crate::{conversations::*, log::*, support::*};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// H-13: at the application, any cut of the same bytes gives the same events, and the same
    /// answers to the reads between them.
    #[test]
    fn server_any_cut(
        bytes in server_bytes(),
        limits in limits(Limits::server()),
        (a, b) in (cuts(), cuts()),
        max in prop_oneof![Just(usize::MAX), 1usize..100],
    ) {
        let server = || ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() });
        let (a, b) = (run(server(), &bytes, &a, usize::MAX), run(server(), &bytes, &b, max));
        prop_assert_eq!(&a, &b);
        let (_, rest) = parse(&a.sent);
        prop_assert_eq!(rest, 0);
    }

    /// H-13: a request's start that comes whole is the same request as one that comes cut.
    #[test]
    fn server_whole_start(
        (role, keep, pads, with_end) in (0u16..5, any::<u8>(), any::<[u8; 3]>(), any::<bool>()),
        params in vec(pair_block(), 0..3).prop_map(|blocks| blocks.concat()),
        (cut_short, behind) in (0u8..8, prop_oneof![Just(Vec::new()), server_bytes()]),
        limits in limits(Limits::server()),
        cuts in cuts(),
    ) {
        let params = &params[..params.len() - usize::from(cut_short == 0 && !params.is_empty())];
        let pads = pads.map(|pad| if pad < 128 { 0 } else { pad });
        let mut bytes = [
            begin(1, role, keep),
            record(PARAMS, 1, params, pads[0]),
            record(PARAMS, 1, &[], pads[1]),
        ]
        .concat();
        if with_end {
            bytes.extend(record(STDIN, 1, &[], pads[2]));
        }
        bytes.extend(behind);
        let server = || ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() });
        let whole = run(server(), &bytes, &[usize::MAX], usize::MAX);
        prop_assert_eq!(&whole, &run(server(), &bytes, &cuts, usize::MAX));
        prop_assert_eq!(&whole, &run(server(), &bytes, &[1], usize::MAX));
    }

    /// H-13: requests that are asked for whole are the same ones, and end with the same bytes, as
    /// those that events report, at any cut.
    #[test]
    fn server_whole_requests(
        wires in vec(prop_oneof![4 => request_bytes(), 1 => server_bytes()], 1..5),
        limits in limits(Limits::server()),
        cuts in cuts(),
    ) {
        let bytes = wires.concat();
        let by_event = answered(limits, &bytes, &[usize::MAX], false);
        prop_assert_eq!(&by_event, &answered(limits, &bytes, &[usize::MAX], true));
        prop_assert_eq!(&by_event, &answered(limits, &bytes, &cuts, true));
        prop_assert_eq!(&by_event, &answered(limits, &bytes, &[1], true));
    }

    /// H-13: at the web server.
    #[test]
    fn client_any_cut(
        bytes in client_bytes(),
        limits in limits(Limits::client()),
        query: bool,
        (a, b) in (cuts(), cuts()),
        max in prop_oneof![Just(usize::MAX), 1usize..100],
    ) {
        let client = || client_with(limits, query).0;
        let (a, b) = (run(client(), &bytes, &a, usize::MAX), run(client(), &bytes, &b, max));
        prop_assert_eq!(&a, &b);
        prop_assert_eq!(a.active, 0);
        prop_assert!(a.closed);
        let (_, rest) = parse(&a.sent);
        prop_assert_eq!(rest, 0);
    }
}

/// A request of any role, mostly one that comes whole on a connection that stays open.
fn request_bytes() -> impl Strategy<Value = Vec<u8>> {
    let keep = prop_oneof![9 => Just(1u8), 1 => any::<u8>()];
    let body = prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<u8>(), 1..40)];
    let padding = || prop_oneof![3 => Just(0u8), 1 => any::<u8>()];
    (1u16..4, 0u16..5, keep, pair_block(), body, [padding(), padding(), padding()]).prop_map(
        |(id, role, keep, params, body, pads)| {
            let mut bytes = begin(id, role, keep);
            bytes.extend(record(PARAMS, id, &params, pads[0]));
            bytes.extend(record(PARAMS, id, &[], pads[1]));
            if !body.is_empty() {
                bytes.extend(record(STDIN, id, &body, pads[2]));
            }
            bytes.extend(record(STDIN, id, &[], pads[2]));
            if role == 3 {
                bytes.extend(record(DATA, id, &[], 0));
            }
            bytes
        },
    )
}

/// What an application sees and sends that ends each request once all of its input has come. With
/// `whole` it asks for whole requests first.
fn answered(limits: Limits, bytes: &[u8], cuts: &[usize], whole: bool) -> Log {
    let mut server = ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() });
    let mut log = Log::default();
    let (mut at, mut cuts) = (0, cuts.iter().cycle());
    loop {
        answer(&mut server, &mut log, whole);
        if transmit(&mut server, usize::MAX, &mut log.sent) > 0 {
            continue;
        }
        if at < bytes.len() && server.wants_read() {
            at += feed(&mut server, &bytes[at..], *cuts.next().unwrap());
        } else {
            break;
        }
    }
    server.handle_eof();
    answer(&mut server, &mut log, whole);
    transmit(&mut server, usize::MAX, &mut log.sent);
    // Which of two streams is read first depends on when their ends are told.
    log.reads.clear();
    (log.closed, log.active) = (server.is_closed(), server.active_requests());
    log
}

fn answer(server: &mut ServerConnection, log: &mut Log, whole: bool) {
    let memory = Params::from_iter([("OF_ANOTHER", "request")]);
    loop {
        let first = if whole { server.poll_whole(|| memory.clone()) } else { None };
        let event = match first {
            Some(Whole { key, role, keep_conn, params }) => {
                let request = server.request(key).expect("active");
                assert!(request.is_input_complete(), "whole");
                Ok(Some(Event::Request { key, role, params, keep_conn }))
            }
            None => server.poll_event(),
        };
        let (key, inputs) = match event {
            Ok(Some(Event::Request { key, role, params, keep_conn })) => {
                log.seen.push(Seen::Request(key, role, params, keep_conn));
                (key, &[Input::Stdin, Input::Data][..])
            }
            Ok(Some(Event::Readable { key, input: Input::Stdin })) => (key, &[Input::Stdin][..]),
            Ok(Some(Event::Readable { key, input: Input::Data })) => (key, &[Input::Data][..]),
            Ok(Some(Event::Aborted { key, reason })) => {
                log.seen.push(Seen::Aborted(key, reason));
                (key, &[][..])
            }
            Ok(Some(Event::Writable { .. })) => panic!("nothing was written"),
            Ok(None) => return,
            Err(error) => {
                log.error = Some(error);
                return;
            }
        };
        for input in inputs {
            let Some(mut request) = server.request(key) else { continue };
            while log.put(key, *input == Input::Data, request.read(*input, usize::MAX)) {}
        }
        let request = server.request(key).expect("active");
        if request.is_input_complete() || request.is_aborted() {
            request.finish(7).expect("active");
        }
    }
}
