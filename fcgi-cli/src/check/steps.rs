//! What a case does: its steps, and the records that they send.

use fcgi_tokio::proto::record::RecordType;

/// One case.
pub(super) struct Case {
    /// The requirement.
    pub(super) id: &'static str,
    pub(super) name: &'static str,
    pub(super) steps: &'static [Step],
}

/// What to do, in order, on one connection unless noted otherwise.
pub(super) enum Step {
    Send(&'static [Part]),
    /// Each byte is written separately.
    Trickle(&'static [Part]),
    /// Shut down the sending side.
    HalfClose,
    /// The answer to a request is like a plain one's.
    Answer(u16),
    /// Two requests are answered, or the second one is refused (FC-5.5-2).
    Both(u16, u16),
    /// An END_REQUEST comes, whatever it says.
    Ends(u16),
    /// An answer comes in a role that the application may not offer.
    InRole(u16),
    /// An END_REQUEST comes with this protocol status.
    Refused(u16, u8),
    /// The connection ends, whatever comes before.
    Closed,
    /// An END_REQUEST comes, or the connection ends; silence fails.
    EndsOrCloses(u16),
    /// Values come for some of these names, each once and valid.
    Values(&'static [&'static str]),
    /// UNKNOWN_TYPE comes with this type.
    UnknownType(u8),
    /// The next END_REQUEST has zeros in its reserved bytes.
    ReservedZero(u16),
    /// The next answer ends its STDOUT with an empty record, and STDERR too if it had any.
    StreamsClosed(u16),
    /// Another connection is answered.
    Serves,
}

/// Records to send.
pub(super) enum Part {
    /// A whole plain request without a body; `true` asks to keep the connection.
    Request(u16, bool),
    /// A whole request with a body of this many bytes.
    Post(u16, bool, usize),
    Begin(u16, u16, bool),
    /// The parameters of a plain request in one record, for a body of this many bytes.
    Params(u16, usize),
    /// The same, with some more parameters.
    ParamsAnd(u16, &'static [(&'static [u8], usize)]),
    /// The same without CONTENT_LENGTH, although there is a body.
    ParamsNoLength(u16),
    /// The same, in records of this many bytes.
    ParamsCut(u16, usize),
    /// The same, with lengths of four bytes each (FC-3.4-2).
    ParamsLong(u16),
    ParamsEnd(u16),
    /// This many bytes of a body, in records of at most this size.
    Stdin(u16, usize, usize),
    StdinEnd(u16),
    Data(u16, usize),
    DataEnd(u16),
    Abort(u16),
    /// A query for these names.
    GetValues(&'static [&'static str]),
    /// Any record.
    Record(RecordType, u16, &'static [u8]),
    /// A record with this many of this byte.
    Filled(RecordType, u16, u8, usize),
    /// The parts, repeated this many times.
    Times(usize, &'static [Part]),
    /// The parts with this much padding in each record, not zeros, instead of the padding that
    /// aligns it.
    Padded(u8, &'static [Part]),
    /// The parts with this much padding in each empty record.
    PaddedEnds(u8, &'static [Part]),
    /// The parts with reserved bytes that are not zero.
    Reserved(&'static [Part]),
    /// The parts with this version.
    Version(u8, &'static [Part]),
}
