//! The web server of a session under test, and the socket between them.

use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
    io::{self, IoSlice},
};

use fcgi_engine::{pump::Socket, server::Duplex, socket::HangUp};
use fcgi_proto::record::{HEADER_LEN, RecordHeader, RecordType as Type};

use crate::wire;

/// One request from the web server's point of view.
#[derive(Debug, Default)]
struct Request {
    id: u16,
    input: usize,
    input_ended: bool,
    aborted: bool,
    /// What its handler wrote.
    written: usize,
    /// How much of that has come, or of a page.
    came: Vec<u8>,
    stdout_ended: bool,
    cut: bool,
    ended: bool,
}

/// The web server, and the socket.
#[derive(Debug, Default)]
pub(super) struct Peer {
    requests: Vec<Request>,
    /// The active requests by id.
    active: HashMap<u16, usize>,
    /// Sent, but not arrived yet.
    sent: Vec<u8>,
    /// Arrived, but not read yet.
    inbox: VecDeque<u8>,
    ends: bool,
    at_end: bool,
    closed: bool,
    garbage: bool,
    /// Written, but not taken yet.
    outbox: Vec<u8>,
    room: usize,
    /// Taken, but not a complete record yet.
    taken: Vec<u8>,
    shut: Cell<bool>,
}

/// The byte at this place of a request's stream.
fn byte(number: usize, at: usize, salt: usize) -> u8 {
    (number * 31 + at * 7 + at / 256 + salt) as u8
}

impl Peer {
    fn send(&mut self, bytes: &[u8]) {
        if !self.ends && !self.closed && !self.garbage {
            self.sent.extend_from_slice(bytes);
        }
    }

    pub(super) fn begin(&mut self, place: usize, keep_conn: bool) {
        let id = place as u16 + 1;
        if self.ends || self.closed || self.garbage || self.active.contains_key(&id) {
            return;
        }
        let number = self.requests.len();
        self.active.insert(id, number);
        self.requests.push(Request { id, ..Request::default() });
        let params = wire::params(id, &[("N", &number.to_string())]);
        self.send(&[wire::begin(id, wire::RESPONDER, keep_conn), params].concat());
    }

    /// The active request with this place's id, whose input is open.
    fn open(&mut self, place: usize) -> Option<(usize, &mut Request)> {
        if self.ends || self.closed || self.garbage {
            return None;
        }
        let number = *self.active.get(&(place as u16 + 1))?;
        let request = &mut self.requests[number];
        (!request.input_ended).then_some((number, request))
    }

    pub(super) fn input(&mut self, place: usize, length: usize) {
        let Some((number, request)) = self.open(place) else { return };
        let (id, from) = (request.id, request.input);
        request.input += length;
        let content: Vec<_> = (from..from + length).map(|at| byte(number, at, 0)).collect();
        self.send(&wire::stream(Type::Stdin, id, &content));
    }

    pub(super) fn end_input(&mut self, place: usize) {
        let Some((_, request)) = self.open(place) else { return };
        request.input_ended = true;
        let id = request.id;
        self.send(&wire::close(Type::Stdin, id));
    }

    pub(super) fn abort(&mut self, place: usize) {
        let id = place as u16 + 1;
        if let Some(number) = self.active.get(&id) {
            self.requests[*number].aborted = true;
            self.send(&wire::abort(id));
        }
    }

    pub(super) fn say_garbage(&mut self) {
        self.send(&[0xFF; 16]);
        self.garbage = true;
    }

    /// This many of the sent bytes arrive.
    pub(super) fn deliver(&mut self, n: usize) {
        let n = n.min(self.sent.len());
        self.inbox.extend(self.sent.drain(..n));
        self.at_end = self.ends && self.sent.is_empty();
    }

    pub(super) fn shutdown_write(&mut self) {
        self.ends = true;
        self.at_end = self.sent.is_empty();
    }

    pub(super) fn close(&mut self) {
        (self.ends, self.at_end, self.closed) = (true, true, true);
        self.sent.clear();
    }

    /// Takes this many bytes, and makes room for as many.
    pub(super) fn take(&mut self, n: usize) {
        if self.closed {
            return;
        }
        let now = n.min(self.outbox.len());
        self.room = self.room.saturating_add(n).min(1 << 20);
        self.taken.extend(self.outbox.drain(..now));
        while let Some(header) = self.taken.first_chunk::<HEADER_LEN>() {
            let header = RecordHeader::decode(*header).unwrap();
            let content = HEADER_LEN + usize::from(header.content_length);
            let whole = content + usize::from(header.padding_length);
            if self.taken.len() < whole {
                return;
            }
            let record: Vec<_> = self.taken.drain(..whole).collect();
            self.record(&header, &record[HEADER_LEN..content]);
        }
    }

    fn record(&mut self, header: &RecordHeader, content: &[u8]) {
        let number = *self.active.get(&header.request_id).expect("an active request");
        let request = &mut self.requests[number];
        match header.record_type {
            Type::Stdout if content.is_empty() => {
                assert!(!request.cut, "STDOUT of request {number} ends");
                assert!(!std::mem::replace(&mut request.stdout_ended, true));
            }
            Type::Stdout => {
                assert!(!request.stdout_ended, "FC-3.3-12");
                request.came.extend_from_slice(content);
            }
            Type::EndRequest => {
                assert!(!request.cut, "END_REQUEST says that request {number} is whole");
                request.ended = true;
                self.active.remove(&header.request_id);
                self.check_came(number, true);
            }
            other => panic!("{other:?}"),
        }
    }

    fn check_came(&self, number: usize, whole: bool) {
        let request = &self.requests[number];
        if request.written == 0 {
            let page = |status: &str| request.came.starts_with(status.as_bytes());
            let page = page("Status: 500") || page("Status: 503");
            assert!(request.came.is_empty() || page);
            return;
        }
        assert!(request.came.len() <= request.written);
        assert!(!whole || request.came.len() == request.written, "request {number} is not whole");
        let expected = (0..request.came.len()).map(|at| byte(number, at, 99));
        assert!(request.came.iter().copied().eq(expected), "of request {number}");
    }

    /// What a handler writes next.
    pub(super) fn next_output(&self, number: usize, length: usize) -> Vec<u8> {
        let from = self.requests[number].written;
        (from..from + length).map(|at| byte(number, at, 99)).collect()
    }

    pub(super) fn wrote(&mut self, number: usize, taken: usize) {
        self.requests[number].written += taken;
    }

    pub(super) fn check_read(&self, number: usize, from: usize, bytes: &[u8]) {
        assert!(from + bytes.len() <= self.requests[number].input);
        let expected = (from..from + bytes.len()).map(|at| byte(number, at, 0));
        assert!(bytes.iter().copied().eq(expected), "what request {number} reads at {from}");
    }

    /// A handler came to the end of its input.
    pub(super) fn check_read_whole(&self, number: usize, read: usize) {
        let request = &self.requests[number];
        assert!(request.input_ended && read == request.input, "request {number}: {read} bytes");
    }

    /// A handler failed. True if the response must look truncated: it has written something, and no
    /// other request is active.
    pub(super) fn cut(&mut self, number: usize) -> bool {
        let request = &mut self.requests[number];
        request.cut = request.written > 0 && self.active.len() == 1;
        request.cut
    }

    pub(super) fn ended(&self) -> usize {
        self.requests.iter().filter(|request| request.ended).count()
    }

    /// The connection is closed.
    pub(super) fn check_end(&self) {
        if self.closed {
            return;
        }
        for number in 0..self.requests.len() {
            self.check_came(number, self.requests[number].ended);
        }
    }
}

fn would_block<T>() -> io::Result<T> {
    Err(io::ErrorKind::WouldBlock.into())
}

impl Socket for Peer {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.inbox.is_empty() && !self.at_end {
            return would_block();
        }
        let n = self.inbox.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(self.inbox.drain(..n)) {
            *to = from;
        }
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(!self.shut.get(), "a write after the end");
        if self.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let n = slices.iter().map(|slice| slice.len()).sum::<usize>().min(self.room);
        if n == 0 {
            return would_block();
        }
        self.room -= n;
        self.outbox.extend(slices.iter().flat_map(|slice| slice.iter()).take(n));
        Ok(n)
    }
}

impl Duplex for Peer {
    const HEARS_HANG_UP: bool = false;

    fn hang_up(&self) -> HangUp {
        match (self.closed, self.at_end) {
            (true, _) => HangUp::Gone,
            (false, true) => HangUp::EndOfFile,
            (false, false) => HangUp::No,
        }
    }

    fn shutdown_write(&self) {
        self.shut.set(true);
    }

    fn refuse_input(&self) -> bool {
        false
    }
}
