//! The receiving half: the buffer that the socket fills, cut into pieces of records.

use bytes::{Bytes, BytesMut};

use crate::{
    Limits, ProtocolErrorKind, UsageError,
    record::{Framer, HEADER_LEN, Piece, RecordHeader, RecordType},
};

/// The window that a connection starts with.
const FIRST_WINDOW: usize = 4096;
/// A chunk smaller than this fraction of its buffer is copied out, so that a small chunk that is
/// kept for long does not keep a large buffer.
const SHARE_PART: usize = 4;
/// A smaller chunk is copied too: sharing it would cost more than copying it.
const SHARE_MIN: usize = 256;
/// The rest of a large record is read by itself if it is at least this fraction of the window, so
/// that the next record starts at the front of a window and need not be copied out in part.
const ALIGN_PART: usize = 16;

/// Bytes of the receive buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: usize,
    len: usize,
}

impl Span {
    pub(crate) fn len(self) -> usize {
        self.len
    }
}

/// One allocation. It is writable until a chunk of it is handed out, and again once all those
/// chunks are dropped.
#[derive(Debug)]
enum Storage {
    None,
    Writable(BytesMut),
    Shared(Bytes),
}

/// A cache line, and a page of memory.
const LINE: usize = 64;
const PAGE: usize = 4096;

/// A cleared buffer to read into, such as [`Connection::lend`](crate::Connection::lend) takes.
///
/// Sharing slices of it needs no allocation. It starts at a cache line, but not at that of a page:
/// some processors copy up to twenty times slower if the target is a few bytes further into its page
/// than the source is into its own, and what a socket holds starts at a page. A buffer of 64 KiB
/// from malloc mostly starts 16 bytes into a page or behind another one.
#[must_use]
pub fn recv_buffer(len: usize) -> BytesMut {
    let mut buffer = BytesMut::zeroed(len + 2 * LINE);
    let address = buffer.as_ptr().addr();
    let skip = address.wrapping_neg() % LINE;
    let at_page = address.wrapping_add(skip) % PAGE == 0;
    // The first split makes it shareable for good.
    drop(buffer.split_to(if at_page { skip + LINE } else { skip }));
    drop(buffer.split_off(len));
    buffer
}

/// How much a record contributes, for the budgets of H-9.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Worth {
    /// Nothing: it will be skipped.
    Nothing,
    /// Nothing, and a peer has no reason to send many of this kind.
    Stray,
    /// Bytes of a stream, or its end.
    Stream,
    /// Part of the start of a request, which counts for nothing until it is complete.
    Start,
    /// Something else.
    Control,
}

#[derive(Debug)]
pub(crate) struct Receiver {
    storage: Storage,
    /// The buffer in `storage` was lent. Its lender will reclaim it.
    lent: bool,
    /// Bytes parsed so far.
    pos: usize,
    /// Bytes filled so far.
    filled: usize,
    /// There was room for no more.
    full: bool,
    framer: Framer,
    /// The current record nearly fills a window.
    large: bool,
    window: usize,
    max_window: usize,
    /// Offset in the stream of the buffer's first byte, and of the current record.
    base: u64,
    record_start: u64,
    /// Consecutive records that brought nothing, and almost nothing.
    idle_records: u32,
    tiny_records: u32,
    /// Bytes of stray records that no stream byte has cancelled yet.
    stray_bytes: usize,
    eof: bool,
}

impl Receiver {
    pub(crate) fn new(limits: &Limits) -> Self {
        let max_window = limits.recv_buffer.max(HEADER_LEN);
        Self {
            storage: Storage::None,
            lent: false,
            pos: 0,
            filled: 0,
            full: false,
            framer: Framer::new(),
            large: false,
            window: max_window.min(FIRST_WINDOW),
            max_window,
            base: 0,
            record_start: 0,
            idle_records: 0,
            tiny_records: 0,
            stray_bytes: 0,
            eof: false,
        }
    }

    /// The window to read into; empty while bytes wait to be parsed and after the end of file.
    #[inline]
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        if !self.wants_read() {
            return &mut [];
        }
        self.rewind();
        let is_ready = matches!(&self.storage, Storage::Writable(b) if b.len() == self.window);
        if !is_ready {
            self.renew();
        }
        let room = self.room();
        match &mut self.storage {
            Storage::Writable(buffer) => buffer.get_mut(..room).unwrap_or_default(),
            _ => &mut [],
        }
    }

    /// What was parsed is no longer looked at.
    #[inline]
    fn rewind(&mut self) {
        self.base += self.filled as u64;
        (self.pos, self.filled) = (0, 0);
    }

    /// How much of the window is offered.
    #[inline]
    fn room(&self) -> usize {
        let rest = self.framer.rest();
        let least = (self.window / ALIGN_PART).max(SHARE_MIN);
        let aligns = self.large && (least..self.window).contains(&rest);
        if aligns { rest } else { self.window }
    }

    /// Makes the storage writable, and of the window's size.
    fn renew(&mut self) {
        let old = match core::mem::replace(&mut self.storage, Storage::None) {
            Storage::Writable(buffer) => Some(buffer),
            Storage::Shared(bytes) => bytes.try_into_mut().ok(),
            Storage::None => None,
        };
        let buffer = old.filter(|buffer| buffer.len() == self.window).unwrap_or_else(|| {
            self.lent = false;
            recv_buffer(self.window)
        });
        self.storage = Storage::Writable(buffer);
    }

    #[inline]
    pub(crate) fn filled(&mut self, n: usize) -> Result<(), UsageError> {
        if n == 0 {
            return Ok(());
        }
        if self.eof {
            return Err(UsageError::AfterEof);
        }
        let room = match &self.storage {
            Storage::Writable(buffer) if self.filled == 0 => buffer.len().min(self.room()),
            _ => 0,
        };
        if n > room {
            return Err(UsageError::RecvOverrun { given: n, room });
        }
        (self.filled, self.full) = (n, n == room);
        if n == self.window {
            self.window = self.window.saturating_mul(4).min(self.max_window);
        } else if n < self.window / 16 {
            self.window = (self.window / 4).max(self.max_window.min(FIRST_WINDOW));
        }
        Ok(())
    }

    /// Whether the last read filled its buffer, so that there may be more.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Whether it has a buffer that no lender may be able to reclaim.
    #[inline]
    pub(crate) fn has_own_buffer(&self) -> bool {
        match self.storage {
            Storage::None => false,
            Storage::Writable(_) => !self.lent,
            Storage::Shared(_) => true,
        }
    }

    /// The unparsed bytes, if they start with a record.
    #[inline]
    pub(crate) fn records(&self) -> Option<&[u8]> {
        match &self.storage {
            Storage::Writable(buffer) if self.framer.is_at_boundary() => {
                buffer.get(self.pos..self.filled)
            }
            _ => None,
        }
    }

    /// Skips whole records.
    #[inline]
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.pos += bytes;
    }

    /// Takes the whole record that [`records`](Self::records) starts with, and counts it. If it is
    /// of a stream, it ends that or brings at least 8 bytes. Returns its content.
    #[inline]
    pub(crate) fn take(&mut self, header: &RecordHeader, worth: Worth) -> Span {
        let len = usize::from(header.content_length);
        self.record_start = self.base + self.pos as u64;
        self.note(header);
        let start = self.pos + HEADER_LEN;
        self.pos = start + len + usize::from(header.padding_length);
        self.stray_bytes = match worth {
            Worth::Stream => self.stray_bytes.saturating_sub(len),
            _ => 0,
        };
        self.progress();
        Span { start, len }
    }

    #[inline]
    fn note(&mut self, header: &RecordHeader) {
        self.large = usize::from(header.content_length) > self.max_window / 4 * 3;
    }

    /// Whether a record's header has come but not all of its content.
    #[inline]
    pub(crate) fn is_in_record(&self) -> bool {
        self.framer.is_in_record()
    }

    /// The next record's header; `None` when more bytes are needed.
    #[inline]
    pub(crate) fn header(&mut self) -> Result<Option<RecordHeader>, ProtocolErrorKind> {
        let input: &[u8] = match &self.storage {
            Storage::Writable(buffer) => buffer,
            Storage::Shared(bytes) => bytes,
            Storage::None => return Ok(None),
        };
        let Some(input) = input.get(self.pos..self.filled).filter(|input| !input.is_empty()) else {
            return Ok(None);
        };
        let padding = self.framer.skip_padding(input);
        self.pos += padding;
        if self.framer.is_at_boundary() {
            self.record_start = self.base + self.pos as u64;
        }
        let (used, header) = self.framer.header(&input[padding..])?;
        self.pos += used;
        if let Some(header) = &header {
            self.note(header);
        }
        Ok(header)
    }

    /// Whether a record of this type starts among the unparsed bytes.
    #[cold]
    pub(crate) fn has_ahead(&self, wanted: RecordType) -> bool {
        let bytes: &[u8] = match &self.storage {
            Storage::Writable(buffer) => buffer,
            Storage::Shared(bytes) => bytes,
            Storage::None => return false,
        };
        let mut rest = bytes.get(self.pos..self.filled).unwrap_or_default();
        let mut framer = self.framer.clone();
        while let Ok((used, Some(piece))) = framer.next(rest, usize::MAX) {
            if matches!(piece, Piece::Header(header) if header.record_type == wanted) {
                return true;
            }
            rest = &rest[used..];
        }
        false
    }

    /// At most `max` bytes of the current record's content, and whether that is the end of it.
    #[inline]
    pub(crate) fn content(&mut self, max: usize) -> (Span, bool) {
        let (start, have) = (self.pos, self.filled - self.pos);
        let (len, ended) = self.framer.content(have, max);
        self.pos += len;
        (Span { start, len }, ended)
    }

    /// Counts a record towards the budgets (H-9).
    #[inline]
    pub(crate) fn count(
        &mut self,
        header: &RecordHeader,
        worth: Worth,
        limits: &Limits,
    ) -> Result<(), ProtocolErrorKind> {
        let len = usize::from(header.content_length);
        let tiny = len < 8;
        match worth {
            Worth::Stream => self.stray_bytes = self.stray_bytes.saturating_sub(len),
            Worth::Control => self.stray_bytes = 0,
            _ => {}
        }
        match worth {
            Worth::Stray => {
                self.idle_records = self.idle_records.saturating_add(1);
                let record = HEADER_LEN + len + usize::from(header.padding_length);
                self.stray_bytes = self.stray_bytes.saturating_add(record);
                if self.stray_bytes > limits.stray_bytes {
                    return Err(ProtocolErrorKind::StrayBytes(limits.stray_bytes));
                }
            }
            Worth::Nothing if tiny => self.idle_records = self.idle_records.saturating_add(1),
            Worth::Stream | Worth::Start if tiny && len > 0 => {
                self.tiny_records = self.tiny_records.saturating_add(1);
            }
            Worth::Start => self.tiny_records = 0,
            _ => self.progress(),
        }
        let (idle, most_idle) = (self.idle_records, limits.idle_records);
        let (tiny, most_tiny) = (self.tiny_records, limits.tiny_records);
        match (idle > most_idle, tiny > most_tiny) {
            (true, _) => Err(ProtocolErrorKind::RecordFlood(most_idle)),
            (_, true) => Err(ProtocolErrorKind::RecordFlood(most_tiny)),
            _ => Ok(()),
        }
    }

    /// Something was completed: both budgets start afresh.
    #[inline]
    pub(crate) fn progress(&mut self) {
        (self.idle_records, self.tiny_records) = (0, 0);
    }

    /// The start of a request is complete: all budgets start afresh.
    #[inline]
    pub(crate) fn request_started(&mut self) {
        self.progress();
        self.stray_bytes = 0;
    }

    /// A span's bytes.
    #[inline]
    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let range = span.start..span.start + span.len;
        match &self.storage {
            Storage::None => &[],
            Storage::Writable(buffer) => &buffer[range],
            Storage::Shared(bytes) => &bytes[range],
        }
    }

    /// A span as a slice that shares the buffer; `None` if it is too small to be worth it.
    pub(crate) fn share(&mut self, span: Span) -> Option<Bytes> {
        let len = match &self.storage {
            Storage::None => 0,
            Storage::Writable(buffer) => buffer.len(),
            Storage::Shared(bytes) => bytes.len(),
        };
        if span.len < (len / SHARE_PART).max(SHARE_MIN) {
            return None;
        }
        let bytes = match core::mem::replace(&mut self.storage, Storage::None) {
            Storage::Writable(buffer) => buffer.freeze(),
            Storage::Shared(bytes) => bytes,
            Storage::None => return None,
        };
        let chunk = bytes.slice(span.start..span.start + span.len);
        self.storage = Storage::Shared(bytes);
        Some(chunk)
    }

    /// Whether every byte so far has been parsed.
    #[inline]
    pub(crate) fn is_drained(&self) -> bool {
        self.pos == self.filled
    }

    #[inline]
    pub(crate) fn wants_read(&self) -> bool {
        self.is_drained() && !self.eof
    }

    pub(crate) fn is_at_boundary(&self) -> bool {
        self.is_drained() && self.framer.is_at_boundary()
    }

    pub(crate) fn set_eof(&mut self) {
        self.eof = true;
    }

    #[inline]
    pub(crate) fn is_eof(&self) -> bool {
        self.eof
    }

    /// Where in the stream the current record starts.
    pub(crate) fn record_start(&self) -> u64 {
        self.record_start
    }

    /// Takes a buffer to read into, if one is useful now.
    #[inline]
    pub(crate) fn lend(&mut self, buffer: BytesMut) -> Result<(), BytesMut> {
        if !matches!(self.storage, Storage::None) || buffer.len() != self.window {
            return Err(buffer);
        }
        self.lent = true;
        self.storage = Storage::Writable(buffer);
        Ok(())
    }

    /// The size of buffer that would be useful now.
    #[inline]
    pub(crate) fn wants_buffer(&self) -> Option<usize> {
        (matches!(self.storage, Storage::None) && self.wants_read()).then_some(self.window)
    }

    /// Gives a lent buffer back if nothing in it is needed.
    #[inline]
    pub(crate) fn reclaim(&mut self) -> Option<BytesMut> {
        if !self.lent || !self.is_drained() {
            return None;
        }
        let buffer = match core::mem::replace(&mut self.storage, Storage::None) {
            Storage::Writable(buffer) => buffer,
            Storage::Shared(bytes) => match bytes.try_into_mut() {
                Ok(buffer) => buffer,
                Err(bytes) => {
                    self.storage = Storage::Shared(bytes);
                    return None;
                }
            },
            Storage::None => return None,
        };
        self.lent = false;
        self.rewind();
        Some(buffer)
    }

    /// Gives a lent buffer away, of which slices are kept.
    #[inline]
    pub(crate) fn retire(&mut self) -> Option<Bytes> {
        if !self.lent || !self.is_drained() {
            return None;
        }
        let Storage::Shared(bytes) = &mut self.storage else { return None };
        let bytes = core::mem::take(bytes);
        (self.storage, self.lent) = (Storage::None, false);
        self.rewind();
        Some(bytes)
    }

    /// Frees a buffer that nothing is needed of, except a lent one that its lender can reclaim.
    pub(crate) fn release(&mut self) {
        if !self.is_drained() || !self.has_own_buffer() {
            return;
        }
        self.rewind();
        let buffer = match core::mem::replace(&mut self.storage, Storage::None) {
            Storage::Shared(bytes) if self.lent => bytes.try_into_mut().ok(),
            _ => None,
        };
        self.lent = buffer.is_some();
        self.storage = buffer.map_or(Storage::None, Storage::Writable);
    }

    /// Drops the unparsed bytes and takes no more.
    pub(crate) fn close(&mut self) {
        self.eof = true;
        self.discard();
    }

    /// Drops the unparsed bytes.
    pub(crate) fn discard(&mut self) {
        self.pos = self.filled;
        self.release();
    }
}
