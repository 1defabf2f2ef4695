//! Conversations: well-formed records, records that are not, and limits.

use fcgi_proto::{FullRequest, Limits, Role, pairs};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::support::*;

/// One record of a conversation, well-formed or not.
pub(crate) fn any_record(types: &'static [(u32, u8)]) -> impl Strategy<Value = Vec<u8>> {
    let kind = proptest::sample::select(
        types.iter().flat_map(|(n, t)| vec![*t; *n as usize]).collect::<Vec<_>>(),
    );
    let content = prop_oneof![
        3 => Just(Vec::new()),
        4 => vec(any::<u8>(), 0..20),
        2 => vec(any::<u8>(), 0..600),
        1 => pair_block(),
        1 => (0usize..4000).prop_map(|n| vec![n as u8; n]),
    ];
    let id = prop_oneof![12 => 1u16..4, 1 => Just(0), 1 => any::<u16>()];
    (kind, id, content, prop_oneof![3 => Just(0u8), 1 => any::<u8>()], any::<[u8; 8]>()).prop_map(
        |(kind, id, content, padding, body)| match kind {
            // Bodies of the length that they must have, most of the time.
            BEGIN if body[7] < 250 => {
                let role = [0, body[0] % 4, body[1] | u8::from(body[2] > 40), 0, 0, 0, 0, 0];
                record(kind, id, &role, padding)
            }
            END if body[7] < 250 => {
                let status = if body[0] < 200 { 0 } else { body[0] % 5 };
                end(id, u32::from(body[1]), status)
            }
            ABORT => record(kind, id, &[], padding),
            GET_VALUES..=11 if body[7] < 250 => {
                let content = if kind == 11 { &body[..] } else { &content };
                record(kind, 0, content, padding)
            }
            _ => record(kind, id, &content, padding),
        },
    )
}

pub(crate) const TO_SERVER: &[(u32, u8)] =
    &[(6, BEGIN), (2, ABORT), (8, PARAMS), (8, STDIN), (3, DATA), (2, GET_VALUES), (1, 77)];
pub(crate) const TO_CLIENT: &[(u32, u8)] =
    &[(8, STDOUT), (5, STDERR), (3, END), (2, GET_VALUES_RESULT), (1, 11), (1, 77)];

pub(crate) fn pair_block() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        3 => vec(any::<u8>(), 0..8),
        1 => Just(b"FCGI_MAX_CONNS".to_vec()),
        1 => Just(b"FCGI_MPXS_CONNS".to_vec()),
        1 => vec(any::<u8>(), 120..140),
    ];
    vec((name, vec(any::<u8>(), 0..140), any::<bool>()), 0..6).prop_map(|pairs| {
        let mut out = Vec::new();
        for (name, value, long) in pairs {
            if long {
                // The four-byte form, which a receiver takes for short lengths too (FC-3.4-2).
                for len in [name.len(), value.len()] {
                    out.extend((len as u32 | 0x8000_0000).to_be_bytes());
                }
                out.extend(name);
                out.extend(value);
            } else {
                pairs::encode(&name, &value, &mut out).unwrap();
            }
        }
        out
    })
}

/// A whole request of some role, as records.
pub(crate) fn whole_request(id: u16) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let body = || vec(vec(any::<u8>(), 1..300), 0..4);
    (1u16..4, pair_block(), vec(1usize..60, 1..4), body(), body(), any::<u8>()).prop_map(
        move |(role, params, cuts, stdin, data, how)| {
            let mut out = vec![begin(id, role, how & 1)];
            let mut rest = &params[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at(rest.len().min(*cut));
                out.push(record(PARAMS, id, now, how));
                rest = later;
            }
            out.push(record(PARAMS, id, &[], 0));
            if role != 2 {
                out.extend(stdin.iter().map(|chunk| record(STDIN, id, chunk, 3)));
                out.push(record(STDIN, id, &[], how));
            }
            if role == 3 {
                out.extend(data.iter().map(|chunk| record(DATA, id, chunk, 0)));
                out.push(record(DATA, id, &[], 0));
            }
            if how > 230 {
                out.insert(out.len() / 2, record(ABORT, id, &[], 0));
            }
            out
        },
    )
}

/// Three requests at once, each in its order.
pub(crate) fn interleaved() -> impl Strategy<Value = Vec<u8>> {
    let requests = (whole_request(1), whole_request(2), whole_request(3));
    (requests, vec(0usize..3, 0..60)).prop_map(|((a, b, c), order)| {
        let mut queues = [a, b, c].map(|records| records.into_iter());
        let mut out = Vec::new();
        for i in order {
            out.extend(queues[i].next().unwrap_or_default());
        }
        out.extend(queues.into_iter().flatten().flatten());
        out
    })
}

pub(crate) fn mutated(bytes: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = vec((any::<Index>(), 0u8..4, any::<u8>()), 1..4);
    (bytes, edits).prop_map(|(mut bytes, edits)| {
        for (at, how, value) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, value),
            }
        }
        bytes
    })
}

pub(crate) fn server_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => interleaved(),
        4 => vec(any_record(TO_SERVER), 0..40).prop_map(|records| records.concat()),
        4 => mutated(interleaved()),
        1 => vec(any::<u8>(), 0..200),
    ]
}

pub(crate) fn client_bytes() -> impl Strategy<Value = Vec<u8>> {
    let soup = || vec(any_record(TO_CLIENT), 0..40).prop_map(|records| records.concat());
    prop_oneof![
        6 => soup(),
        3 => mutated(soup()),
        1 => vec(any::<u8>(), 0..200),
    ]
}

/// Limits from the defaults down to ones that every conversation runs into.
pub(crate) fn limits(base: Limits) -> impl Strategy<Value = Limits> {
    let small = (
        (8usize..5000, 1usize..500, 1usize..800, 1usize..12, 1usize..4),
        (1usize..700, 1usize..1000, any::<bool>(), 1usize..2000, 1usize..300),
        (0u32..20, 0u32..40, 0usize..3),
    );
    let small = small.prop_map(move |(a, b, c)| {
        let mut limits = base;
        (limits.recv_buffer, limits.params_bytes, limits.params_bytes_connection, ..) = a;
        (_, _, _, limits.params_pairs, limits.requests) = a;
        (limits.unread_request, limits.unread_connection, ..) = b;
        limits.full_request = if b.2 { FullRequest::Abort } else { FullRequest::Pause };
        (_, _, _, limits.send_high_water, limits.reply_bytes) = b;
        (limits.idle_records, limits.tiny_records, limits.tombstones) = c;
        limits.stray_bytes = 100 * c.0 as usize;
        limits
    });
    let mut many = base;
    many.requests = 8;
    prop_oneof![1 => Just(base), 2 => Just(many), 3 => small]
}

pub(crate) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        1 => Just(vec![1]),
        1 => Just(vec![usize::MAX]),
        3 => vec(1usize..40, 1..8),
        2 => vec(1usize..2000, 1..8),
    ]
}

pub(crate) fn role() -> impl Strategy<Value = Role> {
    proptest::sample::select(vec![Role::Responder, Role::Authorizer, Role::Filter])
}
