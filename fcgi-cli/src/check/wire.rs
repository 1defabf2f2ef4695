//! Records as the cases need them, including those that a correct peer never sends.

use fcgi_tokio::proto::record::{
    BeginRequestBody, HEADER_LEN, MAX_ALIGNED_CONTENT, RecordHeader, RecordType, VERSION,
};

use super::steps::Part;

/// The period of a body's bytes: each differs from its neighbours.
const PATTERN: u32 = 251;

/// A record to send.
#[derive(Clone)]
struct Record {
    version: u8,
    kind: RecordType,
    id: u16,
    content: Vec<u8>,
    /// `None` means what aligns it.
    padding: Option<u8>,
    reserved: u8,
}

/// A pair of a plain request.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// The plain request of this application.
pub(super) struct Plain {
    /// All parameters except method and length.
    pub(super) params: Vec<Pair>,
}

impl Plain {
    /// Encodes these parts.
    pub(super) fn encode(&self, parts: &[Part]) -> Vec<u8> {
        let mut out = Vec::new();
        for record in parts.iter().flat_map(|part| self.records(part)) {
            let mut header = RecordHeader::new(record.kind, record.id, record.content.len() as u16);
            if let Some(padding) = record.padding {
                header.padding_length = padding;
            }
            let mut bytes: [u8; HEADER_LEN] = header.encode();
            bytes[0] = record.version;
            bytes[7] = record.reserved;
            out.extend(bytes);
            out.extend(record.content);
            // Padding that only aligns is zeros; padding that is tested is noise.
            let filler = if record.padding.is_some() { 0xFF } else { 0 };
            out.resize(out.len() + usize::from(header.padding_length), filler);
        }
        out
    }

    fn all(&self, parts: &[Part]) -> Vec<Record> {
        parts.iter().flat_map(|part| self.records(part)).collect()
    }

    fn records(&self, part: &Part) -> Vec<Record> {
        let one = |kind, id, content: Vec<u8>| vec![Record::new(kind, id, content)];
        let begin = |id, role, keep_conn| {
            let body = BeginRequestBody { role, keep_conn }.encode();
            Record::new(RecordType::BeginRequest, id, body.to_vec())
        };
        match *part {
            Part::Request(id, keep) => {
                let mut records = vec![begin(id, 1, keep)];
                records.extend(self.all(&[
                    Part::Params(id, 0),
                    Part::ParamsEnd(id),
                    Part::StdinEnd(id),
                ]));
                records
            }
            Part::Post(id, keep, length) => {
                let mut records = vec![begin(id, 1, keep)];
                records.extend(self.all(&[
                    Part::Params(id, length),
                    Part::ParamsEnd(id),
                    Part::Stdin(id, length, MAX_ALIGNED_CONTENT),
                    Part::StdinEnd(id),
                ]));
                records
            }
            Part::Begin(id, role, keep) => vec![begin(id, role, keep)],
            Part::Params(id, length) => {
                one(RecordType::Params, id, encoded(&self.pairs(Some(length)), false))
            }
            Part::ParamsAnd(id, more) => {
                let mut pairs = self.pairs(Some(0));
                let value = |length| (0..length).map(|n| b'a' + (n % 26) as u8).collect();
                pairs.extend(more.iter().map(|(name, length)| (name.to_vec(), value(*length))));
                one(RecordType::Params, id, encoded(&pairs, false))
            }
            Part::ParamsNoLength(id) => {
                one(RecordType::Params, id, encoded(&self.pairs(None), false))
            }
            Part::ParamsCut(id, size) => {
                cut(RecordType::Params, id, &encoded(&self.pairs(Some(0)), false), size)
            }
            Part::ParamsLong(id) => {
                one(RecordType::Params, id, encoded(&self.pairs(Some(0)), true))
            }
            Part::ParamsEnd(id) => one(RecordType::Params, id, Vec::new()),
            Part::Stdin(id, length, size) => cut(RecordType::Stdin, id, &body(length), size),
            Part::StdinEnd(id) => one(RecordType::Stdin, id, Vec::new()),
            Part::Data(id, length) => cut(RecordType::Data, id, &body(length), MAX_ALIGNED_CONTENT),
            Part::DataEnd(id) => one(RecordType::Data, id, Vec::new()),
            Part::Abort(id) => one(RecordType::AbortRequest, id, Vec::new()),
            Part::GetValues(names) => {
                let pairs: Vec<Pair> =
                    names.iter().map(|name| (name.as_bytes().to_vec(), Vec::new())).collect();
                one(RecordType::GetValues, 0, encoded(&pairs, false))
            }
            Part::Record(kind, id, content) => one(kind, id, content.to_vec()),
            Part::Filled(kind, id, byte, length) => one(kind, id, vec![byte; length]),
            Part::Times(times, parts) => {
                let records = self.all(parts);
                (0..times).flat_map(|_| records.clone()).collect()
            }
            Part::Padded(padding, parts) => {
                self.changed(parts, |record| record.padding = Some(padding))
            }
            Part::PaddedEnds(padding, parts) => self.changed(parts, |record| {
                if record.content.is_empty() {
                    record.padding = Some(padding);
                }
            }),
            Part::Reserved(parts) => self.changed(parts, |record| record.reserved = 0xFF),
            Part::Version(version, parts) => self.changed(parts, |record| record.version = version),
        }
    }

    fn changed(&self, parts: &[Part], change: impl Fn(&mut Record)) -> Vec<Record> {
        let mut records = self.all(parts);
        records.iter_mut().for_each(change);
        records
    }

    /// The parameters for a body of this length; `None` leaves out the length.
    fn pairs(&self, length: Option<usize>) -> Vec<Pair> {
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let has_body = length != Some(0);
        let mut pairs = vec![pair("REQUEST_METHOD", if has_body { "POST" } else { "GET" })];
        if has_body {
            pairs.push(pair("CONTENT_TYPE", "application/octet-stream"));
        }
        if let Some(length) = length.filter(|length| *length > 0) {
            pairs.push(pair("CONTENT_LENGTH", &length.to_string()));
        }
        pairs.extend(self.params.iter().cloned());
        pairs
    }
}

impl Record {
    fn new(kind: RecordType, id: u16, content: Vec<u8>) -> Self {
        Self { version: VERSION, kind, id, content, padding: None, reserved: 0 }
    }
}

fn body(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n % PATTERN) as u8).collect()
}

fn cut(kind: RecordType, id: u16, content: &[u8], size: usize) -> Vec<Record> {
    content.chunks(size).map(|piece| Record::new(kind, id, piece.to_vec())).collect()
}

/// Encodes pairs with the shortest lengths, or with long ones only.
fn encoded(pairs: &[Pair], long: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in pairs {
        for part in [name, value] {
            match u8::try_from(part.len()) {
                Ok(length @ 0..0x80) if !long => out.push(length),
                _ => out.extend((part.len() as u32 | 1 << 31).to_be_bytes()),
            }
        }
        out.extend(name);
        out.extend(value);
    }
    out
}
