//! The cases as data: what to send, and what must come back.
//!
//! Cases are numbered by the requirement that they test, as listed in docs/requirements.md. Where
//! the specification leaves something open, the choice of these crates is tested.

use fcgi_tokio::proto::record::RecordType;

use super::steps::{
    Case,
    Part::*,
    Step::{self, *},
};

const KEEP: bool = true;
const CLOSE: bool = false;
const RESPONDER: u16 = 1;
const AUTHORIZER: u16 = 2;
const FILTER: u16 = 3;
const UNKNOWN_ROLE: u8 = 3;
const MAX_CONNS: &str = "FCGI_MAX_CONNS";
const MAX_REQS: &str = "FCGI_MAX_REQS";
const MPXS_CONNS: &str = "FCGI_MPXS_CONNS";
/// BEGIN_REQUEST's content for a Responder that keeps the connection, with undefined flags and
/// reserved bytes set.
const NOISY_BEGIN: &[u8] = &[0, 1, 0xFF, 1, 2, 3, 4, 5];
/// A pair whose name and value both have the largest length that can be declared.
const HUGE: &[u8] = &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, b'A', b'B', b'C'];
/// A pair that is cut off within its value.
const CUT: &[u8] = &[4, 9, b'N', b'A', b'M', b'E', b'v'];

const fn case(id: &'static str, name: &'static str, steps: &'static [Step]) -> Case {
    Case { id, name, steps }
}

pub(super) const CASES: &[Case] = &[
    case("FC-3.3-1", "a request is answered", &[Send(&[Request(1, CLOSE)]), Answer(1)]),
    case(
        "FC-3.3-1",
        "a request that comes byte by byte is answered",
        &[Trickle(&[Request(1, CLOSE)]), Answer(1)],
    ),
    case(
        "FC-3.3-2",
        "padding is skipped, whatever it holds",
        &[
            Send(&[
                Padded(255, &[Begin(1, RESPONDER, CLOSE), Params(1, 10)]),
                ParamsEnd(1),
                Padded(1, &[Stdin(1, 10, 4)]),
                StdinEnd(1),
            ]),
            Answer(1),
        ],
    ),
    case(
        "FC-3.3-2",
        "records without padding are accepted",
        &[Send(&[Padded(0, &[Post(1, CLOSE, 3)])]), Answer(1)],
    ),
    case(
        "FC-3.3-3",
        "reserved bytes and undefined flags are ignored",
        &[
            Send(&[Reserved(&[
                Record(RecordType::BeginRequest, 1, NOISY_BEGIN),
                Params(1, 0),
                ParamsEnd(1),
                StdinEnd(1),
            ])]),
            Answer(1),
        ],
    ),
    case(
        "FC-3.3-3",
        "reserved bytes are sent as zero",
        &[Send(&[Request(1, CLOSE)]), ReservedZero(1)],
    ),
    case(
        "FC-3.3-4",
        "another version ends the connection",
        &[Send(&[Version(2, &[Begin(1, RESPONDER, KEEP)])]), Closed, Serves],
    ),
    case(
        "FC-3.3-5",
        "an application record with id 0 ends the connection",
        &[Send(&[Begin(1, RESPONDER, KEEP), Params(0, 0)]), Closed, Serves],
    ),
    case(
        "FC-3.3-6",
        "records of a request that is not active are ignored",
        &[
            Send(&[Params(9, 0), ParamsEnd(9), Stdin(9, 10, 10), StdinEnd(9), Request(1, CLOSE)]),
            Answer(1),
        ],
    ),
    case("FC-3.3-7", "id 65535 is accepted", &[Send(&[Request(65535, CLOSE)]), Answer(65535)]),
    case("FC-3.3-7", "id 256 is accepted", &[Send(&[Request(256, CLOSE)]), Answer(256)]),
    case(
        "FC-3.3-8",
        "a body in records of one byte is the same body",
        &[
            Send(&[
                Begin(1, RESPONDER, CLOSE),
                Params(1, 50),
                ParamsEnd(1),
                Stdin(1, 50, 1),
                StdinEnd(1),
            ]),
            Answer(1),
        ],
    ),
    case(
        "FC-3.3-9",
        "an application record of unknown type is skipped",
        &[
            Send(&[
                Begin(1, RESPONDER, CLOSE),
                Record(RecordType::Other(99), 1, b"what is this"),
                Params(1, 0),
                ParamsEnd(1),
                StdinEnd(1),
            ]),
            Answer(1),
        ],
    ),
    case(
        "FC-3.3-10",
        "BEGIN_REQUEST for an active id ends the connection",
        &[Send(&[Begin(1, RESPONDER, KEEP), Begin(1, RESPONDER, KEEP)]), Closed, Serves],
    ),
    case(
        "FC-3.3-11",
        "a record of the other direction ends the connection",
        &[
            Send(&[Begin(1, RESPONDER, KEEP), Record(RecordType::Stdout, 1, b"out")]),
            Closed,
            Serves,
        ],
    ),
    case(
        "FC-3.3-12",
        "parameters after their end end the connection",
        &[
            Send(&[Begin(1, RESPONDER, KEEP), Params(1, 10), ParamsEnd(1), Params(1, 10)]),
            Closed,
            Serves,
        ],
    ),
    case(
        "FC-3.3-12",
        "a second empty record is skipped",
        &[
            Send(&[
                Begin(1, RESPONDER, CLOSE),
                Params(1, 10),
                ParamsEnd(1),
                ParamsEnd(1),
                Stdin(1, 10, 10),
                StdinEnd(1),
            ]),
            Answer(1),
        ],
    ),
    case(
        "FC-3.4-2",
        "lengths of four bytes are accepted for short strings",
        &[Send(&[Begin(1, RESPONDER, CLOSE), ParamsLong(1), ParamsEnd(1), StdinEnd(1)]), Answer(1)],
    ),
    case(
        "FC-3.4-3",
        "pairs may be cut anywhere: records of 7 bytes",
        &[
            Send(&[Begin(1, RESPONDER, CLOSE), ParamsCut(1, 7), ParamsEnd(1), StdinEnd(1)]),
            Answer(1),
        ],
    ),
    case(
        "FC-3.4-3",
        "pairs may be cut anywhere: records of one byte",
        &[
            Send(&[Begin(1, RESPONDER, CLOSE), ParamsCut(1, 1), ParamsEnd(1), StdinEnd(1)]),
            Answer(1),
        ],
    ),
    case(
        "FC-3.4-4",
        "names and values are bytes, and may be empty",
        &[
            Send(&[
                Begin(1, RESPONDER, CLOSE),
                ParamsAnd(
                    1,
                    &[
                        (b"", 0),
                        (b"X_EMPTY", 0),
                        (b"X_\xFF\0", 5),
                        (b"X_TWICE", 1),
                        (b"X_TWICE", 2),
                    ],
                ),
                ParamsEnd(1),
                StdinEnd(1),
            ]),
            Answer(1),
        ],
    ),
    case(
        "FC-3.4-4",
        "a value of 20,000 bytes is accepted",
        &[
            Send(&[
                Begin(1, RESPONDER, CLOSE),
                ParamsAnd(1, &[(b"HTTP_X_LONG", 20_000)]),
                ParamsEnd(1),
                StdinEnd(1),
            ]),
            Answer(1),
        ],
    ),
    case(
        "FC-3.4-5",
        "parameters that end within a pair end the request or the connection",
        &[
            Send(&[
                Begin(1, RESPONDER, KEEP),
                Record(RecordType::Params, 1, CUT),
                ParamsEnd(1),
                StdinEnd(1),
            ]),
            EndsOrCloses(1),
            Serves,
        ],
    ),
    case(
        "FC-3.5-1",
        "without FCGI_KEEP_CONN the connection is closed",
        &[Send(&[Request(1, CLOSE)]), Answer(1), Closed],
    ),
    case(
        "FC-3.5-1",
        "with FCGI_KEEP_CONN it can carry another request",
        &[
            Send(&[Request(1, KEEP)]),
            Answer(1),
            Send(&[Request(1, KEEP)]),
            Answer(1),
            Send(&[Request(2, CLOSE)]),
            Answer(2),
            Closed,
        ],
    ),
    case(
        "FC-3.5-2",
        "a half-close after the request does not lose the answer",
        &[Send(&[Request(1, CLOSE)]), HalfClose, Answer(1)],
    ),
    case(
        "FC-4.1-1",
        "GET_VALUES is answered",
        &[
            Send(&[GetValues(&[MAX_CONNS, MAX_REQS, MPXS_CONNS])]),
            Values(&[MAX_CONNS, MAX_REQS, MPXS_CONNS]),
        ],
    ),
    case(
        "FC-4.1-1",
        "names that are not known are left out",
        &[Send(&[GetValues(&["FCGI_NO_SUCH", MPXS_CONNS])]), Values(&[MPXS_CONNS])],
    ),
    case(
        "FC-4.1-1",
        "an empty query has an empty result",
        &[Send(&[Record(RecordType::GetValues, 0, b"")]), Values(&[])],
    ),
    case(
        "FC-4.1-1",
        "GET_VALUES is answered while a request is under way",
        &[
            Send(&[Begin(1, RESPONDER, CLOSE), GetValues(&[MPXS_CONNS])]),
            Values(&[MPXS_CONNS]),
            Send(&[Params(1, 0), ParamsEnd(1), StdinEnd(1)]),
            Answer(1),
        ],
    ),
    case(
        "FC-4.1-1",
        "GET_VALUES, then a request on the same connection",
        &[
            Send(&[GetValues(&[MPXS_CONNS])]),
            Values(&[MPXS_CONNS]),
            Send(&[Request(1, CLOSE)]),
            Answer(1),
        ],
    ),
    case(
        "FC-4.2-1",
        "a management record of unknown type is answered with UNKNOWN_TYPE",
        &[Send(&[Record(RecordType::Other(200), 0, b"12345678")]), UnknownType(200)],
    ),
    case(
        "FC-4.2-1",
        "the same while a request is under way",
        &[
            Send(&[Begin(1, RESPONDER, CLOSE), Record(RecordType::Other(77), 0, b"12345678")]),
            UnknownType(77),
            Send(&[Params(1, 0), ParamsEnd(1), StdinEnd(1)]),
            Answer(1),
        ],
    ),
    case(
        "FC-5.1-1",
        "BEGIN_REQUEST with 16 bytes ends the connection",
        &[Send(&[Filled(RecordType::BeginRequest, 1, 1, 16)]), Closed, Serves],
    ),
    case(
        "FC-5.1-2",
        "an unknown role is refused, and its records are ignored",
        &[
            Send(&[Begin(1, 9, CLOSE), Params(1, 10), ParamsEnd(1), Stdin(1, 10, 10), StdinEnd(1)]),
            Refused(1, UNKNOWN_ROLE),
        ],
    ),
    case(
        "FC-5.1-2",
        "the connection can be used after an unknown role",
        &[
            Send(&[Begin(1, 9, KEEP), ParamsEnd(1), StdinEnd(1)]),
            Refused(1, UNKNOWN_ROLE),
            Send(&[Request(2, CLOSE)]),
            Answer(2),
        ],
    ),
    case(
        "FC-5.4-1",
        "a request that is aborted within its parameters ends",
        &[Send(&[Begin(1, RESPONDER, KEEP), Params(1, 10), Abort(1)]), Ends(1)],
    ),
    case(
        "FC-5.4-1",
        "a request that is aborted within its body ends",
        &[
            Send(&[
                Begin(1, RESPONDER, KEEP),
                Params(1, 10),
                ParamsEnd(1),
                Stdin(1, 5, 5),
                Abort(1),
            ]),
            Ends(1),
        ],
    ),
    case(
        "FC-5.4-1",
        "ABORT_REQUEST for an id that is not active is ignored",
        &[Send(&[Abort(3), Request(1, CLOSE)]), Answer(1)],
    ),
    case(
        "FC-5.5-2",
        "a second request at once is answered, or refused with its own END_REQUEST",
        &[
            Send(&[
                Begin(1, RESPONDER, KEEP),
                Params(1, 0),
                Begin(2, RESPONDER, KEEP),
                Params(2, 0),
                ParamsEnd(2),
                StdinEnd(2),
                ParamsEnd(1),
                StdinEnd(1),
            ]),
            Both(1, 2),
        ],
    ),
    case(
        "FC-6.1-1",
        "STDOUT is closed by an empty record, and STDERR if there was any",
        &[Send(&[Request(1, CLOSE)]), StreamsClosed(1)],
    ),
    case(
        "FC-6.2-1",
        "a body of 1 MiB, read or not",
        &[Send(&[Post(1, CLOSE, 1 << 20)]), Answer(1)],
    ),
    case(
        "FC-6.2-1",
        "a body that was not read does not harm the next request",
        &[Send(&[Post(1, KEEP, 1 << 20)]), Answer(1), Send(&[Request(2, CLOSE)]), Answer(2)],
    ),
    case(
        "FC-6.2-2",
        "a body shorter than CONTENT_LENGTH ends the request or the connection",
        &[
            Send(&[
                Begin(1, RESPONDER, CLOSE),
                Params(1, 100),
                ParamsEnd(1),
                Stdin(1, 10, 10),
                StdinEnd(1),
            ]),
            EndsOrCloses(1),
            Serves,
        ],
    ),
    case(
        "FC-6.2-2",
        "a body longer than CONTENT_LENGTH ends the request or the connection",
        &[
            Send(&[
                Begin(1, RESPONDER, CLOSE),
                Params(1, 10),
                ParamsEnd(1),
                Stdin(1, 100, 100),
                StdinEnd(1),
            ]),
            EndsOrCloses(1),
            Serves,
        ],
    ),
    case(
        "FC-6.3-1",
        "an Authorizer needs no STDIN",
        &[Send(&[Begin(1, AUTHORIZER, CLOSE), Params(1, 0), ParamsEnd(1)]), InRole(1)],
    ),
    case(
        "FC-6.4-1",
        "a Filter takes DATA after STDIN",
        &[
            Send(&[
                Begin(1, FILTER, CLOSE),
                Params(1, 0),
                ParamsEnd(1),
                StdinEnd(1),
                Data(1, 1000),
                DataEnd(1),
            ]),
            InRole(1),
        ],
    ),
    case(
        "H-1",
        "lengths near 2^31 end the request or the connection",
        &[
            Send(&[
                Begin(1, RESPONDER, KEEP),
                Record(RecordType::Params, 1, HUGE),
                ParamsEnd(1),
                StdinEnd(1),
            ]),
            EndsOrCloses(1),
            Serves,
        ],
    ),
    case(
        "H-2",
        "a name that is asked for 100 times is answered once",
        &[Send(&[GetValues(&[MPXS_CONNS; 100])]), Values(&[MPXS_CONNS]), Serves],
    ),
    case(
        "H-3",
        "a record with 65,535 bytes of content and 255 of padding is accepted",
        &[
            Send(&[
                Begin(1, RESPONDER, CLOSE),
                Params(1, 65_535),
                ParamsEnd(1),
                Padded(255, &[Stdin(1, 65_535, 65_535)]),
                StdinEnd(1),
            ]),
            Answer(1),
        ],
    ),
    case(
        "H-5",
        "BEGIN_REQUEST with no content ends the connection",
        &[Send(&[Record(RecordType::BeginRequest, 1, b"")]), Closed, Serves],
    ),
    case(
        "H-6",
        "512 KiB of empty pairs end the request or the connection",
        &[
            Send(&[
                Begin(1, RESPONDER, CLOSE),
                Times(16, &[Filled(RecordType::Params, 1, 0, 32 * 1024)]),
                ParamsEnd(1),
                StdinEnd(1),
            ]),
            EndsOrCloses(1),
            Serves,
        ],
    ),
    case(
        "H-9",
        "2,000 requests that are begun and aborted do not stop others",
        &[Send(&[Times(2000, &[Begin(1, RESPONDER, KEEP), Abort(1)])]), Serves],
    ),
    case(
        "H-9",
        "20,000 queries whose results nobody reads do not stop others",
        &[Send(&[Times(20_000, &[GetValues(&[MPXS_CONNS])])]), Serves],
    ),
    case("H-16", "a silent connection does not stop others", &[Send(&[]), Serves]),
    case(
        "H-16",
        "a request that is never finished does not stop others",
        &[Send(&[Begin(1, RESPONDER, KEEP), Params(1, 0)]), Serves],
    ),
    case(
        "Q-2",
        "padding of empty records is skipped",
        &[Send(&[PaddedEnds(8, &[Post(1, CLOSE, 10)])]), Answer(1)],
    ),
    case(
        "Q-4",
        "a body without CONTENT_LENGTH ends the request or the connection",
        &[
            Send(&[
                Begin(1, RESPONDER, CLOSE),
                ParamsNoLength(1),
                ParamsEnd(1),
                Stdin(1, 10, 10),
                StdinEnd(1),
            ]),
            EndsOrCloses(1),
            Serves,
        ],
    ),
    case(
        "Q-9",
        "a lone GET_VALUES without padding is answered",
        &[Send(&[Padded(0, &[GetValues(&[MPXS_CONNS])])]), Values(&[MPXS_CONNS])],
    ),
    case(
        "Q-10",
        "a request that is sent before the first is answered is answered too, or refused",
        &[Send(&[Request(1, KEEP), Request(2, KEEP)]), Both(1, 2)],
    ),
    case(
        "Q-12",
        "an aborted request ends once",
        &[
            Send(&[
                Begin(1, RESPONDER, KEEP),
                Params(1, 10),
                ParamsEnd(1),
                Stdin(1, 5, 5),
                Abort(1),
            ]),
            Ends(1),
            Send(&[Request(2, CLOSE)]),
            Answer(2),
        ],
    ),
    case(
        "Q-15",
        "4 MiB are sent and answered at once",
        &[Send(&[Post(1, CLOSE, 4 << 20)]), Answer(1)],
    ),
];
