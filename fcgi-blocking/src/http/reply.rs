//! Sends a response to STDOUT.

use std::io::Read;

use fcgi_engine::http::{Reply, ReplyStep};

use super::{
    Body,
    body::{Chunks, Source},
};
use crate::server::{self, Failed};

/// Sends a response.
pub(super) fn send<B: Read + 'static>(
    reply: &mut Reply,
    request: &server::Request,
    mut body: Source<B>,
) {
    let mut stdout = request.stdout();
    loop {
        let written = match reply.step() {
            ReplyStep::End => return,
            ReplyStep::Reject(rejection) => {
                request.reject(rejection);
                continue;
            }
            // Flush what was written before asking a reader that may block.
            ReplyStep::Read if body.may_wait() && stdout.flush().is_err() => Err(()),
            // A reader can't say whether it has bytes, so the head waits for the first ones.
            ReplyStep::Look | ReplyStep::Read => {
                reply.handle_body(body.chunk().map_err(Into::into));
                continue;
            }
            ReplyStep::Record(head) => stdout.write_record(head).map_err(drop),
            ReplyStep::Write(bytes) => stdout.write_chunk(bytes).map_err(drop),
        };
        if written.is_err() {
            reply.handle_gone();
        }
    }
}

/// Runs the handler's function, and sends what is then left to send. Returns what the handler
/// returns.
pub(super) fn finish(
    mut reply: Reply,
    request: &server::Request,
    answer: impl FnOnce(&mut Reply),
) -> Result<u32, Failed> {
    answer(&mut reply);
    send(&mut reply, request, Source::new(Body::empty()));
    reply.end()
}
