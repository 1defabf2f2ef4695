//! H-13: the same bytes in other pieces are the same events.

use fcgi_proto::{Limits, ServerConfig, ServerConnection};
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
