//! Prints records as readable lines.

use std::fmt::{self, Write};

use anstyle::{AnsiColor, Style};
use fcgi_tokio::proto::{
    ProtocolErrorKind, Rejection, Role,
    pairs::{PairDecoder, PairPiece},
    record::{BODY_LEN, BeginRequestBody, EndRequestBody, Framer, Piece, RecordHeader, RecordType},
};

use fcgi_engine::text::escape;

/// How many lines of one record's stream are shown.
const EXCERPT: usize = 4;
/// How many bytes of such a line are shown.
const LINE: usize = 512;

/// The direction of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    ToApplication,
    ToWebServer,
}

impl Direction {
    /// The direction of records of a type.
    pub(crate) const fn of(record_type: RecordType) -> Self {
        match record_type {
            RecordType::EndRequest
            | RecordType::Stdout
            | RecordType::Stderr
            | RecordType::GetValuesResult
            | RecordType::UnknownType => Self::ToWebServer,
            _ => Self::ToApplication,
        }
    }

    /// The direction of a connection's first bytes; `None` if they are not a record.
    pub(crate) fn of_first(bytes: &[u8]) -> Option<Self> {
        let [1, record_type @ 1..=11, ..] = bytes else { return None };
        Some(Self::of(RecordType::from_u8(*record_type)))
    }

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

/// Assembles the records of one direction.
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

    /// Whether the last record was complete, including its padding.
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

/// A record as one or more lines, as wide as the longest type name.
pub(crate) fn line(record: &Record) -> String {
    let details = details(record.header.record_type, &record.content, 0);
    let mut out = row("", record.direction, &record.header, &details);
    out.push('\n');
    out
}

fn write_table(out: &mut String, records: &[Record]) -> fmt::Result {
    let width = records.iter().map(|record| record.header.record_type.to_string().len());
    let width = width.max().unwrap_or_default().max(6);
    let head = Style::new().bold();
    writeln!(out, "{head}{}  content{head:#}", titles(width))?;
    for record in records {
        let details = details(record.header.record_type, &record.content, 0);
        write_row(out, "", record.direction, &record.header, &details, width)?;
    }
    Ok(())
}

/// The width of the longest type's name.
const NAME_WIDTH: usize = 17;

fn titles(width: usize) -> String {
    format!("{:<9}  {:<width$}  id  length  pad", "direction", "record")
}

/// One record of an endless table, after `lead`.
pub(crate) fn row(
    lead: &str,
    direction: Direction,
    header: &RecordHeader,
    details: &[String],
) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = write_row(&mut out, lead, direction, header, details, NAME_WIDTH);
    out.truncate(out.trim_end_matches('\n').len());
    out
}

fn write_row(
    out: &mut String,
    lead: &str,
    direction: Direction,
    header: &RecordHeader,
    details: &[String],
    width: usize,
) -> fmt::Result {
    let style = direction.style();
    let RecordHeader { request_id, content_length, padding_length, .. } = header;
    let detail_style = match header.record_type {
        _ if header.content_length == 0 => Style::new().dimmed(),
        RecordType::Stderr => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    };
    for (i, detail) in details.iter().enumerate() {
        if i == 0 {
            let (ends, bold) = (direction.ends(), style.bold());
            let name = header.record_type.to_string();
            write!(out, "{lead}{style}{ends}{style:#}  {bold}{name:<width$}{bold:#}")?;
            write!(out, "  {request_id:>2}  {content_length:>6}  {padding_length:>3}")?;
        } else {
            write!(out, "{:indent$}", "", indent = lead.chars().count() + titles(width).len())?;
        }
        writeln!(out, "  {detail_style}{detail}{detail_style:#}")?;
    }
    Ok(())
}

/// The content of a record, as one or more lines. The record has `more` bytes after `content`.
pub(crate) fn details(record_type: RecordType, content: &[u8], more: usize) -> Vec<String> {
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
        _ => excerpt(content, more),
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
fn excerpt(content: &[u8], more: usize) -> Vec<String> {
    let mut shown = 0;
    let mut lines = Vec::new();
    for line in content.split_inclusive(|byte| *byte == b'\n').take(EXCERPT) {
        let part = &line[..line.len().min(LINE)];
        shown += part.len();
        lines.push(escape(part, b""));
        if part.len() < line.len() {
            break;
        }
    }
    let left = content.len() - shown + more;
    if left > 0 {
        lines.push(format!("… {left} bytes more"));
    }
    lines
}
