//! Records as lines to read.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use fcgi_tokio::proto::{
    ProtocolErrorKind, Rejection, Role,
    pairs::{PairDecoder, PairPiece},
    record::{BeginRequestBody, EndRequestBody, Framer, Piece, RecordHeader, RecordType},
};

/// Which way a record goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToApplication,
    ToWebServer,
}

/// Puts the records of one direction together and describes each.
pub(crate) struct Tracer {
    direction: Direction,
    framer: Framer,
    record: Option<(RecordHeader, Vec<u8>)>,
}

impl Tracer {
    pub(crate) fn new(direction: Direction) -> Self {
        Self { direction, framer: Framer::new(), record: None }
    }

    /// The lines of the records that `bytes` complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<String>, ProtocolErrorKind> {
        let mut lines = Vec::new();
        loop {
            let (used, piece) = self.framer.next(bytes, usize::MAX)?;
            let (now, later) = bytes.split_at(used);
            bytes = later;
            match (piece, &mut self.record) {
                (Some(Piece::Header(header)), record) => *record = Some((header, Vec::new())),
                (Some(Piece::Content(_)), Some((_, content))) => content.extend_from_slice(now),
                (Some(Piece::End), record) => {
                    if let Some((header, content)) = record.take() {
                        lines.extend(self.describe(&header, &content));
                    }
                }
                (Some(Piece::Content(_)), None) | (None, _) => return Ok(lines),
            }
        }
    }

    fn describe(&self, header: &RecordHeader, content: &[u8]) -> Vec<String> {
        let (arrow, colour) = match self.direction {
            Direction::ToApplication => ("web server → application", AnsiColor::Cyan),
            Direction::ToWebServer => ("web server ← application", AnsiColor::Green),
        };
        let style = Style::new().fg_color(Some(colour.into()));
        let bold = style.bold();
        let mut details = details(header.record_type, content).into_iter();
        let first = details.next().unwrap_or_default();
        let mut lines = vec![format!(
            "{style}{arrow}{style:#}  {bold}{:<17}{bold:#} {:>2} {:>7} {:>7}  {first}",
            header.record_type.name(),
            header.request_id,
            header.content_length,
            header.padding_length,
        )];
        lines.extend(details.map(|detail| format!("{:63}{detail}", "")));
        lines
    }
}

/// The heading over the columns of [`Tracer`]'s lines.
pub(crate) fn heading() -> String {
    let dim = Style::new().dimmed();
    format!("{dim}{:<24}  {:<17} id content padding  meaning{dim:#}", "direction", "record")
}

fn details(record_type: RecordType, content: &[u8]) -> Vec<String> {
    if content.is_empty() {
        return vec!["end of the stream".to_owned()];
    }
    match (record_type, <[u8; 8]>::try_from(content)) {
        (RecordType::BeginRequest, Ok(body)) => {
            let body = BeginRequestBody::decode(body);
            let role =
                Role::from_u16(body.role).map_or("unknown role".to_owned(), |r| r.to_string());
            let keep = if body.keep_conn { "keep the connection" } else { "then close" };
            vec![format!("{role}, {keep}")]
        }
        (RecordType::EndRequest, Ok(body)) => {
            let body = EndRequestBody::decode(body);
            let status = match (body.protocol_status, Rejection::from_u8(body.protocol_status)) {
                (0, _) => "REQUEST_COMPLETE".to_owned(),
                (_, Some(rejection)) => rejection.to_string(),
                (other, None) => format!("protocol status {other}"),
            };
            vec![format!("{status}, app status {}", body.app_status)]
        }
        (RecordType::Params, _) => pairs(content),
        _ => content.split_inclusive(|byte| *byte == b'\n').map(|line| escape(line, b"")).collect(),
    }
}

/// `NAME=VALUE` lines of a PARAMS record that holds whole pairs.
fn pairs(mut content: &[u8]) -> Vec<String> {
    let mut decoder = PairDecoder::new();
    let mut lines: Vec<String> = Vec::new();
    while let (used, Some(piece)) = decoder.next(content) {
        content = &content[used..];
        match (piece, lines.last_mut()) {
            (PairPiece::Lengths { .. }, _) => lines.push(String::new()),
            (PairPiece::Name(name), Some(line)) => {
                let _ = write!(line, "{}=", escape(name, b""));
            }
            (PairPiece::Value(value), Some(line)) => line.push_str(&escape(value, b"")),
            (_, None) => {}
        }
    }
    lines
}

/// Bytes as text that can't steer a terminal (H-10): what is not printable is escaped, except the
/// bytes in `keep`.
pub(crate) fn escape(bytes: &[u8], keep: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let kept = u8::try_from(c).is_ok_and(|byte| keep.contains(&byte));
            if c.is_control() && !kept {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}
