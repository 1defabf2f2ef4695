//! A connection whose every call is checked.

use bytes::Buf;
use fcgi_proto::{Connection, Limits, ProtocolError};

use crate::{
    heap::{self, Owner},
    wire::{Sent, Side},
};

/// How many queued bytes are remembered, to check that they do not change.
const AHEAD: usize = 64;
/// The heap of an idle connection, in bytes: it has no buffer, but places of requests.
const IDLE: usize = 1536;

/// A connection, with invariants that always hold:
/// - an error stays the same, and a closed connection closed; nothing more is sent then;
/// - `wants_read` is true exactly when `recv_buffer` has room;
/// - the sent bytes are well-formed records, and unacknowledged bytes do not change;
/// - its heap is within [`bound`](Self::bound), and within 1.5 KiB when idle.
pub struct Checked<C: Connection> {
    conn: C,
    owner: Owner,
    limits: Limits,
    /// What was sent.
    pub sent: Sent,
    /// The start of the queue when it was last looked at.
    ahead: Vec<u8>,
    error: Option<ProtocolError>,
    closed: bool,
    /// The length of the queue when the end came: it can't grow after that.
    frozen: Option<usize>,
    /// An upper bound of the requests that may take memory, begun by the peer or by us.
    pub requests: usize,
    /// Bytes received, and an upper bound of the bytes queued since the queue was last examined.
    fed: usize,
    queued: usize,
    lost: bool,
}

impl<C: Connection> Checked<C> {
    /// `make` builds the connection.
    pub fn new(owner: Owner, limits: Limits, make: impl FnOnce() -> C) -> Self {
        let side = if owner == Owner::Server { Side::Server } else { Side::Client };
        Self {
            conn: heap::owned(owner, make),
            owner,
            limits,
            sent: Sent::new(side),
            ahead: Vec::new(),
            error: None,
            closed: false,
            frozen: None,
            requests: 0,
            fed: 0,
            queued: 0,
            lost: false,
        }
    }

    /// The connection, to look at.
    pub fn get(&self) -> &C {
        &self.conn
    }

    /// Makes a call that may queue up to `bytes` bytes of streams or parameters.
    pub fn call<R>(&mut self, bytes: usize, f: impl FnOnce(&mut C) -> R) -> R {
        self.queued += bytes + bytes / 1000 + 256;
        let result = heap::owned(self.owner, || f(&mut self.conn));
        self.check();
        result
    }

    /// Reads from the peer: offers up to all of `bytes`, returns how many were taken.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let most = self.limits.recv_buffer.max(8);
        let wants = self.conn.wants_read();
        let n = heap::owned(self.owner, || {
            let window = self.conn.recv_buffer();
            assert_eq!(wants, !window.is_empty(), "wants_read and the window");
            assert!(window.len() <= most, "a window of {}", window.len());
            let n = window.len().min(bytes.len());
            window[..n].copy_from_slice(&bytes[..n]);
            n
        });
        self.fed += n;
        self.call(0, |conn| conn.handle_recv(n)).expect("as many bytes as the window has");
        n
    }

    /// The next event.
    pub fn poll(&mut self) -> Result<Option<C::Event>, ProtocolError> {
        let event = self.call(0, C::poll_event);
        match &event {
            Err(error) => assert_eq!(self.conn.error(), Some(*error)),
            Ok(None) => {}
            Ok(Some(_)) => assert!(self.error.is_none(), "an event after an error"),
        }
        if event.as_ref().is_ok_and(Option::is_none)
            && self.conn.is_reusable()
            && self.conn.active_requests() == 0
        {
            let live = heap::live(self.owner);
            assert!(live <= IDLE, "{:?} holds {live} bytes at rest", self.owner);
        }
        event
    }

    /// Sends up to `max` bytes and returns them.
    pub fn transmit(&mut self, max: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        let len = match heap::owned(self.owner, || self.conn.poll_transmit()) {
            None => 0,
            Some(mut queue) => {
                let len = queue.remaining();
                assert!(len > 0 && !queue.chunk().is_empty(), "an empty transmit");
                let mut slots = [std::io::IoSlice::new(&[]); 64];
                let used = queue.chunks_vectored(&mut slots);
                let gathered: usize = slots[..used].iter().map(|slot| slot.len()).sum();
                assert!(gathered == len || used == 64, "{gathered} of {len} bytes in {used} slots");
                assert_eq!(&slots[0][..], queue.chunk());
                let mut front = Vec::with_capacity(AHEAD);
                for slot in &slots[..used] {
                    let n = slot.len().min(AHEAD - front.len());
                    front.extend_from_slice(&slot[..n]);
                    if front.len() == AHEAD {
                        break;
                    }
                }
                assert!(front.starts_with(&self.ahead), "queued bytes have changed");
                while taken.len() < max && queue.has_remaining() {
                    let n = queue.chunk().len().min(max - taken.len());
                    taken.extend_from_slice(&queue.chunk()[..n]);
                    queue.advance(n);
                }
                assert_eq!(queue.remaining(), len - taken.len());
                len
            }
        };
        assert!(len >= self.ahead.len(), "queued bytes are gone");
        if let Some(before) = self.frozen {
            assert!(len <= before, "{} bytes queued after the end", len - before);
        }
        let left = len - taken.len();
        self.queued = left;
        self.ahead = match heap::owned(self.owner, || self.conn.poll_transmit()) {
            Some(queue) => queue.chunk()[..queue.chunk().len().min(AHEAD)].to_vec(),
            None => Vec::new(),
        };
        if self.closed || self.error.is_some() {
            self.frozen = Some(left);
        }
        let cap = self.queue_cap();
        assert!(len <= cap, "{len} bytes queued, {cap} are the most");
        self.sent.push(&taken);
        if left == 0 && self.error.is_none() && !self.lost {
            assert!(self.sent.is_whole(), "the queue ended inside a record");
        }
        self.check();
        taken
    }

    /// The connection was lost: what was queued may be dropped.
    pub fn forget_queue(&mut self) {
        self.ahead.clear();
        self.lost = true;
    }

    /// Whether the connection failed or is closed.
    pub fn is_over(&self) -> bool {
        self.error.is_some() || self.closed
    }

    /// Makes calls that must be refused or do nothing, and those of an end if it has come.
    pub fn misuse(&mut self) {
        let over = heap::owned(self.owner, || self.conn.handle_recv(1 << 20));
        assert!(over.is_err(), "an overrun was taken");
        self.call(0, |conn| conn.handle_recv(0)).expect("no bytes change nothing");
        if let Some(error) = self.error {
            assert_eq!(self.poll().err(), Some(error));
            assert_eq!(self.poll().err(), Some(error));
            assert_eq!(self.feed(b"x"), 0);
        }
    }

    fn check(&mut self) {
        let (error, closed) = (self.conn.error(), self.conn.is_closed());
        if self.error.is_some() {
            assert_eq!(error, self.error, "the error has changed");
        } else if error.is_some() {
            self.error = error;
            self.ahead.clear();
        }
        assert!(closed || !self.closed, "a closed connection has opened");
        self.closed = closed;
        if error.is_some() {
            assert!(!self.conn.wants_read());
        }
        if error.is_some() || closed {
            assert!(!self.conn.is_reusable());
        }
        let live = heap::live(self.owner);
        let bound = self.bound();
        assert!(live <= bound, "{live} bytes of heap, {bound} are the most");
    }

    /// The most bytes that may be queued: what `write` may fill, the connection's own replies
    /// (the last may pass the limit: a refusal with its page), and for each request its ending,
    /// or its beginning, which `write`'s limit does not hold.
    fn queue_cap(&self) -> usize {
        let Limits { send_high_water, reply_bytes, .. } = self.limits;
        let begins = if self.owner == Owner::Client { BEGIN_MOST * self.requests } else { 0 };
        send_high_water + send_high_water / 1000 + reply_bytes + 512 + 256 * self.requests + begins
    }

    /// The most heap that the connection may have, from its limits and what has happened:
    /// - 2 windows, the one being filled and one in a cut chunk, and for each stream the one that
    ///   its half-read first chunk keeps, each with 128 bytes to start at a cache line;
    /// - for each unread byte 4 of a window (a smaller part of one is copied) or 2 of a growing
    ///   buffer, and for each chunk its index and counts;
    /// - for each byte of PARAMS 2 of a growing block, for each pair 2 index entries;
    /// - for each queued byte 4 of the gather buffer, and 12 of index, since a write into little
    ///   room makes small segments;
    /// - 1 KiB for each request, 8 KiB for the rest: the gather buffer grows by 2 KiB at least.
    fn bound(&self) -> usize {
        let l = &self.limits;
        let n = self.requests;
        let window = l.recv_buffer.max(8);
        let streams = 2 * n;
        let unread = l.unread_connection.min(l.unread_request.saturating_mul(n)).min(self.fed);
        let chunks = 2 * unread / (window.min(4096) / 4) + 2 * streams;
        let inbound = 6 * unread + 160 * chunks + streams.min(unread) * (window + 128);
        let params = if self.owner == Owner::Server {
            let bytes = (l.params_bytes_connection + window).min(self.fed);
            let pairs = (bytes / 2).min(l.params_pairs.saturating_mul(n)) + n;
            2 * bytes + 32 * pairs + 512 * n
        } else {
            0
        };
        // Each record received may have made a reply.
        let queue = self.queue_cap().min(self.queued + 24 * self.fed);
        let own = self.queued.saturating_sub(queue);
        8192 + 1024 * n + 2 * (window + 128) + inbound + params + 16 * (queue + own) + 8192
    }
}

/// The most bytes that a harness's `begin` queues.
pub const BEGIN_MOST: usize = 140_000;
