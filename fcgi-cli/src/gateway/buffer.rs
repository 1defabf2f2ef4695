//! Bodies taken in ahead of the slower side, so that no client holds up the application: a
//! request's before a connection to the application is asked for, an answer's as fast as it comes.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll};

use bytes::Bytes;
use fcgi_tokio::http::HttpError;
use http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;

use super::{
    body::{Body, empty},
    failure::Failure,
    intake::RequestBody,
    log::{self, Title},
    store::{NotKept, Stores, Writer},
};

/// What is taken of an answer before its head is passed on, if it is at hand, in bytes.
const AT_HAND: usize = 64 * 1024;

/// How bodies are buffered.
#[derive(Debug)]
pub(super) struct Buffering {
    pub(super) stores: Arc<Stores>,
    /// The most of a request's body, in bytes.
    pub(super) max_body: u64,
    /// The most of one answer that waits on disk, in bytes.
    pub(super) answer: u64,
}

impl Buffering {
    /// Takes in the whole body of a request.
    pub(super) async fn receive(&self, mut body: RequestBody) -> Result<Body, Failure> {
        if body.is_end_stream() {
            return Ok(empty());
        }
        let (writer, reader) = self.stores.open(u64::MAX);
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
        Ok(reader.of_length(Some(length)).boxed_unsync())
    }

    /// Takes an answer in as it comes. One that is at hand as a whole is only passed on.
    pub(super) async fn take(&self, mut body: Body, title: &Title) -> Body {
        let exact = body.size_hint().exact();
        let (writer, reader) = self.stores.open(self.answer);
        let mut length = 0;
        while length < AT_HAND {
            let end = match poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(frame))) => {
                    let bytes = frame.into_data().unwrap_or_default();
                    length += bytes.len();
                    match keep(&writer, bytes, title).await {
                        Ok(()) => continue,
                        Err(message) => Err(message.into()),
                    }
                }
                Poll::Ready(Some(Err(error))) => Err(error),
                Poll::Ready(None) => Ok(()),
            };
            let exact = if end.is_ok() { Some(length as u64) } else { exact };
            writer.end(end);
            return reader.of_length(exact).boxed_unsync();
        }
        let task = tokio::spawn(pump(body, writer, title.clone())).abort_handle();
        reader.of_length(exact).filled_by(task).boxed_unsync()
    }
}

/// Takes the rest of an answer in.
async fn pump(mut body: Body, writer: Writer, title: Title) {
    let end = loop {
        match body.frame().await {
            Some(Ok(frame)) => {
                let Ok(bytes) = frame.into_data() else { continue };
                if let Err(error) = keep(&writer, bytes, &title).await {
                    break Err(error.into());
                }
            }
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    // The application is free before the client has taken all.
    drop(body);
    writer.end(end);
}

/// Keeps a piece of an answer, for which the application waits if it has to.
async fn keep(writer: &Writer, bytes: Bytes, title: &Title) -> Result<(), String> {
    if bytes.is_empty() {
        return Ok(());
    }
    writer.push_in_time(bytes).await.map_err(|error| {
        let message = match error {
            NotKept::Full => "no room to keep the answer".to_owned(),
            NotKept::Failed(error) => format!("keep the answer: {error}"),
        };
        log::error(title, &message);
        message
    })
}

fn no_room(error: NotKept) -> Failure {
    let reason = match error {
        NotKept::Full => "there is no room for more bodies of requests".to_owned(),
        NotKept::Failed(error) => format!("keep the body: {error}"),
    };
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, reason)
}
