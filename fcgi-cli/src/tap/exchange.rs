//! One request and its answer, as they cross the wire.

use std::time::Duration;

use fcgi_engine::text::escape;
use fcgi_tokio::proto::{
    Rejection,
    pairs::{PairDecoder, PairPiece},
    record::{EndRequestBody, RecordType},
};
use serde_json::Value;

use super::{
    body::Body,
    mask::{self, Head, Pairs},
};
use crate::trace::Direction;

/// How many bytes of a request's parameters are kept.
const KEPT: usize = 64 * 1024;

/// A time, since 1970.
pub(crate) type Time = Duration;

/// A name and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Ended(EndRequestBody),
    /// The application closed the connection first.
    Cut,
    /// The web server closed it first.
    Left,
    /// The recording ended first.
    Open,
}

/// A request, from BEGIN_REQUEST on.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// Its number, counted across all connections.
    pub(crate) number: u64,
    pub(crate) connection: u64,
    pub(crate) request_id: u16,
    pub(crate) role: u16,
    pub(crate) keep_conn: bool,
    pub(crate) begun: Time,
    /// When the first byte of STDOUT came.
    pub(crate) first: Option<Time>,
    pub(crate) aborted: bool,
    pub(crate) params: Params,
    pub(crate) stdin: u64,
    pub(crate) data: u64,
    pub(crate) stdout: u64,
    pub(crate) stderr: u64,
    pub(crate) head: Head,
    masks: Option<Masks>,
    /// The part that the page shows.
    pub(crate) kept: Option<Box<Kept>>,
    /// Lines that are printed if the request matches the filter.
    pub(crate) held: Vec<String>,
    pub(crate) held_bytes: usize,
}

/// Records and bytes of a request, with secrets masked.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) records: Vec<Value>,
    /// The number of further records.
    pub(crate) records_cut: u64,
    pub(crate) stdin: Vec<u8>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Kept {
    /// How many records, and bytes of a stream, are kept.
    const RECORDS: usize = 500;
    const BYTES: usize = 32 * 1024;

    pub(crate) fn record(&mut self, record: impl FnOnce() -> Value) {
        if self.records.len() < Self::RECORDS {
            self.records.push(record());
        } else {
            self.records_cut += 1;
        }
    }

    pub(crate) fn stream(&mut self, kind: RecordType, bytes: &[u8]) {
        let to = match kind {
            RecordType::Stdin => &mut self.stdin,
            RecordType::Stdout => &mut self.stdout,
            RecordType::Stderr => &mut self.stderr,
            _ => return,
        };
        let room = Self::BYTES.saturating_sub(to.len());
        to.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Masks the secrets of the request.
#[derive(Debug)]
struct Masks {
    params: Pairs,
    /// Of STDIN, once some of it has come.
    body: Option<Body>,
    /// By direction: bytes are missing, so that later ones can't be interpreted.
    lost: [bool; 2],
}

impl Exchange {
    pub(crate) fn new(
        number: u64,
        connection: u64,
        request_id: u16,
        (role, keep_conn): (u16, bool),
        begun: Time,
        show_secrets: bool,
    ) -> Self {
        let masks = || Masks { params: Pairs::new(), body: None, lost: [false; 2] };
        Self {
            number,
            connection,
            request_id,
            role,
            keep_conn,
            begun,
            first: None,
            aborted: false,
            params: Params::default(),
            stdin: 0,
            data: 0,
            stdout: 0,
            stderr: 0,
            head: Head::new(),
            masks: (!show_secrets).then(masks),
            kept: None,
            held: Vec::new(),
            held_bytes: 0,
        }
    }

    /// Takes a piece of a record's content, and masks its secrets. `false` if it belongs to no
    /// stream of the request and was left unchanged.
    pub(crate) fn take(
        &mut self,
        direction: Direction,
        kind: RecordType,
        bytes: &mut [u8],
        time: Time,
    ) -> bool {
        let masks = self.masks.as_ref();
        let is_lost = masks.is_some_and(|masks| masks.lost[direction as usize]);
        let length = bytes.len() as u64;
        if is_lost {
            mask::overwrite(bytes);
        }
        match (direction, kind) {
            (Direction::ToApplication, RecordType::Params) if is_lost => {}
            (Direction::ToApplication, RecordType::Params) => self.params(bytes),
            (Direction::ToApplication, RecordType::Stdin) => self.stdin(bytes),
            (Direction::ToApplication, RecordType::Data) => self.data += length,
            (Direction::ToWebServer, RecordType::Stdout) => {
                self.first.get_or_insert(time);
                self.stdout += length;
                if !is_lost {
                    self.head.apply(bytes, self.masks.is_some());
                }
            }
            (Direction::ToWebServer, RecordType::Stderr) => self.stderr += length,
            _ => return false,
        }
        if let Some(kept) = &mut self.kept {
            kept.stream(kind, bytes);
        }
        true
    }

    /// From here on nothing is known about that direction: everything is masked.
    pub(crate) const fn lose(&mut self, direction: Direction) {
        if let Some(masks) = &mut self.masks {
            masks.lost[direction as usize] = true;
        }
    }

    fn params(&mut self, bytes: &mut [u8]) {
        if let Some(masks) = &mut self.masks {
            masks.params.apply(bytes);
        }
        self.params.push(bytes);
    }

    fn stdin(&mut self, bytes: &mut [u8]) {
        self.stdin += bytes.len() as u64;
        let Some(masks) = &mut self.masks else { return };
        let content_type = || self.params.get(b"CONTENT_TYPE").unwrap_or_default();
        masks.body.get_or_insert_with(|| Body::new(content_type())).apply(bytes);
    }

    pub(crate) fn method(&self) -> String {
        self.text(b"REQUEST_METHOD").unwrap_or_else(|| "-".to_owned())
    }

    /// The path that the browser requested, or the script's.
    pub(crate) fn path(&self) -> String {
        if let Some(uri) = self.text(b"REQUEST_URI") {
            return uri;
        }
        let script = self.text(b"SCRIPT_NAME").or_else(|| self.text(b"SCRIPT_FILENAME"));
        let info = self.text(b"PATH_INFO").unwrap_or_default();
        let mut path =
            script.unwrap_or_else(|| if info.is_empty() { "-".into() } else { String::new() });
        path.push_str(&info);
        if let Some(query) = self.text(b"QUERY_STRING") {
            path.push('?');
            path.push_str(&query);
        }
        path
    }

    /// A parameter that is set and not empty.
    fn text(&self, name: &[u8]) -> Option<String> {
        let value = self.params.get(name).filter(|value| !value.is_empty())?;
        Some(escape(value, b"").replace(' ', "\\x20"))
    }

    /// The response's status, and a note about its end.
    pub(crate) fn status(&self, outcome: Outcome) -> String {
        let code = self.head.status().map(|code| code.to_string());
        let mut words: Vec<String> = code.into_iter().collect();
        words.extend(self.note(outcome));
        if words.is_empty() { "-".to_owned() } else { words.join(" ") }
    }

    /// Anything unusual about the end.
    pub(crate) fn note(&self, outcome: Outcome) -> Option<String> {
        let abort = if self.aborted { "aborted" } else { "" };
        let end = match outcome {
            Outcome::Cut => "cut".to_owned(),
            Outcome::Left => "web server left".to_owned(),
            Outcome::Open => "open".to_owned(),
            Outcome::Ended(EndRequestBody { protocol_status: 0, app_status: 0 }) => String::new(),
            Outcome::Ended(EndRequestBody { protocol_status: 0, app_status }) => {
                format!("app status {app_status}")
            }
            Outcome::Ended(EndRequestBody { protocol_status, .. }) => {
                Rejection::from_u8(protocol_status).map_or_else(
                    || format!("protocol status {protocol_status}"),
                    |rejection| rejection.to_string(),
                )
            }
        };
        let words: Vec<&str> = [abort, &*end].into_iter().filter(|word| !word.is_empty()).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// The parameters of a request, as far as they are kept.
#[derive(Debug, Default)]
pub(crate) struct Params {
    decoder: PairDecoder,
    pairs: Vec<Pair>,
    /// How many of `pairs` were shown already.
    shown: usize,
    bytes: usize,
    /// Whether something was not kept.
    pub(crate) cut: bool,
}

impl Params {
    fn push(&mut self, mut bytes: &[u8]) {
        while let (used, Some(piece)) = self.decoder.next(bytes) {
            bytes = &bytes[used..];
            let room = KEPT.saturating_sub(self.bytes);
            let (piece, to) = match (piece, self.pairs.last_mut()) {
                (PairPiece::Lengths { .. }, _) => {
                    // Even an empty pair costs something (H-6).
                    if room == 0 {
                        self.cut = true;
                    } else {
                        self.bytes += std::mem::size_of::<Pair>();
                        self.pairs.push(Pair::default());
                    }
                    continue;
                }
                (PairPiece::Name(piece), Some(pair)) => (piece, &mut pair.0),
                (PairPiece::Value(piece), Some(pair)) => (piece, &mut pair.1),
                (_, None) => continue,
            };
            if self.cut {
                continue;
            }
            let kept = piece.len().min(room);
            self.cut |= kept < piece.len();
            self.bytes += kept;
            to.extend_from_slice(&piece[..kept]);
        }
    }

    /// The last parameter of this name, as most applications take it.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.pairs.iter().rfind(|pair| pair.0 == name).map(|pair| &*pair.1)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter()
    }

    /// The pairs that were completed since the last call, as lines.
    pub(crate) fn news(&mut self) -> Vec<String> {
        let cut_short = !self.decoder.is_at_boundary() && !self.cut;
        let whole = self.pairs.len().saturating_sub(usize::from(cut_short));
        let new = self.pairs.get(self.shown..whole).unwrap_or_default();
        let mut lines: Vec<String> = new
            .iter()
            .map(|(name, value)| format!("{}={}", escape(name, b""), escape(value, b"")))
            .collect();
        self.shown = self.shown.max(whole);
        if self.cut {
            lines.push("… more than is shown".to_owned());
        }
        lines
    }
}
