//! The sending half: a queue of records that leaves by vectored writes.

use alloc::{collections::VecDeque, vec::Vec};
use core::fmt;

use bytes::{Buf, Bytes};

use crate::{
    Limits, Params, RequestKey, pairs,
    record::{
        BODY_LEN, BeginRequestBody, EndRequestBody, HEADER_LEN, MAX_ALIGNED_CONTENT, MAX_CONTENT,
        RecordHeader, RecordType, padding_for,
    },
};

/// Content up to this size is copied into the gather buffer; larger content is queued without a
/// copy.
const GATHER_MAX: usize = 4096;
/// How much the gather buffer grows at least if it already has an answer.
const GATHER_MORE: usize = 2048;
/// A gather buffer larger than this is freed when the queue is empty.
const KEEP_GATHER: usize = 256;
/// Room for what mostly follows a record: the ends of streams, and END_REQUEST.
const SPARE: usize = 40;

/// Records to send, in order. Headers and small contents are gathered in one buffer; large contents
/// are kept as the caller's own `Bytes`.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    gather: Vec<u8>,
    /// Where the unsent part of `gather` starts.
    gather_pos: usize,
    /// What goes before the tail of `gather`.
    segments: VecDeque<Segment>,
    /// Large contents, in order. Those that are longer than a record are cut by `segments`.
    contents: VecDeque<Bytes>,
    /// The length of that tail.
    tail: usize,
    len: usize,
    /// The last record, while it may still grow.
    open: Option<OpenRecord>,
    /// Bytes of the connection's own replies that may still be unsent, and the end of the queue
    /// when the last of them was queued.
    reply_bytes: usize,
    reply_mark: u64,
    appended: u64,
    sent: u64,
    /// Requests that wait for room.
    blocked: VecDeque<RequestKey>,
}

/// The next bytes of the gather buffer, and then those of the first of the contents.
#[derive(Debug)]
struct Segment {
    gathered: usize,
    content: usize,
}

#[derive(Debug)]
struct OpenRecord {
    record_type: RecordType,
    request_id: u16,
    /// Where in `gather` its header is.
    header_at: usize,
    content: usize,
}

impl SendQueue {
    /// Bytes queued, headers and padding included.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Queues up to `room` bytes of a stream and returns how many it took. Streams are cut into
    /// records only here (H-4). Consecutive small writes share a record.
    #[inline]
    pub(crate) fn stream(
        &mut self,
        record_type: RecordType,
        request_id: u16,
        content: &mut Bytes,
        room: usize,
    ) -> usize {
        let taken = content.len().min(room);
        if taken == 0 {
            return 0;
        }
        if content.len() <= GATHER_MAX {
            self.gather_content(record_type, request_id, &content[..taken], MAX_ALIGNED_CONTENT);
            content.advance(taken);
            return taken;
        }
        self.large(record_type, request_id, content, taken)
    }

    /// Queues `taken` bytes of a large content without copying them.
    fn large(
        &mut self,
        record_type: RecordType,
        request_id: u16,
        content: &mut Bytes,
        taken: usize,
    ) -> usize {
        let mut left = taken;
        let records = left.div_ceil(MAX_ALIGNED_CONTENT);
        self.segments.reserve(records);
        self.gather.reserve(2 * HEADER_LEN * records);
        self.seal();
        while left > 0 {
            let n = left.min(MAX_ALIGNED_CONTENT);
            self.gather(&RecordHeader::new(record_type, request_id, n as u16).encode());
            let gathered = core::mem::take(&mut self.tail);
            self.segments.push_back(Segment { gathered, content: n });
            left -= n;
        }
        // Only the last record may need padding. Nobody counts references for each record.
        self.pad(padding_for(taken));
        self.len += taken;
        self.appended += taken as u64;
        self.contents.push_back(content.split_to(taken));
        taken
    }

    /// Queues a record, padded to 8 bytes unless empty, or several if one can't hold
    /// `content`.
    pub(crate) fn record(&mut self, record_type: RecordType, request_id: u16, content: &[u8]) {
        let one = content.len() <= MAX_CONTENT;
        let most = if one { MAX_CONTENT } else { MAX_ALIGNED_CONTENT };
        self.seal();
        self.gather_content(record_type, request_id, content, most);
        self.seal();
    }

    /// Queues up to 65,535 bytes of a stream in one record, which may grow. Returns how many.
    pub(crate) fn whole(
        &mut self,
        record_type: RecordType,
        request_id: u16,
        content: &[u8],
    ) -> usize {
        let aligned = content.len() <= MAX_ALIGNED_CONTENT;
        let most = if aligned { MAX_ALIGNED_CONTENT } else { MAX_CONTENT };
        self.seal();
        self.gather_content(record_type, request_id, content, most);
        content.len()
    }

    /// Queues a record that always has padding. libfcgi answers a lone GET_VALUES only once it has
    /// read something after its content.
    pub(crate) fn padded_record(&mut self, record_type: RecordType, content: &[u8]) {
        self.seal();
        let mut header = RecordHeader::new(record_type, 0, content.len() as u16);
        if header.padding_length == 0 {
            header.padding_length = 8;
        }
        self.gather(&header.encode());
        self.gather(content);
        self.pad(header.padding_length as usize);
    }

    /// Queues a record without content: the end of a stream, or ABORT_REQUEST.
    pub(crate) fn empty_record(&mut self, record_type: RecordType, request_id: u16) {
        self.seal();
        self.gather(&RecordHeader::new(record_type, request_id, 0).encode());
    }

    /// Queues the ends of a request's outputs and its END_REQUEST.
    pub(crate) fn end_request(
        &mut self,
        id: u16,
        stdout: bool,
        stderr: bool,
        body: EndRequestBody,
    ) {
        let padding = self.close();
        let end = RecordHeader::new(RecordType::EndRequest, id, BODY_LEN as u16).encode();
        // The fast path: nearly every request ends this way.
        if stdout && !stderr {
            let stdout = RecordHeader::new(RecordType::Stdout, id, 0).encode();
            let bytes = [[0; 8], stdout, end, body.encode()];
            return self.gather(bytes.as_flattened().get(8 - padding..).unwrap_or_default());
        }
        self.pad(padding);
        if stdout {
            self.gather(&RecordHeader::new(RecordType::Stdout, id, 0).encode());
        }
        if stderr {
            self.gather(&RecordHeader::new(RecordType::Stderr, id, 0).encode());
        }
        self.gather(&end);
        self.gather(&body.encode());
    }

    /// Queues a PARAMS stream and its end. A pair that fits in one record is never split. The
    /// caller has checked every length.
    pub(crate) fn params(&mut self, request_id: u16, params: &Params) {
        let encoded = params.encoded();
        let (mut start, mut end) = (0, 0);
        if encoded.len() > MAX_ALIGNED_CONTENT {
            for (name, value) in params {
                let pair = pairs::encoded_len(name.len(), value.len());
                if end + pair - start > MAX_ALIGNED_CONTENT {
                    self.record(RecordType::Params, request_id, &encoded[start..end]);
                    start = end;
                }
                end += pair;
            }
        }
        if start < encoded.len() {
            self.record(RecordType::Params, request_id, &encoded[start..]);
        }
        self.empty_record(RecordType::Params, request_id);
    }

    /// Queues BEGIN_REQUEST, a PARAMS stream and its end, and the ends of up to two streams. The
    /// caller has checked every length.
    pub(crate) fn begin_request(
        &mut self,
        id: u16,
        body: BeginRequestBody,
        params: &Params,
        ended: &[RecordType],
    ) {
        let encoded = params.encoded();
        // Room for a whole request without a body, so that the buffer does not grow record by
        // record: also for the headers of PARAMS, of its end and of the end of STDIN and DATA.
        self.gather.reserve(BODY_LEN + 5 * HEADER_LEN + encoded.len() + SPARE);
        if encoded.is_empty() || encoded.len() > MAX_ALIGNED_CONTENT {
            self.record(RecordType::BeginRequest, id, &body.encode());
            self.params(id, params);
            ended.iter().for_each(|ended| self.empty_record(*ended, id));
            return;
        }
        // The fast path: nearly all requests have one record of PARAMS.
        self.seal();
        let begin = RecordHeader::new(RecordType::BeginRequest, id, BODY_LEN as u16);
        let stream = RecordHeader::new(RecordType::Params, id, encoded.len() as u16);
        let end = RecordHeader::new(RecordType::Params, id, 0);
        let mut front = [0; 2 * HEADER_LEN + BODY_LEN];
        front[..HEADER_LEN].copy_from_slice(&begin.encode());
        front[HEADER_LEN..HEADER_LEN + BODY_LEN].copy_from_slice(&body.encode());
        front[HEADER_LEN + BODY_LEN..].copy_from_slice(&stream.encode());
        let padding = usize::from(stream.padding_length);
        let mut back = [0; 4 * HEADER_LEN];
        let mut behind = padding + HEADER_LEN;
        back[padding..behind].copy_from_slice(&end.encode());
        for ended in ended.iter().take(2) {
            let end = RecordHeader::new(*ended, id, 0);
            back[behind..behind + HEADER_LEN].copy_from_slice(&end.encode());
            behind += HEADER_LEN;
        }
        self.gather(&front);
        self.gather(encoded);
        self.gather(&back[..behind]);
    }

    /// Queues the connection's own replies and counts them until they are sent.
    pub(crate) fn reply(&mut self, queue: impl FnOnce(&mut Self)) {
        let (pending, before) = (self.pending_replies(), self.appended);
        queue(self);
        self.seal();
        self.reply_bytes = pending + (self.appended - before) as usize;
        self.reply_mark = self.appended;
    }

    /// Bytes of the connection's own replies that may still be unsent.
    pub(crate) fn pending_replies(&self) -> usize {
        if self.sent >= self.reply_mark { 0 } else { self.reply_bytes }
    }

    /// Whether so much waits to be sent that nothing may be received that would add to it (H-9).
    #[inline]
    pub(crate) fn is_behind(&self, limits: &Limits) -> bool {
        if self.len == 0 {
            return false;
        }
        self.pending_replies() >= limits.reply_bytes
            || self.len > limits.send_high_water.saturating_add(limits.reply_bytes)
    }

    /// Remembers a request that got no room.
    pub(crate) fn block(&mut self, key: RequestKey) {
        self.blocked.push_back(key);
    }

    /// Whether a request waits for room.
    #[inline]
    pub(crate) fn has_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// The next request to be offered room, once half of the queue is free.
    pub(crate) fn unblock(&mut self, limits: &Limits) -> Option<RequestKey> {
        if self.len > limits.send_high_water / 2 {
            return None;
        }
        self.blocked.pop_front()
    }

    /// Frees what an idle connection does not need.
    pub(crate) fn release(&mut self) {
        if self.blocked.capacity() > 8 && self.blocked.is_empty() {
            self.blocked = VecDeque::new();
        }
    }

    #[inline]
    pub(crate) fn transmit(&mut self) -> Option<Transmit<'_>> {
        if self.len == 0 {
            return None;
        }
        self.seal();
        (self.len > 0).then_some(Transmit { queue: self })
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        *self = Self {
            appended: self.appended,
            sent: self.appended,
            blocked: core::mem::take(&mut self.blocked),
            ..Self::default()
        };
    }

    /// Appends to the open record of this stream, or opens one.
    #[inline]
    fn gather_content(
        &mut self,
        record_type: RecordType,
        request_id: u16,
        content: &[u8],
        most: usize,
    ) {
        if self.open.is_none() && !content.is_empty() && content.len() <= most {
            // The fast path: a new record that is complete at once.
            let header_at = self.gather.len();
            let header = RecordHeader::new(record_type, request_id, 0).encode();
            let room = HEADER_LEN + content.len() + SPARE;
            // More than one answer waits: there will be others.
            let more = if self.len > 0 { GATHER_MORE } else { 0 };
            if self.gather.capacity() - header_at < room {
                self.gather.reserve(room.max(more));
            }
            self.gather.extend_from_slice(&header);
            self.gather.extend_from_slice(content);
            let content = content.len();
            self.gathered(HEADER_LEN + content);
            self.open = Some(OpenRecord { record_type, request_id, header_at, content });
        } else {
            self.gather_more(record_type, request_id, content, most);
        }
    }

    /// Appends to the open record, and to others behind it if that is full.
    fn gather_more(
        &mut self,
        record_type: RecordType,
        request_id: u16,
        mut content: &[u8],
        most: usize,
    ) {
        while !content.is_empty() {
            let grows = self.open.as_ref().is_some_and(|open| {
                open.record_type == record_type
                    && open.request_id == request_id
                    && open.content < most
            });
            if !grows {
                self.seal();
                let header_at = self.gather.len();
                self.gather(&RecordHeader::new(record_type, request_id, 0).encode());
                self.open = Some(OpenRecord { record_type, request_id, header_at, content: 0 });
            }
            let Some(open) = &mut self.open else { return };
            let n = content.len().min(most - open.content);
            open.content += n;
            let (now, later) = content.split_at(n);
            self.gather(now);
            content = later;
        }
    }

    /// Writes the open record's length and padding. It can't grow any more.
    #[inline]
    fn seal(&mut self) {
        if self.open.is_some() {
            let padding = self.close();
            self.pad(padding);
        }
    }

    /// Writes the open record's length. Returns how many bytes of padding must follow, at most 7.
    #[inline]
    fn close(&mut self) -> usize {
        let Some(open) = self.open.take() else { return 0 };
        let padding = padding_for(open.content);
        let [high, low] = (open.content as u16).to_be_bytes();
        if let Some(bytes) = self.gather.get_mut(open.header_at + 4..open.header_at + 7) {
            bytes.copy_from_slice(&[high, low, padding as u8]);
        }
        padding
    }

    #[inline]
    fn pad(&mut self, padding: usize) {
        self.gather(&[0; 8][..padding.min(8)]);
    }

    #[inline]
    fn gather(&mut self, bytes: &[u8]) {
        self.gather.extend_from_slice(bytes);
        self.gathered(bytes.len());
    }

    #[inline]
    fn gathered(&mut self, bytes: usize) {
        self.len += bytes;
        self.appended += bytes as u64;
        self.tail += bytes;
    }

    /// The end of the gather buffer, after every segment.
    #[inline]
    fn tail(&self) -> &[u8] {
        self.gather.get(self.gather.len() - self.tail..).unwrap_or_default()
    }

    /// Everything was sent: frees buffers that are too large to keep.
    #[inline]
    fn emptied(&mut self) {
        self.gather_pos = 0;
        self.gather.clear();
        if self.gather.capacity() > KEEP_GATHER {
            self.gather = Vec::new();
        }
        if self.segments.capacity() > 8 {
            self.segments = VecDeque::new();
        }
        if self.contents.capacity() > 8 {
            self.contents = VecDeque::new();
        }
    }

    fn acknowledge(&mut self, n: usize) {
        let mut left = n.min(self.len);
        self.len -= left;
        self.sent += left as u64;
        while left > 0 {
            let Some(segment) = self.segments.front_mut() else {
                self.tail -= left;
                self.gather_pos += left;
                break;
            };
            let gathered = left.min(segment.gathered);
            segment.gathered -= gathered;
            self.gather_pos += gathered;
            left -= gathered;
            let used = left.min(segment.content);
            segment.content -= used;
            left -= used;
            let is_sent = segment.gathered + segment.content == 0;
            if let Some(content) = self.contents.front_mut() {
                content.advance(used);
                if content.is_empty() {
                    self.contents.pop_front();
                }
            }
            if !is_sent {
                break;
            }
            self.segments.pop_front();
        }
        if self.len == 0 {
            self.emptied();
        } else if self.gather_pos > GATHER_MAX && self.gather_pos > self.gather.len() / 2 {
            self.gather.drain(..self.gather_pos);
            self.gather_pos = 0;
        }
    }
}

/// The bytes that a connection has to send, as a [`Buf`] for vectored writes. `advance` removes
/// them from the queue, so a cancelled write loses nothing. Advancing past the end stops at the
/// end.
pub struct Transmit<'a> {
    queue: &'a mut SendQueue,
}

/// Leaves out the bytes, which are many and may be secret.
impl fmt::Debug for Transmit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transmit").field("remaining", &self.queue.len()).finish_non_exhaustive()
    }
}

impl Transmit<'_> {
    /// The unsent slices in order, as long as `put` takes them.
    #[inline]
    fn slices<'a>(&'a self, mut put: impl FnMut(&'a [u8]) -> bool) {
        let queue = &*self.queue;
        let (mut at, mut contents) = (queue.gather_pos, queue.contents.iter());
        let mut content: &[u8] = &[];
        for segment in &queue.segments {
            let start = at;
            at += segment.gathered;
            if content.is_empty() {
                content = contents.next().map_or(&[], |content| content);
            }
            let (now, later) = content.split_at(segment.content.min(content.len()));
            content = later;
            for slice in [&queue.gather[start..at], now] {
                if !slice.is_empty() && !put(slice) {
                    return;
                }
            }
        }
        if queue.tail > 0 {
            put(queue.tail());
        }
    }
}

impl Buf for Transmit<'_> {
    fn remaining(&self) -> usize {
        self.queue.len
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        if self.queue.segments.is_empty() {
            return self.queue.tail();
        }
        let mut first: &[u8] = &[];
        self.slices(|slice| {
            first = slice;
            false
        });
        first
    }

    #[inline]
    fn advance(&mut self, n: usize) {
        // A small queue nearly always leaves in one write.
        self.queue.acknowledge(n);
    }

    #[cfg(feature = "std")]
    fn chunks_vectored<'a>(&'a self, dst: &mut [std::io::IoSlice<'a>]) -> usize {
        let mut n = 0;
        self.slices(|slice| {
            let Some(slot) = dst.get_mut(n) else { return false };
            *slot = std::io::IoSlice::new(slice);
            n += 1;
            true
        });
        n
    }
}
