//! Reads the data of any body.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::Body;

use super::BoxError;

/// The next bytes of a body. Trailers are dropped, since CGI does not have them.
pub(super) fn poll_data<B>(
    mut body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Bytes>, BoxError>>
where
    B: Body<Error: Into<BoxError>>,
{
    loop {
        let frame = match ready!(body.as_mut().poll_frame(cx)) {
            None => return Poll::Ready(Ok(None)),
            Some(frame) => frame.map_err(Into::into)?,
        };
        if let Ok(mut data) = frame.into_data() {
            if data.has_remaining() {
                return Poll::Ready(Ok(Some(data.copy_to_bytes(data.remaining()))));
            }
        }
    }
}
