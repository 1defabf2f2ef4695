//! Name-value pairs.

use super::{SOME_MEMORY, echoed, echoed_bytes};
use crate::suite::{Case, Suite, signal::pattern, wire::*};

pub(super) const CASES: &[(&str, Case)] = cases![
    "blackbox::echo":
    fc_3_4_1_lengths_of_both_forms,
    fc_3_4_2_long_form_of_short_lengths,
    fc_3_4_3_pairs_may_be_cut_anywhere,
    fc_3_4_4_order_duplicates_empty_and_binary_h_7,
    fc_3_4_5_a_stream_that_ends_inside_a_pair_fails_its_request,
    fc_3_4_5_other_roles_get_no_page,
    h_1_lengths_near_the_largest_cost_nothing,
    h_6_half_a_megabyte_of_empty_pairs,
    h_9_endless_params_fail_their_request,
];

/// A Responder request with PARAMS of this content.
fn with_params(content: &[u8]) -> Vec<u8> {
    [
        begin(1, RESPONDER, KEEP),
        stream(Type::Params, 1, content),
        close(Type::Params, 1),
        stream(Type::Stdin, 1, b"body"),
        close(Type::Stdin, 1),
    ]
    .concat()
}

/// The answer is a page with status 400 and END_REQUEST, and the connection can be used again.
fn assert_bad_request(peer: &mut Peer, wire: Vec<u8>, what: &str) {
    let sending = peer.send_beside(wire);
    let answer = peer.answer(1);
    assert!(answer.stdout.starts_with(b"Status: 400"), "{what}: {answer:?}");
    assert!(answer.stdout_closed, "{what}: {answer:?}");
    assert_eq!(answer.protocol_status, 0, "{what}: {answer:?}");
    assert!(sending.join(), "{what}");
    peer.send(request(1, KEEP, &[("A", "1")], b"next"));
    assert_eq!(peer.answer(1), echoed(&[("A", "1")], "next"), "{what}");
}

fn fc_3_4_1_lengths_of_both_forms(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for name_length in [1, 126, 127, 128, 129, 300, 70_000] {
        for value_length in [0, 1, 127, 128, 255, 256, 70_000] {
            let name = vec![b'N'; name_length];
            let value = vec![b'v'; value_length];
            let sending = peer.send_beside(with_params(&pair(&name, &value)));
            let expected = echoed_bytes(&[(&name, &value)], "body");
            assert!(peer.answer(1) == expected, "{name_length} and {value_length}");
            assert!(sending.join());
        }
    }
}

fn fc_3_4_2_long_form_of_short_lengths(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let long = long_length;
    for content in [
        [&long(1)[..], &long(2), b"Avv"].concat(),
        [&[1][..], &long(2), b"Avv"].concat(),
        [&long(1)[..], &[2], b"Avv"].concat(),
    ] {
        peer.send(with_params(&content));
        assert_eq!(peer.answer(1), echoed(&[("A", "vv")], "body"));
    }
    peer.send(with_params(&[long(0), long(0)].concat()));
    assert_eq!(peer.answer(1), echoed(&[("", "")], "body"));
}

fn fc_3_4_3_pairs_may_be_cut_anywhere(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let long = "v".repeat(130);
    let pairs = [("A", "1"), ("LONG", long.as_str()), ("", ""), ("B", "")];
    let content = encode(&pairs);
    for cut in 1..content.len() {
        let wire = [
            begin(1, RESPONDER, KEEP),
            record(Type::Params, 1, &content[..cut]),
            record(Type::Params, 1, &content[cut..]),
            close(Type::Params, 1),
            close(Type::Stdin, 1),
        ];
        peer.send(wire.concat());
        assert_eq!(peer.answer(1), echoed(&pairs, ""), "cut at {cut}");
    }
    let mut wire = begin(1, RESPONDER, KEEP);
    wire.extend(content.chunks(1).flat_map(|byte| record(Type::Params, 1, byte)));
    wire.extend([close(Type::Params, 1), close(Type::Stdin, 1)].concat());
    peer.send(wire);
    assert_eq!(peer.answer(1), echoed(&pairs, ""), "a record for each byte");
}

fn fc_3_4_4_order_duplicates_empty_and_binary_h_7(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let every: Vec<u8> = (0..=255).collect();
    let pairs: [(&[u8], &[u8]); 9] = [
        (b"Z", b"last first"),
        (b"A", b"1"),
        (b"A", b"1"),
        (b"A", b"2"),
        (b"", b"no name"),
        (b"EMPTY", b""),
        (b"NUL", b"a\0b"),
        (b"\xFF\xFE", b"\xC3\x28\x80"),
        (b"EVERY", &every),
    ];
    let content: Vec<u8> = pairs.iter().flat_map(|(name, value)| pair(name, value)).collect();
    peer.send(with_params(&content));
    assert_eq!(peer.answer(1), echoed_bytes(&pairs, "body"));
}

fn fc_3_4_5_a_stream_that_ends_inside_a_pair_fails_its_request(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    let content = [encode(&[("A", "1")]), pair(b"NAME", &[b'v'; 130])].concat();
    // But not at the end of the first pair.
    for cut in (1..content.len()).filter(|cut| *cut != 4) {
        assert_bad_request(&mut peer, with_params(&content[..cut]), &format!("cut at {cut}"));
    }
}

fn fc_3_4_5_other_roles_get_no_page(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    for role in [AUTHORIZER, FILTER] {
        let cut = record(Type::Params, 1, &encode(&[("A", "1")])[..3]);
        peer.send([begin(1, role, KEEP), cut, close(Type::Params, 1)].concat());
        let answer = peer.answer(1);
        assert_eq!(answer.protocol_status, 0, "{answer:?}");
        assert!(!answer.stdout.starts_with(HEAD_OF_ECHO), "{answer:?}");
    }
    peer.send(request(1, KEEP, &[], b"next"));
    assert_eq!(peer.answer(1), echoed(&[], "next"));
}

const HEAD_OF_ECHO: &[u8] = super::HEAD.as_bytes();

fn h_1_lengths_near_the_largest_cost_nothing(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    echo.assert_alive();
    let before = echo.peak_memory();
    let most = (1 << 31) - 1;
    for (name, value) in [
        (most, most),
        (most, 0),
        (0, most),
        (most, 1),
        (1, most),
        (most - 1, 2),
        (1 << 30, 1 << 30),
        (1 << 20, 1 << 20),
    ] {
        let lengths = [long_length(name), long_length(value)].concat();
        assert_bad_request(&mut peer, with_params(&lengths), &format!("{name} and {value}"));
        let some = [&lengths[..], b"some bytes of them"].concat();
        assert_bad_request(&mut peer, with_params(&some), &format!("{name} and {value}"));
    }
    // On many connections at once, with PARAMS that don't end.
    let peers: Vec<_> = (0..50)
        .map(|_| {
            let mut peer = echo.dial();
            let lengths = [long_length(most), long_length(most)].concat();
            peer.send([begin(1, RESPONDER, KEEP), record(Type::Params, 1, &lengths)].concat());
            peer
        })
        .collect();
    echo.assert_alive();
    let grown = echo.peak_memory() - before;
    assert!(grown < SOME_MEMORY, "{grown} KiB");
    drop(peers);
}

fn h_6_half_a_megabyte_of_empty_pairs(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    assert_bad_request(&mut peer, with_params(&vec![0; 512 * 1024]), "empty pairs");
    // A few empty pairs are nothing unusual.
    peer.send(with_params(&[0; 200]));
    assert_eq!(peer.answer(1), echoed(&[("", ""); 100], "body"));
}

fn h_9_endless_params_fail_their_request(suite: &Suite) {
    let echo = suite.echo_program();
    let mut peer = echo.dial();
    echo.assert_alive();
    let before = echo.peak_memory();
    let value = pattern(60_000, 9);
    let mut content = Vec::new();
    while content.len() < 16 << 20 {
        content.extend(pair(b"NAME", &value));
    }
    assert_bad_request(&mut peer, with_params(&content), "many large pairs");
    let one = [&pair(b"NAME", b"")[..1], &long_length(16 << 20), b"NAME", &vec![b'v'; 16 << 20]];
    assert_bad_request(&mut peer, with_params(&one.concat()), "one large pair");
    let grown = echo.peak_memory() - before;
    assert!(grown < SOME_MEMORY, "{grown} KiB");
}
