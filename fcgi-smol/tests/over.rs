//! A server and a client over a stream that is not a socket.

#[path = "../../fcgi-testkit/programs/over.rs"]
mod program;
#[path = "../examples/runtime/mod.rs"]
mod runtime;

use fcgi_smol as fcgi;

#[test]
fn a_stream_in_memory_is_served_and_called() {
    program::serve_and_call(|| fcgi_testkit::duplex::duplex(1024));
}

#[test]
fn a_stream_whose_client_is_gone_is_not_served_for_ever() {
    program::serve_until_the_client_is_gone(|| fcgi_testkit::duplex::duplex(1024));
}

#[test]
fn a_half_closed_unix_socket_is_answered() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    program::answer_a_half_closed_peer(|| smol::Async::new(ours).unwrap(), theirs);
}

#[test]
fn a_signal_lets_the_request_under_way_finish() {
    program::leave_after_the_request_under_way(|| fcgi_testkit::duplex::duplex(1024));
}

#[test]
fn a_signal_ends_a_connection_without_a_request() {
    program::leave_without_a_request(|| fcgi_testkit::duplex::duplex(1024));
}

#[test]
fn a_half_closed_unix_socket_of_the_runtime_s_own_is_answered() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    program::answer_a_half_closed_peer(
        || smol::net::unix::UnixStream::try_from(ours).unwrap(),
        theirs,
    );
}
