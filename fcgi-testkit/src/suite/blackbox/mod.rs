//! Tests the example programs from outside, with raw bytes: every rule of the protocol, and every
//! known fault of a peer, that `echo` or `call` can show. The name of a case ends in the ids of the
//! requirements that it tests.

mod call_hostile;
mod call_rules;
mod echo_connection;
mod echo_framing;
mod echo_hostile;
mod echo_params;
mod echo_requests;

use super::{
    Case, Suite,
    programs::{Running, proc_status},
    signal::until,
    wire::{Answer, KEEP, Peer, complete, request},
};

pub(super) const CASES: &[&[(&str, Case)]] = &[
    echo_framing::CASES,
    echo_params::CASES,
    echo_connection::CASES,
    echo_requests::CASES,
    echo_hostile::CASES,
    call_rules::CASES,
    call_hostile::CASES,
];

const HEAD: &str = "Content-Type: text/plain\r\n\r\n";

/// A parameter that keeps a request of `echo` active for as long as a test lasts.
const SLEEPS: [(&str, &str); 1] = [("ECHO_SLEEP_MS", "3600000")];

/// A running `echo`.
struct Echo(Running);

impl Suite {
    fn echo_program(&self) -> Echo {
        Echo(self.programs().start("echo"))
    }
}

impl Echo {
    fn dial(&self) -> Peer {
        self.0.dial()
    }

    /// Checks that it still serves others.
    fn assert_alive(&self) {
        let mut peer = self.dial();
        peer.send(request(1, KEEP, &[("A", "1")], b"body"));
        assert_eq!(peer.answer(1), echoed(&[("A", "1")], "body"));
    }

    /// Its peak memory, in KiB.
    fn peak_memory(&self) -> u64 {
        proc_status(self.0.child.id(), "VmHWM")
    }

    /// Waits until it has closed every connection.
    fn until_closed(&self) {
        until("the connections are closed", || self.0.connections() == 0);
    }
}

/// The memory that a peer's connection may cost, in KiB: limits, threads and what an allocator
/// keeps.
const SOME_MEMORY: u64 = 48 * 1024;

/// `echo`'s answer to these parameters and this body.
fn echoed(pairs: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    echoed_bytes(&pairs, body)
}

fn echoed_bytes(pairs: &[(&[u8], &[u8])], body: impl AsRef<[u8]>) -> Answer {
    let mut text = HEAD.as_bytes().to_vec();
    for (name, value) in pairs {
        text.extend([name, &b"="[..], value, b"\n"].concat());
    }
    text.push(b'\n');
    text.extend_from_slice(body.as_ref());
    complete(text)
}
