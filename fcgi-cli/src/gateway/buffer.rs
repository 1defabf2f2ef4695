//! Buffers bodies ahead of the slower side, so that no client holds up the application: a request's
//! body before a connection to the application is taken, an answer's as fast as it comes.

use std::{collections::VecDeque, future::poll_fn, pin::Pin, sync::Arc, task::Poll};

use bytes::{Bytes, BytesMut};
use fcgi_tokio::http::HttpError;
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;

use super::{
    body::{Body, BoxError, empty, full},
    failure::Failure,
    intake::RequestBody,
    log::{self, Title},
    store::{BLOCK, NotKept, Stores, Writer},
};

/// How many bytes of an answer are read before its head is passed on, if they are available at
/// once.
const AT_HAND: usize = 64 * 1024;
/// How much of one request's body may be in memory, in bytes.
const REQUEST_MEMORY: u64 = 128 * 1024;
/// How much of one answer may be in memory, in bytes. The answers of most applications fit, so that
/// they need no file.
const ANSWER_MEMORY: u64 = 1024 * 1024;

/// How bodies are buffered.
#[derive(Debug)]
pub(super) struct Buffering {
    pub(super) stores: Arc<Stores>,
    /// The limit of a request's body, in bytes.
    pub(super) max_body: u64,
    /// How much of one answer may wait on disk, in bytes.
    pub(super) answer: u64,
}

impl Buffering {
    /// Reads the whole body of a request.
    pub(super) async fn receive(&self, mut body: RequestBody) -> Result<Body, Failure> {
        if body.is_end_stream() {
            return Ok(empty());
        }
        let (writer, reader) = self.stores.open(REQUEST_MEMORY, u64::MAX);
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame.map_err(HttpError::RequestBody)?.into_data() else { continue };
            length += bytes.len() as u64;
            if length > self.max_body {
                return Err(HttpError::RequestTooLarge { limit: self.max_body }.into());
            }
            writer.push(bytes).await.map_err(no_room)?;
        }
        writer.end(Ok(()));
        Ok(Body::new(reader.of_length(Some(length))))
    }

    /// Reads an answer as it comes. An answer that is available at once is only passed on.
    pub(super) async fn take(&self, mut body: impl Source, title: &Title) -> Body {
        let exact = body.size_hint().exact();
        // Most answers are one piece, which needs no queue.
        let (mut first, mut pieces) = (Bytes::new(), VecDeque::new());
        let mut length = 0;
        let mut end = None;
        while end.is_none() && length < AT_HAND {
            match next_at_hand(&mut body).await {
                None => break,
                Some(Some(Ok(bytes))) => {
                    length += bytes.len();
                    // Trailers have no bytes.
                    match (first.is_empty(), bytes.is_empty()) {
                        (true, _) => first = bytes,
                        (false, true) => {}
                        (false, false) => pieces.push_back(bytes),
                    }
                }
                Some(Some(Err(error))) => end = Some(Err(error)),
                Some(None) => end = Some(Ok(())),
            }
        }
        if matches!(end, Some(Ok(()))) && pieces.is_empty() {
            return full(first);
        }
        if !first.is_empty() {
            pieces.push_front(first);
        }
        let (writer, reader) = self.stores.open(ANSWER_MEMORY, self.answer);
        while let Some(bytes) = pieces.pop_front() {
            if writer.push(bytes.clone()).await.is_err() {
                // There will be room once something is read, which starts when this returns.
                pieces.push_front(bytes);
                break;
            }
        }
        match end {
            Some(end) if pieces.is_empty() => {
                let exact = if end.is_ok() { Some(length as u64) } else { exact };
                writer.end(end);
                Body::new(reader.of_length(exact))
            }
            end => {
                let exact = if matches!(end, Some(Ok(()))) { Some(length as u64) } else { exact };
                let task = tokio::spawn(pump(pieces, end, body, writer, title.clone()));
                Body::new(reader.of_length(exact).filled_by(task.abort_handle()))
            }
        }
    }
}

/// Where an answer comes from.
pub(super) trait Source:
    http_body::Body<Data = Bytes, Error = BoxError> + Send + Unpin + 'static
{
}

impl<B: http_body::Body<Data = Bytes, Error = BoxError> + Send + Unpin + 'static> Source for B {}

/// The next piece of a body, or its end; `None` if it has not come yet.
async fn next_at_hand(body: &mut impl Source) -> Option<Option<Result<Bytes, BoxError>>> {
    let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await;
    match polled {
        Poll::Pending => None,
        Poll::Ready(frame) => Some(frame.map(|frame| Ok(frame?.into_data().unwrap_or_default()))),
    }
}

/// Reads the rest of an answer: pieces that have come, and then their end or what is still to come.
async fn pump(
    pieces: VecDeque<Bytes>,
    mut end: Option<Result<(), BoxError>>,
    mut body: impl Source,
    writer: Writer,
    title: Title,
) {
    let mut keeper = Keeper { writer, title, has_failed: false };
    for bytes in pieces {
        keeper.keep(bytes).await;
    }
    let end = loop {
        if let Some(end) = end {
            break end;
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                let Ok(mut bytes) = frame.into_data() else { continue };
                if keeper.writer.is_on_disk() {
                    (bytes, end) = gather(bytes, &mut body).await;
                }
                keeper.keep(bytes).await;
            }
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    // Frees the application before the client has taken everything.
    drop(body);
    keeper.writer.end(end);
}

/// Joins a piece of an answer with those that have come after it, up to about a block. The end, if
/// it has come too, is the second result.
async fn gather(first: Bytes, body: &mut impl Source) -> (Bytes, Option<Result<(), BoxError>>) {
    let mut all = BytesMut::new();
    let mut last = first;
    let end = loop {
        if (all.len() + last.len()) as u64 >= BLOCK {
            break None;
        }
        match next_at_hand(body).await {
            Some(Some(Ok(bytes))) => all.extend_from_slice(&std::mem::replace(&mut last, bytes)),
            Some(Some(Err(error))) => break Some(Err(error)),
            Some(None) => break Some(Ok(())),
            None => break None,
        }
    };
    if all.is_empty() {
        return (last, end);
    }
    all.extend_from_slice(&last);
    (all.freeze(), end)
}

/// Stores the pieces of an answer.
struct Keeper {
    writer: Writer,
    title: Title,
    has_failed: bool,
}

impl Keeper {
    /// Stores a piece once there is room. The application waits for this if it must, also where the
    /// disk takes nothing: that must not cut the answer.
    async fn keep(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        while let Err(not_kept) = self.writer.push(bytes.clone()).await {
            if let (NotKept::Failed(error), false) = (not_kept, self.has_failed) {
                self.has_failed = true;
                let message = format!("keep the answer: {error}; the application waits instead");
                log::error(&self.title, &message);
            }
            self.writer.room().await;
        }
    }
}

fn no_room(error: NotKept) -> Failure {
    let failure = |reason| Failure::new(StatusCode::SERVICE_UNAVAILABLE, reason);
    match error {
        NotKept::Full => failure("there is no room for more bodies of requests".to_owned()),
        NotKept::Failed(error) => {
            failure(format!("keep the body: {error}")).shown_as("the body can't be kept now")
        }
    }
}
