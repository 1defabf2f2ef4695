//! What `{:?}` shows of a connection.

use bytes::Bytes;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Params, Role, ServerConfig,
    ServerConnection,
};

#[test]
fn nothing_of_what_passes_through() {
    let mut client = ClientConnection::new(ClientConfig::default());
    let params = Params::from_iter([("HTTP_AUTHORIZATION", "Basic c2VjcmV0")]);
    let begin = BeginRequest { role: Role::Responder, keep_conn: true, params };
    let key = client.begin(&begin).unwrap();
    let mut body = Bytes::from_static(&[b's'; 10_000]);
    client.request(key).unwrap().write(Input::Stdin, &mut body).unwrap();
    assert!(format!("{client:?}").len() < 200, "{client:?}");
    let queued = client.poll_transmit().unwrap();
    assert!(format!("{queued:?}").len() < 100, "{queued:?}");

    let bytes = bytes::Buf::chunk(&queued).to_vec();
    let mut server = ServerConnection::new(ServerConfig::default());
    server.recv_buffer()[..bytes.len()].copy_from_slice(&bytes);
    server.handle_recv(bytes.len()).unwrap();
    while server.poll_event().unwrap().is_some() {}
    assert!(format!("{server:?}").len() < 200, "{server:?}");
}
