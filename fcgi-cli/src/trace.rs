//! Records as lines to read.

use std::fmt::{self, Write};

use anstyle::{AnsiColor, Style};
use fcgi_tokio::proto::{
    ProtocolErrorKind, Rejection, Role,
    pairs::{PairDecoder, PairPiece},
    record::{BODY_LEN, BeginRequestBody, EndRequestBody, Framer, Piece, RecordHeader, RecordType},
};

use fcgi_engine::text::escape;

/// Lines of a stream that are shown of one record.
const EXCERPT: usize = 4;

/// Which way a record goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    ToApplication,
    ToWebServer,
}

impl Direction {
    const fn ends(self) -> &'static str {
        match self {
            Self::ToApplication => "web → app",
            Self::ToWebServer => "web ← app",
        }
    }

    const fn style(self) -> Style {
        let colour = match self {
            Self::ToApplication => AnsiColor::Cyan,
            Self::ToWebServer => AnsiColor::Green,
        };
        colour.on_default()
    }
}

/// A record that has passed.
#[derive(Debug)]
pub(crate) struct Record {
    direction: Direction,
    header: RecordHeader,
    content: Vec<u8>,
}

/// Puts the records of one direction together.
#[derive(Debug)]
pub(crate) struct Recorder {
    direction: Direction,
    framer: Framer,
    record: Option<Record>,
}

impl Recorder {
    pub(crate) const fn new(direction: Direction) -> Self {
        Self { direction, framer: Framer::new(), record: None }
    }

    /// Adds the records that `bytes` complete.
    pub(crate) fn push(
        &mut self,
        mut bytes: &[u8],
        records: &mut Vec<Record>,
    ) -> Result<(), ProtocolErrorKind> {
        loop {
            let (used, piece) = self.framer.next(bytes, usize::MAX)?;
            let (now, later) = bytes.split_at(used);
            bytes = later;
            match piece {
                Some(Piece::Header(header)) => {
                    let direction = self.direction;
                    self.record = Some(Record { direction, header, content: Vec::new() });
                }
                Some(Piece::Content(_)) => {
                    self.record.iter_mut().for_each(|record| record.content.extend_from_slice(now));
                }
                Some(Piece::End) => records.extend(self.record.take()),
                None => return Ok(()),
            }
        }
    }

    /// Whether the last record was whole, its padding too.
    pub(crate) const fn is_at_boundary(&self) -> bool {
        self.framer.is_at_boundary()
    }
}

/// The records as a table, in order.
pub(crate) fn table(records: &[Record]) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write_table(&mut out, records);
    out
}

/// A record as one or more lines, as wide as the longest name.
pub(crate) fn line(record: &Record) -> String {
    const WIDTH: usize = "GET_VALUES_RESULT".len();
    let mut out = String::new();
    let _ = write_record(&mut out, record, WIDTH);
    out
}

fn write_table(out: &mut String, records: &[Record]) -> fmt::Result {
    let name = |record: &Record| record.header.record_type.to_string();
    let width = records.iter().map(|record| name(record).len()).max().unwrap_or_default().max(6);
    let head = Style::new().bold();
    let title = format!("{:<9}  {:<width$}  id  length  pad", "direction", "record");
    writeln!(out, "{head}{title}  content{head:#}")?;
    records.iter().try_for_each(|record| write_record(out, record, width))
}

fn write_record(out: &mut String, record: &Record, width: usize) -> fmt::Result {
    let style = record.direction.style();
    let RecordHeader { record_type, request_id, content_length, padding_length, .. } =
        record.header;
    let name = record_type.to_string();
    let detail_style = match record_type {
        _ if record.content.is_empty() => Style::new().dimmed(),
        RecordType::Stderr => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    };
    for (i, detail) in details(record_type, &record.content).iter().enumerate() {
        if i == 0 {
            let (ends, bold) = (record.direction.ends(), style.bold());
            write!(out, "{style}{ends}{style:#}  {bold}{name:<width$}{bold:#}")?;
            write!(out, "  {request_id:>2}  {content_length:>6}  {padding_length:>3}")?;
        } else {
            // Below the content: after the other columns and the spaces between them.
            write!(out, "{:indent$}", "", indent = width + 28)?;
        }
        writeln!(out, "  {detail_style}{detail}{detail_style:#}")?;
    }
    Ok(())
}

/// What a record says, as one or more lines.
fn details(record_type: RecordType, content: &[u8]) -> Vec<String> {
    if content.is_empty() {
        return vec![match record_type {
            RecordType::AbortRequest | RecordType::GetValues => String::new(),
            _ => format!("end of {record_type}"),
        }];
    }
    match (record_type, <[u8; BODY_LEN]>::try_from(content)) {
        (RecordType::BeginRequest, Ok(body)) => {
            let BeginRequestBody { role, keep_conn } = BeginRequestBody::decode(body);
            let role = Role::from_u16(role).map_or(format!("role {role}"), |role| role.to_string());
            let keep = if keep_conn { "keep_conn" } else { "no keep_conn" };
            vec![format!("{role}, {keep}")]
        }
        (RecordType::EndRequest, Ok(body)) => {
            let EndRequestBody { app_status, protocol_status } = EndRequestBody::decode(body);
            let status = match (protocol_status, Rejection::from_u8(protocol_status)) {
                (0, _) => "REQUEST_COMPLETE".to_owned(),
                (_, Some(rejection)) => rejection.to_string(),
                (other, None) => format!("protocol status {other}"),
            };
            vec![format!("app status {app_status}, {status}")]
        }
        (RecordType::Params | RecordType::GetValues | RecordType::GetValuesResult, _) => {
            pairs(content)
        }
        _ => excerpt(content),
    }
}

/// `NAME=VALUE` lines of the pairs of a record.
fn pairs(mut content: &[u8]) -> Vec<String> {
    let mut decoder = PairDecoder::new();
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    while let (used, Some(piece)) = decoder.next(content) {
        content = &content[used..];
        match (piece, pairs.last_mut()) {
            (PairPiece::Lengths { .. }, _) => pairs.push(Default::default()),
            (PairPiece::Name(bytes), Some((name, _))) => name.extend_from_slice(bytes),
            (PairPiece::Value(bytes), Some((_, value))) => value.extend_from_slice(bytes),
            (_, None) => {}
        }
    }
    pairs
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name, b""), escape(value, b"")))
        .collect()
}

/// The first lines of a stream's bytes.
fn excerpt(content: &[u8]) -> Vec<String> {
    let mut shown = 0;
    let mut lines = Vec::new();
    for line in content.split_inclusive(|byte| *byte == b'\n').take(EXCERPT) {
        shown += line.len();
        lines.push(escape(line, b""));
    }
    if shown < content.len() {
        lines.push(format!("… {} bytes more", content.len() - shown));
    }
    lines
}
