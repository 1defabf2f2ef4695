//! How much heap a connection holds: next to nothing when idle, and never more than `Limits` say,
//! whatever the peer sends (H-1, H-6, H-9, H-12).

mod hostile;
mod idle;
mod meter;
#[path = "../support/mod.rs"]
mod support;

use fcgi_proto::{BeginRequest, ClientConfig, ClientConnection, Limits, Params, RequestKey, Role};

use support::discard_transmit;

/// The most heap that one connection of these limits may ever take, with `requests` of them known
/// to the connection.
///
/// - **Receive buffers**: 2 × `recv_buffer`, the current one and the one that it replaces.
/// - **Unread streams**: 4 × `unread_connection`, since a slice is shared only when it is at least
///   a quarter of its buffer, and a copied tail at most doubles (3 × while it is moved).
/// - **PARAMS**: 3 × `params_bytes_connection`: the block at most doubles, and is there twice
///   while it moves.
/// - **Send queue**: what is queued (`send_high_water`, `reply_bytes`, and the answer that passed
///   them), × 2 for a sent part not yet cut off, × 2 for growth, + 1 × while it moves; what the
///   application gave as `Bytes` is its own.
/// - **Requests**: 1 KiB of bookkeeping each, its place in the index and its keys included, and
///   12 KiB for the index's upper level, which moves as it grows.
/// - 4 KiB for everything else.
fn bound(limits: &Limits, requests: usize) -> usize {
    let queued = limits.send_high_water + limits.reply_bytes + 4096;
    2 * limits.recv_buffer
        + 4 * limits.unread_connection
        + 3 * limits.params_bytes_connection
        + 6 * queued
        + 1024 * requests
        + 12 * 1024
        + 4096
}

const IDLE: usize = 1024;
const BODY: usize = 5 * 1024 * 1024;
static ZEROS: [u8; BODY] = [0; BODY];

/// Limits that a test reaches soon.
fn small(limits: Limits) -> Limits {
    let mut limits = limits;
    limits.recv_buffer = 8 * 1024;
    limits.params_bytes = 8 * 1024;
    limits.params_bytes_connection = 16 * 1024;
    limits.params_pairs = 64;
    limits.unread_request = 16 * 1024;
    limits.unread_connection = 32 * 1024;
    limits.send_high_water = 16 * 1024;
    limits.reply_bytes = 2 * 1024;
    limits
}

fn one_request(limits: Limits, requests: usize) -> (ClientConnection, Vec<RequestKey>) {
    let mut client = ClientConnection::new(ClientConfig { limits });
    let keys = (0..requests)
        .map(|_| {
            let params = Params::from_iter([("REQUEST_METHOD", "GET")]);
            let begin = BeginRequest { role: Role::Responder, keep_conn: true, params };
            client.begin(begin).unwrap()
        })
        .collect();
    discard_transmit(&mut client);
    (client, keys)
}
