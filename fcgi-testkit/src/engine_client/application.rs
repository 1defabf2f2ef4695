//! The application's end: it reads records by hand, checks each byte, and says what it is told to.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use crate::{
    choices::{Choices, noise},
    wire::{AUTHORIZER, FILTER, Type, close, decode, end, padded, record},
};

/// The longest body.
pub(super) const LONGEST: usize = 3000;
/// An id that no request has.
const STRAY: u16 = 60_000;

/// How the application ended a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    Complete(u32),
    Rejected,
}

#[derive(Default)]
pub(super) struct Application {
    /// What was written and is not a whole record yet.
    partial: Vec<u8>,
    /// Bytes that were written, and bytes in whole records.
    written: usize,
    parsed: usize,
    /// Bytes that it has read.
    taken: usize,
    /// Requests whose PARAMS have not ended, by id: their role and PARAMS.
    opening: BTreeMap<u16, (u16, Vec<u8>)>,
    /// The number of the last request under an id.
    numbers: BTreeMap<u16, usize>,
    requests: BTreeMap<usize, Request>,
    /// Bytes sent.
    said: usize,
    garbage: bool,
    silent: bool,
}

struct Request {
    id: u16,
    role: u16,
    /// What was written up to the end of PARAMS, and of all of it.
    begun: usize,
    whole: Option<usize>,
    sent_at: Option<Instant>,
    /// Bytes of STDIN and DATA, and their ends.
    came: [usize; 2],
    ended: [bool; 2],
    /// Pieces of STDOUT and STDERR, by their places in all that was said.
    output: Vec<(usize, usize, usize)>,
    said: [usize; 2],
    closed: [bool; 2],
    ending: Option<(usize, Ending)>,
    /// It was ended after all of it was read.
    waited: bool,
}

impl Application {
    fn request(&self, number: usize) -> Option<&Request> {
        self.requests.get(&number)
    }

    /// Whether its PARAMS were written.
    pub(super) fn has_begun(&self, number: usize) -> bool {
        self.requests.contains_key(&number)
    }

    /// When the last byte of a request was written, once it was.
    pub(super) fn sent_at(&self, number: usize) -> Option<Instant> {
        self.request(number)?.sent_at
    }

    /// Whether it was ended after all of it was read.
    pub(super) fn has_waited(&self, number: usize) -> bool {
        self.request(number).is_some_and(|request| request.waited)
    }

    /// How much of STDOUT and STDERR is in the first `read` bytes.
    pub(super) fn output(&self, number: usize, read: usize) -> [usize; 2] {
        let mut all = [0; 2];
        for (stream, from, to) in self.request(number).iter().flat_map(|r| r.output.iter()) {
            all[*stream] += (*to).min(read).saturating_sub(*from);
        }
        all
    }

    /// How it was ended in the first `read` bytes.
    pub(super) fn ending(&self, number: usize, read: usize) -> Option<Ending> {
        let (at, ending) = self.request(number)?.ending?;
        (at <= read).then_some(ending)
    }

    pub(super) fn speaks_garbage(&self) -> bool {
        self.garbage
    }

    // ---- What it is sent -----------------------------------------------------------------------

    /// Looks at what was written, and when.
    pub(super) fn note_written(&mut self, wrote: usize, written: &VecDeque<u8>, now: Instant) {
        let new = wrote - self.written;
        self.written = wrote;
        self.partial.extend(written.iter().skip(written.len() - new));
        let partial = std::mem::take(&mut self.partial);
        let mut rest = &partial[..];
        while let Some((kind, id, content, len)) = first(rest) {
            rest = &rest[len..];
            self.parsed += len;
            self.record(kind, id, content, now);
        }
        self.partial = rest.to_vec();
    }

    fn record(&mut self, kind: u8, id: u16, content: &[u8], now: Instant) {
        match kind {
            1 => {
                // An id is free again once its END_REQUEST was read.
                let before = self.numbers.get(&id).and_then(|number| self.request(*number));
                assert!(before.is_none_or(|request| request.ending.is_some()), "id {id} twice");
                let role = u16::from_be_bytes([content[0], content[1]]);
                assert!(self.opening.insert(id, (role, Vec::new())).is_none());
            }
            2 => assert!(self.numbers.contains_key(&id), "an abort of nothing"),
            4 if !content.is_empty() => {
                self.opening.get_mut(&id).expect("begun").1.extend_from_slice(content);
            }
            4 => {
                let (role, params) = self.opening.remove(&id).expect("begun");
                let pairs = decode(&params);
                let number = pairs.iter().find(|(name, _)| name == b"N").expect("its number");
                let number = std::str::from_utf8(&number.1).unwrap().parse().unwrap();
                let none = self.requests.insert(number, Request::new(id, role, self.parsed));
                assert!(none.is_none(), "{number} twice");
                self.numbers.insert(id, number);
                self.note_whole(number, now);
            }
            5 | 8 => {
                let stream = usize::from(kind == 8);
                let number = self.numbers[&id];
                let request = self.requests.get_mut(&number).expect("begun");
                assert!(!request.ended[stream], "more after the end");
                let expected = noise(number, stream, request.came[stream], content.len());
                assert!(content == expected, "other bytes than the body of {number} has");
                request.came[stream] += content.len();
                request.ended[stream] |= content.is_empty();
                self.note_whole(number, now);
            }
            _ => panic!("a record of type {kind}"),
        }
    }

    fn note_whole(&mut self, number: usize, now: Instant) {
        let request = self.requests.get_mut(&number).expect("begun");
        let needs = [request.role != AUTHORIZER, request.role == FILTER];
        let whole = needs.iter().zip(request.ended).all(|(needs, ended)| ended || !needs);
        if whole && request.whole.is_none() {
            (request.whole, request.sent_at) = (Some(self.parsed), Some(now));
        }
    }

    /// It reads so many bytes.
    pub(super) fn take(&mut self, n: usize) {
        self.taken += n;
    }

    // ---- What it says --------------------------------------------------------------------------

    /// Those that it knows of and has not ended.
    fn open(&self) -> Vec<usize> {
        let known = |request: &Request| request.begun <= self.taken && request.ending.is_none();
        self.requests.iter().filter(|(_, r)| known(r)).map(|(number, _)| *number).collect()
    }

    fn send(&mut self, bytes: &[u8], to: &mut VecDeque<u8>) {
        self.said += bytes.len();
        to.extend(bytes);
    }

    /// A record of one of its requests, or of none.
    pub(super) fn say(&mut self, which: usize, choices: &mut Choices<'_>, to: &mut VecDeque<u8>) {
        if self.silent {
            return;
        }
        let open = self.open();
        let what = choices.below(16);
        if what < 4 || open.is_empty() {
            let bytes = match what {
                0 => record(Type::Other(77), 0, b"what"),
                1 => record(Type::Stdout, STRAY, b"for nobody"),
                2 => end(STRAY, 0, 0),
                _ => record(Type::GetValuesResult, 0, b""),
            };
            return self.send(&bytes, to);
        }
        let number = open[which % open.len()];
        let said = self.said;
        let request = self.requests.get_mut(&number).expect("open");
        let stream = usize::from(what % 4 == 3);
        let kind = [Type::Stdout, Type::Stderr][stream];
        if request.closed[stream] {
            return;
        }
        if what == 4 || what == 7 {
            request.closed[stream] = true;
            let bytes = close(kind, request.id);
            return self.send(&bytes, to);
        }
        let len = choices.pick(&[1, 8, 60, 700]);
        let content = noise(number, 2 + stream, request.said[stream], len);
        request.said[stream] += len;
        request.output.push((stream, said + 8, said + 8 + len));
        let bytes = padded(kind, request.id, &content, choices.pick(&[0, 0, 7, 255]));
        self.send(&bytes, to);
    }

    /// END_REQUEST for one of its requests; see [`endable`](Self::endable).
    pub(super) fn end(
        &mut self,
        which: usize,
        patient: bool,
        choices: &mut Choices<'_>,
        to: &mut VecDeque<u8>,
    ) {
        let open = self.endable(patient);
        let status = choices.below(8);
        if !open.is_empty() {
            self.finish(open[which % open.len()], status, to);
        }
    }

    /// END_REQUEST for all; says whether there were any.
    pub(super) fn end_all(&mut self, patient: bool, to: &mut VecDeque<u8>) -> bool {
        let open = self.endable(patient);
        open.iter().for_each(|number| self.finish(*number, 0, to));
        !open.is_empty()
    }

    /// Those that it may end: if it is `patient`, those of which it has read all.
    fn endable(&self, patient: bool) -> Vec<usize> {
        let mut open = if self.silent { Vec::new() } else { self.open() };
        open.retain(|number| !patient || self.requests[number].is_read(self.taken));
        open
    }

    fn finish(&mut self, number: usize, status: usize, to: &mut VecDeque<u8>) {
        let (said, taken) = (self.said, self.taken);
        let request = self.requests.get_mut(&number).expect("open");
        let (bytes, ending) = match status {
            7 => (end(request.id, 0, 2), Ending::Rejected),
            _ => (end(request.id, status as u32, 0), Ending::Complete(status as u32)),
        };
        request.ending = Some((said + bytes.len(), ending));
        request.waited = request.is_read(taken);
        self.send(&bytes, to);
    }

    /// Something that is no record; nothing after it.
    pub(super) fn speak_garbage(&mut self, to: &mut VecDeque<u8>) {
        if !self.silent {
            self.send(b"HTTP/1.1 400 Bad Request\r\n\r\n", to);
            (self.garbage, self.silent) = (true, true);
        }
    }

    /// It says no more.
    pub(super) fn fall_silent(&mut self) {
        self.silent = true;
    }
}

impl Request {
    fn is_read(&self, taken: usize) -> bool {
        self.whole.is_some_and(|whole| whole <= taken)
    }

    fn new(id: u16, role: u16, begun: usize) -> Self {
        Self {
            id,
            role,
            begun,
            whole: None,
            sent_at: None,
            came: [0; 2],
            ended: [false; 2],
            output: Vec::new(),
            said: [0; 2],
            closed: [false; 2],
            ending: None,
            waited: false,
        }
    }
}

/// The first record: its type, id, content, and length in all.
fn first(bytes: &[u8]) -> Option<(u8, u16, &[u8], usize)> {
    let header = bytes.get(..8)?;
    assert_eq!((header[0], header[7]), (1, 0), "version and reserved byte");
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let all = 8 + len + usize::from(header[6]);
    let content = bytes.get(..all)?.get(8..8 + len)?;
    Some((header[1], u16::from_be_bytes([header[2], header[3]]), content, all))
}
