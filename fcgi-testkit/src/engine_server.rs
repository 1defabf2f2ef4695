//! A server's session without sockets, tasks or threads: a web server made of raw records, random
//! handlers, partial reads and writes, faults and times, against what must hold whatever happens.
//! `fcgi-engine`'s tests and the fuzz target `engine_server` share it.
//!
//! - No handler that waits is forgotten: whoever is not woken has nothing to gain by looking.
//! - Every byte arrives in order in its own request, in both directions.
//! - A request ends with what its handler said, after all that it wrote; or for a reason: it was
//!   aborted, took too long, or its web server is gone.
//! - A handler's limits are kept, and so is each deadline that the session names: in the end it
//!   closes by itself.
//! - What was counted is counted back: another connection of the same server gets its place.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, IoSlice},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_engine::{
    Error, Phase,
    pump::Socket,
    server::{
        Awaited, Duplex, EndOfFile, Failed, HandlerEnd, Job, Session, Settings, Tally, Turn,
        Waiters, Write,
    },
    socket::{HangUp, Peer},
};
use fcgi_proto::{Input, Output, Rejection, RequestKey, Role};

use crate::{
    choices::{Choices, noise},
    wire::{
        AUTHORIZER, FILTER, KEEP, RESPONDER, Type, abort, begin, close, encode, padded, params,
        record,
    },
};

/// How often what was to be tested came about.
#[derive(Clone, Copy, Default, Debug)]
pub struct Seen {
    /// Handlers that were run.
    pub run: usize,
    /// Handlers that were run beside others.
    pub beside: usize,
    /// Requests that ended before a handler was run.
    pub unstarted: usize,
    /// Requests that ended with all that their handlers wrote.
    pub whole: usize,
    /// Requests that were refused.
    pub refused: usize,
    /// Handlers that heard that their request was aborted.
    pub aborted: usize,
    /// Handlers that were dropped, since they took too long or their request was aborted.
    pub dropped: usize,
    /// Handlers that failed or panicked.
    pub failed: usize,
    /// Writes that the socket took a part of.
    pub blocked: usize,
    /// Connections that were closed by a limit of theirs.
    pub late: usize,
}

/// Runs what the bytes say.
///
/// # Panics
/// When something does not hold.
pub fn run(bytes: &[u8]) {
    explore(bytes);
}

/// [`run`], which also says what came about.
///
/// # Panics
/// When something does not hold.
pub fn explore(bytes: &[u8]) -> Seen {
    let mut choices = Choices::new(bytes);
    Model::new(&mut choices).go(choices)
}

/// Requests in all, and at once.
const MOST: usize = 20;
const IDS: u16 = 4;
const INPUTS: [Input; 2] = [Input::Stdin, Input::Data];
const OUTPUTS: [Output; 2] = [Output::Stdout, Output::Stderr];

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn settings(choices: &mut Choices<'_>) -> Settings {
    let mut settings = Settings { web_server_addrs: None, ..Settings::from_env() };
    let limits = &mut settings.config.limits;
    limits.requests = choices.pick(&[1, 2, 4]);
    limits.recv_buffer = choices.pick(&[limits.recv_buffer, 8, 64, 1000]);
    limits.unread_request = choices.pick(&[limits.unread_request, 1, 100]);
    limits.unread_connection = choices.pick(&[limits.unread_connection, 1, 300]);
    limits.send_high_water = choices.pick(&[limits.send_high_water, 1, 100]);
    // How the web server cuts its records is drawn: no flood.
    (limits.idle_records, limits.tiny_records) = (u32::MAX, u32::MAX);
    let mut limit = || choices.pick(&[Some(ms(500)), Some(ms(20)), Some(ms(100)), None]);
    (settings.handler, settings.first_record, settings.params) = (limit(), limit(), limit());
    (settings.stdin, settings.idle, settings.write_stall) = (limit(), limit(), limit());
    settings.cancel_on_disconnect = choices.below(4) > 0;
    settings.abort_grace = choices.pick(&[ms(0), ms(0), ms(30)]);
    settings.end_of_file = choices.pick(&[EndOfFile::HalfClosed, EndOfFile::Gone]);
    settings.max_requests = choices.pick(&[100, 2]);
    settings.max_connections = 1;
    settings
}

/// Who waits for what of one request.
#[derive(Default, Debug)]
struct Waits {
    input: [bool; 2],
    output: bool,
    flush: bool,
    woken: bool,
}

impl Waiters for Waits {
    fn wake(&mut self, what: Awaited) {
        let waits = match what {
            Awaited::Input(Input::Stdin) => &mut self.input[0],
            Awaited::Input(Input::Data) => &mut self.input[1],
            Awaited::Output => &mut self.output,
            Awaited::Flush => &mut self.flush,
        };
        self.woken |= std::mem::take(waits);
    }

    fn wake_all(&mut self) {
        self.woken = true;
    }
}

/// The socket between the two ends.
#[derive(Default)]
struct Wire {
    /// Bytes that may still be written until the web server reads, and what was.
    room: usize,
    written: VecDeque<u8>,
    /// What the web server has sent that was not read.
    came: VecDeque<u8>,
    end_of_file: bool,
    gone: bool,
    /// Bytes of one call, at most.
    piece: usize,
    interrupted: bool,
    blocked: usize,
}

impl Socket for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = buf.len().min(self.came.len()).min(self.piece);
        if n == 0 {
            return match (self.gone, self.end_of_file) {
                (true, _) => Err(io::ErrorKind::ConnectionReset.into()),
                (_, true) => Ok(0),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        for (to, byte) in buf.iter_mut().zip(self.came.drain(..n)) {
            *to = byte;
        }
        Ok(n)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(slices.iter().any(|slice| !slice.is_empty()), "a write of nothing");
        if self.gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let most = self.room.min(self.piece);
        if most == 0 {
            self.blocked += 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let before = self.written.len();
        self.written.extend(slices.iter().flat_map(|slice| slice.iter()).take(most));
        let n = self.written.len() - before;
        self.room -= n;
        Ok(n)
    }
}

impl Duplex for Wire {
    const HEARS_HANG_UP: bool = false;

    fn hang_up(&self) -> HangUp {
        match (self.gone, self.end_of_file) {
            (true, _) => HangUp::Gone,
            (_, true) => HangUp::EndOfFile,
            _ => HangUp::No,
        }
    }

    fn shutdown_write(&self) {}
}

/// A request, as its web server sees it.
struct Asked {
    id: u16,
    role: u16,
    sent: [usize; 2],
    ended: [bool; 2],
    aborted: bool,
    /// Bytes of STDOUT and STDERR that came.
    came: [usize; 2],
}

/// A handler, and what it still does: reads all, if it `reads`; writes; flushes; ends.
struct Handler {
    key: RequestKey,
    role: Role,
    begun: Instant,
    /// Not before this is it run.
    started: bool,
    reads: bool,
    read: [usize; 2],
    ended: [bool; 2],
    /// Which of STDOUT and STDERR it writes to, and how much.
    stream: usize,
    length: usize,
    wrote: usize,
    flushes: bool,
    /// It waits until it is told to stop.
    hangs: bool,
    end: HandlerEnd,
    rejects: bool,
    waits_since: Option<Instant>,
}

/// What is known of a request that has ended at the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    /// With this status, after so many bytes of STDOUT and STDERR.
    Whole(u32, [usize; 2]),
    Refused,
    /// Otherwise: there may be a page in place of what was not written, or nothing at all.
    Otherwise,
}

struct Model {
    settings: Settings,
    tally: Arc<Tally>,
    session: Session<Waits>,
    wire: Wire,
    now: Instant,
    accepted: Instant,
    /// By number.
    asked: BTreeMap<usize, Asked>,
    handlers: BTreeMap<usize, Handler>,
    ended: BTreeMap<usize, Ended>,
    begun: usize,
    closed: bool,
    /// The web server has sent something.
    spoke: bool,
    garbage: bool,
    leaving: bool,
    cancelled: Option<Instant>,
    /// What the web server has read that is no whole record.
    partial: Vec<u8>,
    seen: Seen,
}

impl Model {
    fn new(choices: &mut Choices<'_>) -> Self {
        let settings = settings(choices);
        let tally = Arc::new(Tally::new(settings.clone()));
        let now = Instant::now();
        Self {
            session: Session::new(&tally, Peer::Unix, now),
            settings,
            tally,
            wire: Wire { room: 4096, piece: usize::MAX, ..Wire::default() },
            now,
            accepted: now,
            asked: BTreeMap::new(),
            handlers: BTreeMap::new(),
            ended: BTreeMap::new(),
            begun: 0,
            closed: false,
            spoke: false,
            garbage: false,
            leaving: false,
            cancelled: None,
            partial: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn go(mut self, mut choices: Choices<'_>) -> Seen {
        while !choices.is_empty() && !(self.closed && self.handlers.is_empty()) {
            let op = choices.below(16);
            let which = choices.below(16);
            match op {
                0 | 1 => self.ask(&mut choices),
                2 | 3 => self.send(which, &mut choices),
                4 | 5 => drop(self.turn(&mut choices)),
                6 | 7 => drop(self.poll_woken()),
                8 => drop(self.poll_one(which)),
                9 => self.start(which),
                10 => self.take(choices.pick(&[1, 7, 40, 1000, 100_000])),
                11 => self.settle(&mut choices),
                12 => self.now += ms(choices.pick(&[0, 1, 5, 20, 60])),
                13 => self.wire.piece = choices.pick(&[usize::MAX, 1, 3, 8, 100]),
                14 if which < 3 => self.wire.interrupted = true,
                14 => self.wire.room = self.wire.room.max(1000),
                _ => self.rare(which, &mut choices),
            }
        }
        self.finish(&mut choices)
    }

    fn rare(&mut self, which: usize, choices: &mut Choices<'_>) {
        match which {
            0 => self.wire.end_of_file = true,
            1 => self.wire.gone = true,
            2 if !self.wire.end_of_file => {
                self.garbage = true;
                self.wire.came.extend(b"GET / HTTP/1.1\r\n\r\n");
            }
            3 => {
                self.leaving = true;
                self.session.shutdown(self.now);
            }
            4 => {
                self.cancelled = self.cancelled.or(Some(self.now));
                self.session.cancel(self.now);
            }
            5 | 6 => {
                let numbers: Vec<usize> = self.asked.keys().copied().collect();
                let Some(number) = numbers.get(choices.below(16) % numbers.len().max(1)) else {
                    return;
                };
                let asked = self.asked.get_mut(number).expect("asked");
                asked.aborted = true;
                let bytes = abort(asked.id);
                self.to_server(&bytes);
            }
            7 => self.to_server(&record(
                Type::GetValues,
                0,
                &encode(&[("FCGI_MAX_CONNS", ""), ("FCGI_MPXS_CONNS", "")]),
            )),
            8 => self.to_server(&record(Type::Other(99), 0, b"what")),
            _ => {}
        }
    }

    // ---- The web server ------------------------------------------------------------------------

    fn to_server(&mut self, bytes: &[u8]) {
        self.spoke = true;
        if !self.wire.end_of_file && !self.wire.gone && !self.garbage {
            self.wire.came.extend(bytes);
        }
    }

    fn ask(&mut self, choices: &mut Choices<'_>) {
        let free = (1..=IDS).find(|id| self.asked.values().all(|asked| asked.id != *id));
        let Some(id) = free.filter(|_| self.begun < MOST) else { return };
        let number = self.begun;
        self.begun += 1;
        let role = choices.pick(&[RESPONDER, RESPONDER, FILTER, AUTHORIZER]);
        let keep = choices.below(16) > 0;
        let bytes = [
            begin(id, role, if keep { KEEP } else { !KEEP }),
            params(id, &[("N", &number.to_string())]),
        ];
        self.to_server(&bytes.concat());
        let asked =
            Asked { id, role, sent: [0; 2], ended: [false; 2], aborted: false, came: [0; 2] };
        self.asked.insert(number, asked);
    }

    /// More of a request's input, or its end.
    fn send(&mut self, which: usize, choices: &mut Choices<'_>) {
        let numbers: Vec<usize> = self.asked.keys().copied().collect();
        let Some(number) = numbers.get(which % numbers.len().max(1)).copied() else { return };
        let what = choices.below(8);
        let piece = (what >= 3).then(|| choices.pick(&[1, 8, 100, 900]));
        self.send_input(number, piece, choices.pick(&[0, 0, 7, 255]));
    }

    fn send_input(&mut self, number: usize, piece: Option<usize>, padding: u8) {
        let asked = self.asked.get_mut(&number).expect("asked");
        let needs = [asked.role != AUTHORIZER, asked.role == FILTER];
        let Some(stream) = (0..2).find(|i| needs[*i] && !asked.ended[*i]) else { return };
        let kind = [Type::Stdin, Type::Data][stream];
        let bytes = match piece {
            Some(len) => {
                let content = noise(number, stream, asked.sent[stream], len);
                asked.sent[stream] += len;
                padded(kind, asked.id, &content, padding)
            }
            None => {
                asked.ended[stream] = true;
                close(kind, asked.id)
            }
        };
        self.to_server(&bytes);
    }

    /// It reads.
    fn take(&mut self, n: usize) {
        let n = n.min(self.wire.written.len());
        self.partial.extend(self.wire.written.drain(..n));
        self.wire.room += n;
        let partial = std::mem::take(&mut self.partial);
        let mut rest = &partial[..];
        while let Some(header) = rest.get(..8) {
            assert_eq!((header[0], header[7]), (1, 0), "version and reserved byte");
            let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
            let all = 8 + len + usize::from(header[6]);
            if rest.len() < all {
                break;
            }
            let id = u16::from_be_bytes([header[2], header[3]]);
            self.answer(header[1], id, &rest[8..8 + len]);
            rest = &rest[all..];
        }
        self.partial = rest.to_vec();
    }

    fn answer(&mut self, kind: u8, id: u16, content: &[u8]) {
        if kind == 10 || kind == 11 {
            assert_eq!(id, 0);
            return;
        }
        let number = self.asked.iter().find(|(_, asked)| asked.id == id).map(|(number, _)| *number);
        let number = number.expect("an answer to a request that is under way");
        let ended = self.ended.get(&number).copied();
        let asked = self.asked.get_mut(&number).expect("asked");
        match kind {
            6 | 7 => {
                let stream = usize::from(kind == 7);
                let expected = noise(number, 2 + stream, asked.came[stream], content.len());
                // A page takes the place of what was not written.
                let written = matches!(ended, Some(Ended::Whole(_, [n, _])) if n > 0);
                let page = !written && (stream, asked.came[0]) == (0, 0);
                assert!(content == expected || page, "other bytes than its handler wrote");
                asked.came[stream] += content.len();
            }
            3 => {
                let status = u32::from_be_bytes([content[0], content[1], content[2], content[3]]);
                match ended {
                    Some(Ended::Whole(expected, bytes)) => {
                        assert_eq!((status, content[4]), (expected, 0));
                        assert!(asked.came[0] == bytes[0] || bytes[0] == 0, "bytes are missing");
                        assert_eq!(asked.came[1], bytes[1], "bytes are missing");
                        self.seen.whole += 1;
                    }
                    Some(Ended::Refused) => assert_ne!(content[4], 0),
                    Some(Ended::Otherwise) => {}
                    // No handler was run, or it was to be stopped.
                    None => self.check_stopped(number, content[4]),
                }
                self.asked.remove(&number);
            }
            _ => panic!("a record of type {kind}"),
        }
    }

    /// A request that ended without its handler had a reason to.
    fn check_stopped(&mut self, number: usize, protocol_status: u8) {
        let asked = &self.asked[&number];
        if protocol_status != 0 {
            self.seen.refused += 1;
            assert!(!self.handlers.contains_key(&number), "refused while its handler runs");
            return;
        }
        let ended = self.handlers.get(&number).is_none_or(|handler| {
            self.session.cancelled(handler.key).is_ready() || self.session.is_over(handler.key)
        });
        let reason =
            asked.aborted || self.cancelled.is_some() || self.wire.end_of_file || self.garbage;
        assert!(
            ended && (reason || self.settings.handler.is_some() || self.settings.stdin.is_some())
        );
    }

    // ---- The handlers --------------------------------------------------------------------------

    fn run(&mut self, job: Job, choices: &mut Choices<'_>) {
        let number: usize = job.params.get_str("N").expect("its number").parse().expect("a number");
        assert!(self.asked.contains_key(&number), "a request that was not asked");
        let [mode, size] = [choices.below(16), choices.below(4)];
        let end = match mode {
            0 => HandlerEnd::Returned(Err(Failed)),
            1 => HandlerEnd::Panicked,
            n => HandlerEnd::Returned(Ok(n as u32 * 3)),
        };
        let handler = Handler {
            key: job.key,
            role: job.role,
            begun: self.now,
            started: false,
            reads: mode % 4 != 3,
            read: [0; 2],
            ended: [false; 2],
            stream: usize::from(mode == 5 || mode == 9),
            length: [0, 10, 500, 3000][size],
            wrote: 0,
            flushes: mode % 2 == 0,
            hangs: mode == 14,
            end,
            rejects: mode == 12,
            waits_since: None,
        };
        let none = self.handlers.insert(number, handler);
        assert!(none.is_none(), "run twice");
        self.seen.run += 1;
        self.seen.beside += usize::from(self.handlers.len() > 1);
        if choices.below(4) > 0 {
            self.start_handler(number);
        }
    }

    fn start(&mut self, which: usize) {
        let waiting: Vec<usize> = self.unstarted();
        if let Some(number) = waiting.get(which % waiting.len().max(1)) {
            self.start_handler(*number);
        }
    }

    fn unstarted(&self) -> Vec<usize> {
        let waiting = self.handlers.iter().filter(|(_, handler)| !handler.started);
        waiting.map(|(number, _)| *number).collect()
    }

    fn start_handler(&mut self, number: usize) {
        let handler = self.handlers.get_mut(&number).expect("run");
        handler.started = true;
        if !self.session.start(handler.key) {
            self.handlers.remove(&number);
            self.ended.insert(number, Ended::Otherwise);
            self.seen.unstarted += 1;
        }
    }

    fn poll_woken(&mut self) -> bool {
        let mut any = false;
        let numbers: Vec<usize> = self.handlers.keys().copied().collect();
        for number in numbers {
            let handler = &self.handlers[&number];
            let woken = match self.session.waiters(handler.key) {
                Some(waits) => std::mem::take(&mut waits.woken),
                None => true,
            };
            let fresh = handler.waits_since.is_none();
            if handler.started && (woken || fresh || self.session.is_over(handler.key)) {
                any |= self.poll(number);
            }
        }
        any
    }

    fn poll_one(&mut self, which: usize) -> bool {
        let numbers: Vec<usize> = self.handlers.keys().copied().collect();
        let number = numbers.get(which % numbers.len().max(1)).copied();
        let started = number.filter(|number| self.handlers[number].started);
        started.is_some_and(|number| self.poll(number))
    }

    /// Moves a handler on; says whether that came to anything.
    fn poll(&mut self, number: usize) -> bool {
        let mut handler = self.handlers.remove(&number).expect("runs");
        let key = handler.key;
        let mut any = false;
        handler.waits_since.get_or_insert(self.now);
        let end = loop {
            if self.session.is_over(key) {
                break Some(HandlerEnd::Dropped);
            }
            match self.step(number, &mut handler) {
                Poll::Ready(Ok(true)) => {
                    any = true;
                    handler.waits_since = Some(self.now);
                }
                Poll::Ready(Ok(false)) => {
                    if handler.rejects && handler.wrote == 0 {
                        self.session.reject(key, Rejection::Overloaded);
                    }
                    break Some(handler.end);
                }
                Poll::Ready(Err(error)) => {
                    self.check_error(number, &handler, &error);
                    break Some(HandlerEnd::Returned(Err(Failed)));
                }
                Poll::Pending => break None,
            }
        };
        let Some(end) = end else {
            self.handlers.insert(number, handler);
            return any;
        };
        let stopped = self.session.cancelled(key).is_ready();
        let ended = match end {
            _ if stopped => Ended::Otherwise,
            HandlerEnd::Returned(Ok(_)) if handler.rejects && handler.wrote == 0 => Ended::Refused,
            HandlerEnd::Returned(Ok(status)) => {
                let mut wrote = [0; 2];
                wrote[handler.stream] = handler.wrote;
                Ended::Whole(status, wrote)
            }
            _ => Ended::Otherwise,
        };
        match end {
            HandlerEnd::Dropped => self.seen.dropped += 1,
            HandlerEnd::Returned(Err(_)) | HandlerEnd::Panicked => self.seen.failed += 1,
            HandlerEnd::Returned(Ok(_)) => {}
        }
        self.session.finish(key, end, self.now);
        assert!(self.session.waiters(key).is_none() && self.session.is_over(key));
        self.ended.insert(number, ended);
        true
    }

    /// What it does next: true when that was something, false when it is done.
    fn step(&mut self, number: usize, handler: &mut Handler) -> Poll<Result<bool, Error>> {
        let (key, now) = (handler.key, self.now);
        for stream in 0..2 {
            let has = handler.role.has_input(INPUTS[stream]);
            if !handler.reads || !has || handler.ended[stream] {
                continue;
            }
            match self.session.read(key, INPUTS[stream], 700, || Some(now))? {
                Poll::Ready(Some(bytes)) => {
                    let expected = noise(number, stream, handler.read[stream], bytes.len());
                    assert!(bytes == expected, "other bytes than were sent to {number}");
                    handler.read[stream] += bytes.len();
                }
                Poll::Ready(None) => {
                    handler.ended[stream] = true;
                    let asked = self.asked.get(&number);
                    let sent = asked.is_none_or(|asked| {
                        asked.ended[stream] && asked.sent[stream] == handler.read[stream]
                    });
                    assert!(sent, "an end that was not sent, or bytes are missing");
                }
                Poll::Pending => {
                    self.session.waiters(key).expect("runs").input[stream] = true;
                    return Poll::Pending;
                }
            }
            return Poll::Ready(Ok(true));
        }
        if handler.hangs {
            return match self.session.cancelled(key) {
                Poll::Ready(reason) => Poll::Ready(Err(Error::Aborted(reason))),
                Poll::Pending => Poll::Pending,
            };
        }
        if handler.wrote < handler.length {
            let len = (handler.length - handler.wrote).min(400);
            let mut bytes = Bytes::from(noise(number, 2 + handler.stream, handler.wrote, len));
            let output = OUTPUTS[handler.stream];
            return match self.session.write(key, output, &mut bytes, Write::Stream)? {
                Poll::Ready(taken) => {
                    assert_eq!(taken, len - bytes.len());
                    handler.wrote += taken;
                    Poll::Ready(Ok(true))
                }
                Poll::Pending => {
                    self.session.waiters(key).expect("runs").output = true;
                    Poll::Pending
                }
            };
        }
        if handler.flushes {
            if self.session.flush(key)?.is_pending() {
                self.session.waiters(key).expect("runs").flush = true;
                return Poll::Pending;
            }
            assert_eq!(self.session.queued(), 0, "flushed");
            handler.flushes = false;
            return Poll::Ready(Ok(true));
        }
        Poll::Ready(Ok(false))
    }

    fn check_error(&mut self, number: usize, handler: &Handler, error: &Error) {
        match error {
            Error::Aborted(_) => {
                let asked = self.asked.get(&number).is_none_or(|asked| asked.aborted);
                let lost = self.wire.end_of_file || self.wire.gone || self.garbage;
                let timed = self.settings.handler.is_some() || self.settings.stdin.is_some();
                // A limit of the connection ends its requests too.
                assert!(
                    asked || lost || self.cancelled.is_some() || self.closed || timed,
                    "{error}"
                );
                self.seen.aborted += 1;
            }
            Error::Timeout { phase: Phase::Handler, limit, .. } => {
                assert!(self.now - handler.begun >= *limit, "timed out early");
            }
            Error::Timeout { phase: Phase::Stdin, .. } => {}
            error => panic!("{error}"),
        }
    }

    // ---- The connection ------------------------------------------------------------------------

    /// Turns until the session waits; says whether anything was done.
    fn turn(&mut self, choices: &mut Choices<'_>) -> bool {
        if self.closed {
            return self.turn_closed();
        }
        let before = (self.wire.written.len(), self.wire.came.len(), self.handlers.len());
        let blocked = self.wire.blocked;
        for rounds in 0.. {
            assert!(rounds < 100_000, "turns in circles");
            match self.session.turn(&mut self.wire, self.now) {
                Turn::Run(job) => self.run(job, choices),
                Turn::Again => {}
                Turn::Wait => {
                    let deadline = self.session.deadline();
                    if deadline.is_none_or(|deadline| deadline > self.now) {
                        break;
                    }
                }
                Turn::Closed => {
                    assert!(self.session.is_closed());
                    self.closed = true;
                    break;
                }
            }
        }
        self.seen.blocked += usize::from(self.wire.blocked > blocked);
        self.drop_unstarted();
        self.check_limits();
        (self.wire.written.len(), self.wire.came.len(), self.handlers.len()) != before
    }

    /// The handlers of a connection that is closed have their limits.
    fn turn_closed(&mut self) -> bool {
        self.session.handle_limits(self.now);
        self.drop_unstarted();
        false
    }

    /// What waits for its turn and need not be run.
    fn drop_unstarted(&mut self) {
        while let Some(key) = self.session.poll_unstarted() {
            let number = self.handlers.iter().find(|(_, handler)| handler.key == key);
            // Whoever wanted to start it may have been told before.
            let Some(number) = number.map(|(number, _)| *number) else { continue };
            let handler = self.handlers.remove(&number).expect("given out");
            assert!(!handler.started, "it runs");
            self.ended.insert(number, Ended::Otherwise);
            self.seen.unstarted += 1;
        }
    }

    /// No handler runs for longer than it may, and no connection stays without a first record.
    fn check_limits(&mut self) {
        for handler in self.handlers.values().filter(|handler| handler.started) {
            let late = match (self.cancelled, self.settings.handler) {
                // At the end of the server there is a grace instead.
                (Some(at), _) => self.now - at >= self.settings.abort_grace,
                (None, Some(limit)) => self.now - handler.begun >= limit,
                (None, None) => false,
            };
            assert!(!late || self.session.is_over(handler.key), "a handler takes too long");
        }
        self.check_deadline();
        if let (false, Some(limit)) = (self.spoke, self.settings.first_record) {
            let late = self.now - self.accepted >= limit;
            self.seen.late += usize::from(late && self.closed);
            let lingers =
                self.garbage || self.wire.end_of_file || self.leaving || self.cancelled.is_some();
            assert!(!late || self.closed || lingers, "no first record for too long");
        }
    }

    /// Whatever is waited for has an end, where there is a limit for it.
    fn check_deadline(&mut self) {
        let keys: Vec<_> = self.handlers.values().map(|handler| handler.key).collect();
        let mut limited = self.session.wants_write() && self.settings.write_stall.is_some();
        for key in keys {
            let live = self.session.cancelled(key).is_pending() && !self.session.is_over(key);
            let waits = self.session.waiters(key).is_some_and(|waits| waits.input != [false; 2]);
            limited |= live && self.settings.handler.is_some();
            limited |= live && waits && self.settings.stdin.is_some();
        }
        let limited = limited && !self.closed && !self.session.is_deaf();
        assert!(!limited || self.session.deadline().is_some(), "a wait without an end");
    }

    /// Everything that moves by itself, until nothing does: then no handler that waits may gain by
    /// looking.
    fn settle(&mut self, choices: &mut Choices<'_>) {
        loop {
            let moved = self.turn(choices) | self.poll_woken();
            if !moved && !self.session.take_attention() {
                break;
            }
        }
        let numbers: Vec<usize> = self.handlers.keys().copied().collect();
        for number in numbers {
            if !self.handlers[&number].started {
                continue;
            }
            // While the socket is full there may be some room before it is worth a wake-up.
            let handler = &self.handlers[&number];
            let writes = handler.wrote < handler.length && self.session.queued() > 0;
            let gained = self.poll(number);
            assert!(!gained || writes, "a lost wake-up of {number}");
        }
    }

    // ---- The end -------------------------------------------------------------------------------

    fn finish(mut self, choices: &mut Choices<'_>) -> Seen {
        self.wire.piece = usize::MAX;
        let silent = choices.below(2) == 0;
        for round in 0..1000 {
            self.wire.room = self.wire.room.max(4096);
            for number in self.unstarted() {
                self.start_handler(number);
            }
            self.settle(choices);
            self.take(usize::MAX);
            if self.closed && self.handlers.is_empty() {
                break;
            }
            let numbers: Vec<usize> = self.asked.keys().copied().collect();
            if !silent && !self.wire.end_of_file {
                for number in numbers {
                    (0..2).for_each(|_| self.send_input(number, None, 0));
                }
            }
            // Each deadline is kept. Where there is none, or only that of a look at a web server that
            // stays, it leaves, and handlers without a limit end by themselves.
            match self.session.deadline() {
                Some(at) if round < 500 => self.now = self.now.max(at),
                _ => {
                    self.wire.end_of_file = true;
                    self.wire.gone |= self.wire.came.is_empty();
                    for handler in self.handlers.values_mut() {
                        (handler.hangs, handler.reads) = (false, false);
                        handler.waits_since = None;
                    }
                }
            }
        }
        assert!(self.closed && self.handlers.is_empty(), "it does not end");
        assert_eq!(self.session.handlers(), 0);
        self.check_places()
    }

    /// Another connection of the same server gets what this one has given back.
    fn check_places(self) -> Seen {
        let Self { session, tally, now, seen, .. } = self;
        drop(session);
        let mut wire = Wire { room: usize::MAX, piece: usize::MAX, ..Wire::default() };
        wire.came.extend([begin(1, AUTHORIZER, KEEP), params(1, &[("N", "0")])].concat());
        let mut other = Session::<Waits>::new(&tally, Peer::Unix, now);
        let job = loop {
            match other.turn(&mut wire, now) {
                Turn::Run(job) => break Some(job),
                Turn::Wait | Turn::Closed => break None,
                Turn::Again => {}
            }
        };
        assert!(job.is_some(), "a place was not given back");
        seen
    }
}
