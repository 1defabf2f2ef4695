//! Turns a request's body into STDIN, with a known length if possible (Q-4).

use std::{fs::File, mem};

use bytes::Bytes;
use fcgi_http::{BodyLengthError, RequestBody};
use http::{HeaderMap, header::CONTENT_LENGTH};

use super::{BoxError, HttpError, Spool, Spooled, UnknownLength, length_error};

/// The most that is gathered of a body before its request is sent, in bytes, unless it is spooled.
const AT_HAND: u64 = 64 * 1024;

/// Gathers what is available of a body before its request is sent. Gathered bytes can be sent again
/// on a fresh connection (Q-10), and small bodies of unknown length are usually gathered whole.
///
/// ```
/// use fcgi_engine::http::{Gather, Gathered, GatherStep, UnknownLength};
/// use fcgi_http::RequestBody;
///
/// let mut gather = Gather::new(&Default::default(), None, UnknownLength::default())?;
/// assert!(matches!(gather.step()?, GatherStep::Look));
/// gather.handle_chunk(Ok(Some("body".into())))?;
/// assert!(matches!(gather.step()?, GatherStep::Look));
/// gather.handle_chunk(Ok(None))?;
/// let GatherStep::Done(length, Gathered::Bytes(bytes)) = gather.step()? else { panic!("all") };
/// assert_eq!((length, &bytes[..]), (RequestBody::Length(4), &b"body"[..]));
/// # Ok::<(), fcgi_engine::http::HttpError>(())
/// ```
#[derive(Debug)]
pub struct Gather {
    unknown: UnknownLength,
    length: Option<u64>,
    is_declared: bool,
    head: Vec<Bytes>,
    held: u64,
    spool: Option<Spool>,
    looks: bool,
    ended: bool,
}

/// What to do with the body next.
#[derive(Debug)]
pub enum GatherStep {
    /// Pass what is available at once to [`Gather::handle_chunk`], or call
    /// [`Gather::handle_pending`].
    Look,
    /// Wait for the next bytes, and pass them to [`Gather::handle_chunk`].
    Wait,
    /// The request can be sent, with this length and body.
    Done(RequestBody, Gathered),
}

/// A body that can be sent.
#[derive(Debug)]
pub enum Gathered {
    /// The whole body.
    Bytes(Bytes),
    /// The whole body, in a file positioned at its start, with its length in bytes.
    File(File, u64),
    /// The bytes so far, with the rest still to be read; and the total length, if it is known.
    Rest(Bytes, Option<u64>),
}

impl Gather {
    /// The body of a request with these header fields; `known` is its length, if known.
    ///
    /// # Errors
    /// The fields contradict each other.
    pub fn new(
        headers: &HeaderMap,
        known: Option<u64>,
        unknown: UnknownLength,
    ) -> Result<Self, HttpError> {
        let length = match (known, RequestBody::from_headers(headers)?) {
            (Some(length), _) | (None, RequestBody::Length(length)) => Some(length),
            _ => None,
        };
        Ok(Self {
            unknown,
            length,
            is_declared: headers.contains_key(CONTENT_LENGTH),
            head: Vec::new(),
            held: 0,
            spool: None,
            looks: true,
            ended: false,
        })
    }

    /// What to do next.
    ///
    /// # Errors
    /// The body can't be spooled.
    pub fn step(&mut self) -> Result<GatherStep, HttpError> {
        if self.ended {
            let (length, body) = match self.spool.take() {
                None => (self.held, Gathered::Bytes(concat(mem::take(&mut self.head)))),
                Some(spool) => match spool.finish()? {
                    (length, Spooled::Bytes(bytes)) => (length, Gathered::Bytes(bytes)),
                    (length, Spooled::File(file)) => (length, Gathered::File(file, length)),
                },
            };
            // An empty body without a declared length counts as no body.
            let is_none = length == 0 && !self.is_declared;
            let length = if is_none { RequestBody::None } else { RequestBody::Length(length) };
            return Ok(GatherStep::Done(length, body));
        }
        // A body with all of its declared bytes may still lack its end.
        if self.looks && (self.held < AT_HAND || self.length == Some(self.held)) {
            return Ok(GatherStep::Look);
        }
        self.looks = false;
        match (self.length, self.unknown) {
            (None, UnknownLength::Spool { memory, limit }) => {
                if self.spool.is_none() {
                    let mut spool = Spool::new(memory, limit);
                    for chunk in mem::take(&mut self.head) {
                        spool.push(&chunk)?;
                    }
                    self.spool = Some(spool);
                }
                Ok(GatherStep::Wait)
            }
            (length, _) => {
                let sent = length.map_or(RequestBody::Unknown, RequestBody::Length);
                let head = concat(mem::take(&mut self.head));
                Ok(GatherStep::Done(sent, Gathered::Rest(head, length)))
            }
        }
    }

    /// Whether to read from a reader at [`GatherStep::Look`], although a reader can't be asked
    /// whether it would block. True if few bytes are expected, or if it must be found out whether
    /// there are any.
    #[must_use]
    pub fn is_worth_waiting(&self) -> bool {
        self.length.map_or(self.held == 0, |length| length <= AT_HAND)
    }

    /// Nothing more is available now.
    pub fn handle_pending(&mut self) {
        self.looks = false;
    }

    /// Takes the next bytes of the body, its end, or its error.
    ///
    /// # Errors
    /// [`HttpError::RequestBody`], also for bytes past its length; errors of [`Spool::push`].
    pub fn handle_chunk(
        &mut self,
        chunk: Result<Option<Bytes>, BoxError>,
    ) -> Result<(), HttpError> {
        let Some(chunk) = chunk.map_err(HttpError::RequestBody)? else {
            self.ended = true;
            return Ok(());
        };
        self.held = self.held.saturating_add(chunk.len() as u64);
        if let Some(declared) = self.length.filter(|length| self.held > *length) {
            let too_long = BodyLengthError::TooLong { declared, seen: self.held };
            return Err(HttpError::RequestBody(length_error(too_long).into()));
        }
        match &mut self.spool {
            Some(spool) => spool.push(&chunk),
            None => {
                self.head.push(chunk);
                Ok(())
            }
        }
    }
}

fn concat(mut chunks: Vec<Bytes>) -> Bytes {
    match chunks.len() {
        0 => Bytes::new(),
        1 => chunks.remove(0),
        _ => chunks.concat().into(),
    }
}
