//! GET_VALUES and its answer: an application's capacity (specification, 4.1).

use alloc::vec::Vec;

use crate::pairs::{self, PairDecoder, PairPiece};

const MAX_CONNS: &[u8] = b"FCGI_MAX_CONNS";
const MAX_REQS: &[u8] = b"FCGI_MAX_REQS";
const MPXS_CONNS: &[u8] = b"FCGI_MPXS_CONNS";

/// An application's capacity; `None` for what it did not report.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Values {
    /// `FCGI_MAX_CONNS`: concurrent connections.
    pub max_conns: Option<u32>,
    /// `FCGI_MAX_REQS`: concurrent requests.
    pub max_reqs: Option<u32>,
    /// `FCGI_MPXS_CONNS`: whether a connection carries several requests at once.
    pub mpxs_conns: Option<bool>,
}

impl Values {
    /// The content of a GET_VALUES that asks for all three.
    pub(crate) fn query() -> Vec<u8> {
        let mut out = Vec::new();
        for name in [MAX_CONNS, MAX_REQS, MPXS_CONNS] {
            push(name, b"", &mut out);
        }
        out
    }

    pub(crate) fn learn(&mut self, name: &[u8], value: &[u8]) {
        let number = || core::str::from_utf8(value).ok()?.trim().parse().ok();
        match name {
            MAX_CONNS => self.max_conns = number(),
            MAX_REQS => self.max_reqs = number(),
            MPXS_CONNS => self.mpxs_conns = number().map(|n| n != 0),
            _ => {}
        }
    }
}

/// The known names that a GET_VALUES asked for, each once even if it is repeated (H-2).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    max_conns: bool,
    max_reqs: bool,
    mpxs_conns: bool,
}

impl Asked {
    pub(crate) fn note(&mut self, name: &[u8]) {
        match name {
            MAX_CONNS => self.max_conns = true,
            MAX_REQS => self.max_reqs = true,
            MPXS_CONNS => self.mpxs_conns = true,
            _ => {}
        }
    }

    /// The content of the GET_VALUES_RESULT.
    pub(crate) fn answer(self, values: &Values) -> Vec<u8> {
        use alloc::string::ToString;
        let mut out = Vec::new();
        let rows = [
            (self.max_conns, MAX_CONNS, values.max_conns),
            (self.max_reqs, MAX_REQS, values.max_reqs),
            (self.mpxs_conns, MPXS_CONNS, values.mpxs_conns.map(u32::from)),
        ];
        for (asked, name, value) in rows {
            if let (true, Some(value)) = (asked, value) {
                push(name, value.to_string().as_bytes(), &mut out);
            }
        }
        out
    }
}

fn push(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let (lengths, n) = pairs::encode_lengths(name.len() as u32, value.len() as u32);
    out.extend_from_slice(&lengths[..n]);
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

/// Reads the pairs of one management record. Only short names and values are kept; longer ones are
/// skipped (H-1).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SmallPairs {
    pair: PairDecoder,
    name: Small,
    value: Small,
}

#[derive(Clone, Copy, Debug, Default)]
struct Small {
    bytes: [u8; 16],
    len: usize,
    left: u32,
}

impl Small {
    fn start(len: u32) -> Self {
        Self { left: len, ..Self::default() }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.left -= bytes.len() as u32;
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.len += bytes.len();
    }

    /// Empty if it did not fit, which never happens to a known name.
    fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl SmallPairs {
    /// Calls `found` for each pair that `input` completes.
    pub(crate) fn push(&mut self, mut input: &[u8], mut found: impl FnMut(&[u8], &[u8])) {
        while let (used, Some(piece)) = self.pair.next(input) {
            input = &input[used..];
            match piece {
                PairPiece::Lengths { name, value } => {
                    self.name = Small::start(name);
                    self.value = Small::start(value);
                }
                PairPiece::Name(bytes) => self.name.push(bytes),
                PairPiece::Value(bytes) => self.value.push(bytes),
            }
            if self.name.left == 0 && self.value.left == 0 {
                found(self.name.get(), self.value.get());
            }
        }
    }
}
