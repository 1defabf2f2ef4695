//! Tests the pool against raw applications, and against the adapter's own server.

mod cancel;
mod keep;
mod limits;
mod retry;
mod shared;

use std::{collections::HashMap, sync::Arc, time::Duration};

use fcgi_engine::{Address, Error, Listener, client, client::Chunk, pool::Settings, server};

use super::{
    Case, Script, Step, Suite, TestPool, TestRequest, patient,
    signal::{Background, PATIENCE, background},
    wire::*,
};

pub(super) const CASES: &[&[(&str, Case)]] = &[
    keep::CASES,
    retry::CASES,
    limits::CASES,
    cancel::CASES,
    shared::CASES,
    cases!["pool": fifty_threads_of_the_adapters_own_server],
];

impl Suite {
    fn pool(&self, address: &Address, settings: Settings) -> Box<dyn TestPool> {
        self.adapter.pool(address, patient(), settings)
    }
}

/// Connections are kept, whatever their age, and callers wait long for one.
fn settings(connections: usize) -> Settings {
    let mut settings = Settings::new();
    settings.keep_conn = true;
    settings.limits.connections = connections;
    settings.limits.age = None;
    settings.limits.idle_timeout = PATIENCE;
    settings.limits.wait_timeout = Some(PATIENCE);
    settings
}

fn multiplexing() -> Settings {
    Settings { multiplex: 10, ..settings(1) }
}

fn numbered(n: usize) -> TestRequest {
    TestRequest::responder().param("N", n.to_string())
}

/// A request that somebody waits for.
type Call = Background<Result<Vec<u8>, Error>>;

fn call(pool: &dyn TestPool, request: TestRequest) -> Result<Vec<u8>, Error> {
    Ok(pool.send(request)?.collect(64 << 20)?.stdout.to_vec())
}

/// The next request's id and its parameter N; `None` at the end of the connection. Requests that
/// share the connection may interleave.
fn next(peer: &mut Peer) -> Option<(u16, Vec<u8>)> {
    let mut all = HashMap::<u16, Vec<u8>>::new();
    next_of(peer, &mut all)
}

/// As [`next`], with the PARAMS of requests that are not whole yet in `params`.
fn next_of(peer: &mut Peer, params: &mut HashMap<u16, Vec<u8>>) -> Option<(u16, Vec<u8>)> {
    loop {
        let record = peer.try_record().ok().flatten()?;
        match record.kind {
            Type::BeginRequest => assert_eq!(params.insert(record.id, Vec::new()), None),
            Type::Params => params.get_mut(&record.id).unwrap().extend(record.content),
            Type::Stdin if record.content.is_empty() => {
                let pairs = decode(&params.remove(&record.id).unwrap());
                let n = pairs.into_iter().find(|(name, _)| name == b"N").map(|(_, value)| value);
                return Some((record.id, n.unwrap_or_default()));
            }
            Type::Stdin => {}
            _ => panic!("{record:?}"),
        }
    }
}

/// Takes a request and answers with its number.
fn serve_one(peer: &mut Peer) -> bool {
    let Some((id, n)) = next(peer) else { return false };
    peer.send(answer(id, &n));
    true
}

/// As [`serve_one`]; gives the request's FCGI_KEEP_CONN.
fn serve_one_kept(peer: &mut Peer) -> bool {
    let begin = peer.record();
    assert_eq!(begin.kind, Type::BeginRequest);
    let params = peer.stream_of(Type::Params, begin.id);
    peer.stream_of(Type::Stdin, begin.id);
    peer.send(answer(begin.id, &decode(&params)[0].1));
    begin.content[2] == 1
}

/// Takes the connection on which GET_VALUES is asked, and answers it.
fn answer_values(app: &RawApp, pairs: &[(&str, &str)]) {
    let mut peer = app.accept();
    let asked = peer.record();
    assert_eq!((asked.kind, asked.id), (Type::GetValues, 0));
    assert_eq!(asked.content.len() % 8, 0, "Q-9");
    peer.send(record(Type::GetValuesResult, 0, &encode(pairs)));
    peer.expect_end();
}

/// Takes a request, sends a part of an answer, and waits for its abort.
fn aborted(peer: &mut Peer) -> u16 {
    let (id, _) = next(peer).unwrap();
    peer.send(record(Type::Stdout, id, b"part"));
    let abort = peer.record();
    assert_eq!((abort.kind, abort.id), (Type::AbortRequest, id));
    id
}

/// Sends a request and drops its response after the first part.
fn give_up(pool: &dyn TestPool, n: usize) {
    let mut response = pool.send(numbered(n)).unwrap();
    assert_eq!(response.chunk().unwrap(), Some(Chunk::Stdout("part".into())));
}

fn drained_within(limit: Duration) -> client::Settings {
    let mut connection = patient();
    connection.drain = limit;
    connection
}

const MULTIPLEXES: &[(&str, &str)] = &[("FCGI_MPXS_CONNS", "1"), ("FCGI_MAX_REQS", "50")];

fn fifty_threads_of_the_adapters_own_server(suite: &Suite) {
    let script = Script::new([Step::Param("N"), Step::Stdin]);
    let (_folder, _, address) = unix_address();
    let limits = server::Settings { web_server_addrs: None, ..server::Settings::from_env() };
    let serving = suite.adapter.serve(Listener::bind(address).unwrap(), limits, script);
    for multiplex in [1, 20] {
        let settings = Settings { multiplex, ..settings(4) };
        let pool: Arc<dyn TestPool> = Arc::from(suite.pool(serving.address(), settings));
        let callers: Vec<_> = (0..50)
            .map(|n| {
                let pool = Arc::clone(&pool);
                background(move || {
                    for round in 0..10 {
                        let body = vec![b'a' + round; 3_000 * usize::from(round)];
                        let request = numbered(n)
                            .param("CONTENT_LENGTH", body.len().to_string())
                            .stdin(body.clone());
                        let expected = [n.to_string().as_bytes(), &body].concat();
                        assert_eq!(call(&*pool, request).unwrap(), expected);
                    }
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join());
        assert!(pool.stats().connections <= 4);
    }
}
