//! A response on its way to STDOUT.

use std::io::Read;

use fcgi_engine::http::{Reply, ReplyStep};

use super::{Body, body::Source};
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
            // What was written goes out before a reader is asked that may take its time.
            ReplyStep::Read if body.may_wait() && stdout.flush().is_err() => Err(()),
            // A reader can't be asked whether it has bytes: the head waits for the first.
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

/// Calls what answers, and sends what is left then; gives what the handler returns.
pub(super) fn finish(
    mut reply: Reply,
    request: &server::Request,
    answer: impl FnOnce(&mut Reply),
) -> Result<u32, Failed> {
    answer(&mut reply);
    send(&mut reply, request, Source::new(Body::empty()));
    reply.end()
}
