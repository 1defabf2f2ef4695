//! Reads the head of a response.

use bytes::Bytes;
use fcgi_http::{Head, HeadError, HeadLimits, HeadParser};
use http::StatusCode;

use crate::Error;

/// The largest page that may come with a refusal, in bytes.
const REFUSAL: usize = 4096;

/// Reads the head of a response from STDOUT as it comes.
///
/// A short page with status 503 is first read to its end. An application that refuses a request may
/// send one for the web server's client, before the END_REQUEST with the refusal (W-2).
#[derive(Debug)]
pub(crate) struct HeadReader {
    parser: HeadParser,
    refusal: Option<(Head, Vec<Bytes>, usize)>,
}

impl HeadReader {
    /// A reader for one head.
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self { parser: HeadParser::new(limits), refusal: None }
    }

    /// Reads a whole response.
    #[cfg(feature = "php-fpm")]
    pub(crate) fn whole(limits: HeadLimits, stdout: Bytes) -> Result<(Head, Bytes), HeadError> {
        let mut reader = Self::new(limits);
        match reader.push(Some(stdout))? {
            Some(response) => Ok(response),
            None => reader.push(None)?.ok_or(HeadError::Truncated { bytes: 0 }),
        }
    }

    /// Takes the next bytes of STDOUT, or the good end of the response. Returns the head, with the
    /// body so far, once it can be handed out.
    ///
    /// # Errors
    /// It is not a head, or ended before it was complete.
    pub(crate) fn push(
        &mut self,
        stdout: Option<Bytes>,
    ) -> Result<Option<(Head, Bytes)>, HeadError> {
        let Some(mut bytes) = stdout else {
            return match self.refusal.take() {
                Some((head, page, _)) => Ok(Some((head, page.concat().into()))),
                None => Err(cut(self.parser.finish())),
            };
        };
        if let Some((_, page, length)) = &mut self.refusal {
            *length += bytes.len();
            page.push(bytes);
        } else {
            let Some(head) = self.parser.push(&mut bytes)? else { return Ok(None) };
            if head.parts.status != StatusCode::SERVICE_UNAVAILABLE {
                return Ok(Some((head, bytes)));
            }
            let length = bytes.len();
            self.refusal = Some((head, vec![bytes], length));
        }
        match self.refusal.take_if(|(.., length)| *length >= REFUSAL) {
            Some((head, page, _)) => Ok(Some((head, page.concat().into()))),
            None => Ok(None),
        }
    }

    /// The call has failed. Returns the head, if it was complete, and the body so far. Both are
    /// handed out before the error. Returns nothing if the request was refused.
    pub(crate) fn give_up(&mut self, error: &Error) -> Option<(Head, Bytes)> {
        let (head, page, _) = self.refusal.take()?;
        (!matches!(error, Error::Rejected { .. })).then(|| (head, page.concat().into()))
    }
}

/// What is wrong with a response that ended before its head did.
pub(super) fn cut(finished: Result<(), HeadError>) -> HeadError {
    finished.err().unwrap_or(HeadError::Truncated { bytes: 0 })
}
