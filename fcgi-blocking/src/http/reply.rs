//! Sends a response to STDOUT.

use std::io::Read;

use fcgi_engine::http::{Reply, ReplyStep};

use super::body::Source;
use crate::server::{self, Failed};

/// Sends the reply, with the body if it has one. Returns what the handler returns.
pub(super) fn send<B: Read + 'static>(
    mut reply: Reply,
    request: &server::Request,
    mut body: Option<Source<B>>,
) -> Result<u32, Failed> {
    let mut stdout = request.stdout();
    let may_wait = |body: &Option<Source<B>>| body.as_ref().is_some_and(Source::may_wait);
    loop {
        let written = match reply.step() {
            ReplyStep::End => return reply.end(),
            ReplyStep::Reject(rejection) => {
                request.reject(rejection);
                continue;
            }
            // Flush what was written before asking a reader that may block.
            ReplyStep::Read if may_wait(&body) && stdout.flush().is_err() => Err(()),
            // A reader can't say whether it has bytes, so the head waits for the first ones.
            ReplyStep::Look | ReplyStep::Read => {
                let chunk = body.as_mut().map_or(Ok(None), Source::chunk);
                reply.handle_body(chunk.map_err(Into::into));
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
