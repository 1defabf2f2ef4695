//! What the rules tests share: records made and read by hand, and a socket's work without a socket.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses its part")]

use bytes::{Buf, Bytes};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Limits, Output, Params,
    ProtocolError, ProtocolErrorKind, RequestKey, Role, ServerConfig, ServerConnection, client,
    server,
};
use std::task::Poll;

pub const BEGIN: u8 = 1;
pub const ABORT: u8 = 2;
pub const END: u8 = 3;
pub const PARAMS: u8 = 4;
pub const STDIN: u8 = 5;
pub const STDOUT: u8 = 6;
pub const STDERR: u8 = 7;
pub const DATA: u8 = 8;
pub const GET_VALUES: u8 = 9;
pub const GET_VALUES_RESULT: u8 = 10;
pub const UNKNOWN_TYPE: u8 = 11;

pub const KEEP: u8 = 1;

/// A record as the specification has it, not as the crate has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rec {
    pub kind: u8,
    pub id: u16,
    pub content: Vec<u8>,
    pub padding: usize,
    pub reserved: u8,
}

/// A record with this padding, whose bytes are rubbish.
pub fn padded(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let len = u16::try_from(content.len()).expect("content fits a record").to_be_bytes();
    let id = id.to_be_bytes();
    let mut wire = vec![1, kind, id[0], id[1], len[0], len[1], padding, 0];
    wire.extend_from_slice(content);
    wire.resize(wire.len() + usize::from(padding), 0xA5);
    wire
}

pub fn rec(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    padded(kind, id, content, 0)
}

pub fn begin(id: u16, role: u16, flags: u8) -> Vec<u8> {
    let role = role.to_be_bytes();
    rec(BEGIN, id, &[role[0], role[1], flags, 0, 0, 0, 0, 0])
}

pub fn end(id: u16, app_status: u32, protocol_status: u8) -> Vec<u8> {
    let mut body = app_status.to_be_bytes().to_vec();
    body.extend_from_slice(&[protocol_status, 0, 0, 0]);
    rec(END, id, &body)
}

/// A pair in the shortest form.
pub fn pair(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for len in [name.len(), value.len()] {
        if len < 128 {
            wire.push(len as u8);
        } else {
            wire.extend_from_slice(&(len as u32 | 0x8000_0000).to_be_bytes());
        }
    }
    wire.extend_from_slice(name);
    wire.extend_from_slice(value);
    wire
}

/// BEGIN_REQUEST of a role, one parameter, the end of PARAMS.
pub fn head(id: u16, role: u16, flags: u8) -> Vec<u8> {
    [begin(id, role, flags), rec(PARAMS, id, &pair(b"N", b"V")), rec(PARAMS, id, b"")].concat()
}

/// A whole Responder request with this body.
pub fn post(id: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut wire = head(id, 1, flags);
    if !body.is_empty() {
        wire.extend(rec(STDIN, id, body));
    }
    wire.extend(rec(STDIN, id, b""));
    wire
}

/// The records in these bytes, which must be whole.
pub fn records(mut wire: &[u8]) -> Vec<Rec> {
    let mut all = Vec::new();
    while !wire.is_empty() {
        assert_eq!(wire[0], 1, "FC-3.3-4");
        let len = usize::from(u16::from_be_bytes([wire[4], wire[5]]));
        let padding = usize::from(wire[6]);
        all.push(Rec {
            kind: wire[1],
            id: u16::from_be_bytes([wire[2], wire[3]]),
            content: wire[8..8 + len].to_vec(),
            padding,
            reserved: wire[7],
        });
        wire = &wire[8 + len + padding..];
    }
    all
}

/// The types, ids and contents, for comparing.
pub fn brief(wire: &[u8]) -> Vec<(u8, u16, Vec<u8>)> {
    records(wire).into_iter().map(|r| (r.kind, r.id, r.content)).collect()
}

/// What came of offering bytes.
#[derive(Debug)]
pub struct Fed<E> {
    /// How many bytes the connection took before it paused or failed.
    pub taken: usize,
    pub events: Vec<E>,
    pub error: Option<ProtocolError>,
}

/// Offers bytes as a socket would, until the connection takes no more.
pub fn offer<C: Connection>(connection: &mut C, bytes: &[u8]) -> Fed<C::Event> {
    let mut fed = Fed { taken: 0, events: Vec::new(), error: None };
    loop {
        loop {
            match connection.poll_event() {
                Ok(Some(event)) => fed.events.push(event),
                Ok(None) => break,
                Err(error) => {
                    fed.error = Some(error);
                    return fed;
                }
            }
        }
        let window = connection.recv_buffer();
        let n = window.len().min(bytes.len() - fed.taken);
        if n == 0 {
            return fed;
        }
        window[..n].copy_from_slice(&bytes[fed.taken..fed.taken + n]);
        connection.handle_recv(n).expect("the window has room");
        fed.taken += n;
    }
}

/// Offers bytes that must all be taken without an error; gives the events.
pub fn feed<C: Connection>(connection: &mut C, bytes: impl AsRef<[u8]>) -> Vec<C::Event> {
    let bytes = bytes.as_ref();
    let fed = offer(connection, bytes);
    assert_eq!(fed.error, None);
    assert_eq!(fed.taken, bytes.len(), "paused");
    fed.events
}

/// Offers bytes that must fail, and checks that the error is sticky.
pub fn feed_bad<C: Connection>(connection: &mut C, bytes: impl AsRef<[u8]>) -> ProtocolErrorKind {
    let error = offer(connection, bytes.as_ref()).error.expect("a protocol error");
    assert_eq!(connection.error(), Some(error));
    assert_eq!(connection.poll_event().err(), Some(error), "sticky");
    assert!(connection.recv_buffer().is_empty() && !connection.wants_read());
    error.kind
}

/// Everything that is queued, sent.
pub fn sent<C: Connection>(connection: &mut C) -> Vec<u8> {
    let mut wire = Vec::new();
    while let Some(mut out) = connection.poll_transmit() {
        let n = out.chunk().len();
        wire.extend_from_slice(out.chunk());
        out.advance(n);
    }
    wire
}

pub fn server() -> ServerConnection {
    ServerConnection::new(ServerConfig::default())
}

pub fn server_with(limits: Limits) -> ServerConnection {
    ServerConnection::new(ServerConfig { limits, ..ServerConfig::default() })
}

pub fn client() -> ClientConnection {
    ClientConnection::new(ClientConfig::default())
}

/// A client that multiplexes.
pub fn mux_client(requests: usize) -> ClientConnection {
    let mut limits = Limits::client();
    limits.requests = requests;
    ClientConnection::new(ClientConfig { limits })
}

/// The one request that these events announce.
pub fn requested(events: &[server::Event]) -> (RequestKey, Params) {
    let mut found = events.iter().filter_map(|event| match event {
        server::Event::Request { key, params, .. } => Some((*key, params.clone())),
        _ => None,
    });
    let one = found.next().expect("a request");
    assert!(found.next().is_none(), "one request");
    one
}

pub fn finished(events: &[client::Event]) -> Vec<(RequestKey, client::Outcome)> {
    let finished = |event: &client::Event| match event {
        client::Event::Finished { key, outcome } => Some((*key, *outcome)),
        _ => None,
    };
    events.iter().filter_map(finished).collect()
}

/// Starts a request with one parameter.
pub fn start(client: &mut ClientConnection, role: Role) -> RequestKey {
    let params = Params::from_iter([("N", "V")]);
    client.begin(BeginRequest { role, keep_conn: true, params }).expect("room for a request")
}

/// Starts a Responder request without a body, and drops the bytes that it sends.
pub fn get(client: &mut ClientConnection) -> RequestKey {
    let key = start(client, Role::Responder);
    client.request(key).unwrap().finish(Input::Stdin).unwrap();
    sent(client);
    key
}

/// What can be read of a request's input now, and whether it has ended.
pub fn read_in(server: &mut ServerConnection, key: RequestKey, input: Input) -> (Vec<u8>, bool) {
    let Some(mut request) = server.request(key) else { return (Vec::new(), true) };
    collect(|| request.read(input, usize::MAX))
}

/// What can be read of a request's output now, and whether it has ended.
pub fn read_out(client: &mut ClientConnection, key: RequestKey, output: Output) -> (Vec<u8>, bool) {
    let Some(mut request) = client.request(key) else { return (Vec::new(), true) };
    collect(|| request.read(output, usize::MAX))
}

fn collect(mut read: impl FnMut() -> Poll<Option<Bytes>>) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    loop {
        match read() {
            Poll::Ready(Some(chunk)) => all.extend_from_slice(&chunk),
            Poll::Ready(None) => return (all, true),
            Poll::Pending => return (all, false),
        }
    }
}

pub fn reply(server: &mut ServerConnection, key: RequestKey, body: &[u8], status: u32) {
    let mut request = server.request(key).expect("an active request");
    let mut body = Bytes::copy_from_slice(body);
    request.write(Output::Stdout, &mut body).unwrap();
    assert!(body.is_empty(), "no room for the reply");
    request.finish(status).unwrap();
}

/// END_REQUEST's content.
pub fn ended(app_status: u8, protocol_status: u8) -> Vec<u8> {
    vec![0, 0, 0, app_status, protocol_status, 0, 0, 0]
}
