//! How requests end: with the application's status, refused, failed, or aborted.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{AbortReason, ServerConnection, State};
use crate::{
    FullRequest, Rejection, RequestKey, Role,
    record::{EndRequestBody, RecordType},
    sender::SendQueue,
    states::{ServerState, ServerTrigger},
};

// Each page has a Content-Length. Otherwise a gateway could not know that it is complete, given the
// status that its request ends with.
/// The answer to a Responder whose PARAMS are malformed (FC-3.4-5).
const BAD_REQUEST: &[u8] = b"Status: 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 12\r\n\r\nBad Request\n";
/// The answer to a Responder whose request is refused (W-2).
const UNAVAILABLE: &[u8] = b"Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\
    Content-Length: 20\r\n\r\nService Unavailable\n";
/// The answer to a request that failed before anything was written (W-15). From an Authorizer it
/// means "denied".
const INTERNAL_ERROR: &[u8] = b"Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\
    Content-Length: 22\r\n\r\nInternal Server Error\n";
/// The app status of a request that ends before the application has seen it.
const NOT_RUN: u32 = 1;

/// How a request ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// The application's own status.
    Complete(u32),
    Rejected(Rejection),
    /// It failed before anything was written.
    Failed(u32),
    /// Malformed PARAMS (FC-3.4-5).
    BadParams,
    /// Aborted before the application saw it.
    NotRun,
}

impl ServerConnection {
    /// Ends every request as [failed](super::Request::fail), and then the connection. Requests without
    /// output get their page and END_REQUEST; responses that have begun are cut off.
    pub fn fail_all(&mut self, app_status: u32) {
        // A peer that broke the protocol gets nothing more.
        if self.error.is_some() {
            return;
        }
        let requests = self.requests.iter_mut();
        let all: Vec<_> =
            requests.map(|(key, r)| (key, r.state == ServerState::Params, r.stdout_used)).collect();
        for &(key, unheard, begun) in &all {
            match (unheard, begun) {
                (true, _) => self.end(key, Ending::NotRun),
                (false, false) => self.end(key, Ending::Failed(app_status)),
                (false, true) => false,
            };
        }
        for (key, ..) in all {
            self.cut |= self.remove(key);
        }
        self.close_early();
    }

    /// Drops what arrives after the last request can have begun: nobody needs it.
    pub(super) fn drop_unheard(&mut self) {
        if self.closing && self.requests.is_empty() {
            self.input_pending |= !self.recv.is_at_boundary();
            self.recv.close();
        }
    }

    /// Under [`FullRequest::Abort`], aborts the request that pauses the connection.
    pub(super) fn abort_full(&mut self) -> bool {
        let Some(key) = self.record.stream() else { return false };
        let full = self.requests.get(key).is_some_and(|request| {
            request.state == ServerState::Input
                && request.unread() >= self.config.limits.unread_request
        });
        let abort = full && self.config.limits.full_request == FullRequest::Abort;
        if abort {
            self.abort(key, AbortReason::Overrun);
        }
        abort
    }

    /// Reports an abort and drops the request's input.
    pub(super) fn abort(&mut self, key: RequestKey, reason: AbortReason) {
        let Some(request) = self.requests.get_mut(key) else { return };
        match request.on(ServerTrigger::Abort) {
            Some(ServerState::Aborted) => {
                self.unread -= request.unread();
                request.stdin.discard();
                if let Some(data) = &mut request.data {
                    data.discard();
                }
                self.aborts.push_back((key, reason));
            }
            Some(_) if reason == AbortReason::Requested => {
                self.end(key, Ending::NotRun);
            }
            Some(_) => {
                self.remove(key);
            }
            None => {}
        }
    }

    /// The peer sends no more: incomplete requests fail, and with `all` the complete ones too.
    pub(super) fn abort_all(&mut self, all: bool) {
        let keys: Vec<_> = self
            .requests
            .iter_mut()
            .filter(|(_, request)| all || request.state != ServerState::Complete)
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.abort(key, AbortReason::Disconnected);
        }
        self.closing = true;
        self.drop_unheard();
    }

    /// Ends an active request.
    #[inline]
    pub(super) fn end(&mut self, key: RequestKey, ending: Ending) -> bool {
        let Some(request) = self.requests.get(key) else { return false };
        self.input_pending |= match request.state {
            ServerState::Complete => false,
            ServerState::Aborted => !request.is_whole(),
            _ => self.bodiless != Some(key),
        };
        let &State { role, keep_conn, stdout_used, stderr_used, .. } = request;
        self.unread -= request.unread();
        self.params_bytes -= request.params.received();
        self.requests.forget(key);
        if let (Ending::Complete(app_status), false) = (ending, self.gone) {
            // The fast path.
            self.closing |= !keep_conn;
            // An Authorizer's input is over before the end of STDIN that some peers send.
            self.peer_done = self.closing
                && self.fresh == Some(key)
                && role != Role::Authorizer
                && !self.input_pending
                && self.recv.is_at_boundary()
                && !self.recv.is_full();
            self.input_pending |= self.closing;
            let body = EndRequestBody { app_status, protocol_status: 0 };
            self.send.end_request(key.id, true, stderr_used, body);
            self.drop_unheard();
            self.rest();
            return true;
        }
        self.send_ending(key.id, Some(role), keep_conn, (stdout_used, stderr_used), ending);
        true
    }

    /// Queues the end of a request: a page if it needs one, the ends of its streams, END_REQUEST.
    pub(super) fn send_ending(
        &mut self,
        id: u16,
        role: Option<Role>,
        keep_conn: bool,
        (stdout_used, stderr_used): (bool, bool),
        ending: Ending,
    ) {
        let (page, app_status, rejection) = match ending {
            Ending::Complete(app_status) => (None, app_status, None),
            Ending::Failed(app_status) => (Some(INTERNAL_ERROR), app_status, None),
            Ending::Rejected(rejection) => (Some(UNAVAILABLE), 0, Some(rejection)),
            Ending::BadParams => (Some(BAD_REQUEST), NOT_RUN, None),
            Ending::NotRun => (None, NOT_RUN, None),
        };
        self.closing |= !keep_conn;
        self.input_pending |= self.closing;
        if self.gone {
            return self.drop_unheard();
        }
        let page = page.filter(|_| match ending {
            Ending::Failed(_) => self.config.failure_body,
            Ending::Rejected(_) if !self.config.rejection_body => false,
            _ => role == Some(Role::Responder) && !stdout_used,
        });
        let queue = |send: &mut SendQueue| {
            if let Some(page) = page {
                send.stream(RecordType::Stdout, id, &mut Bytes::from_static(page), usize::MAX);
            }
            let protocol_status = rejection.map_or(0, Rejection::as_u8);
            let body = EndRequestBody { app_status, protocol_status };
            let stdout = rejection.is_none() || page.is_some() || stdout_used;
            send.end_request(id, stdout, stderr_used, body);
        };
        match ending {
            Ending::Complete(_) | Ending::Failed(_) => queue(&mut self.send),
            _ => self.send.reply(queue),
        }
        self.drop_unheard();
        self.rest();
    }

    /// Closes the connection once the queue is sent, whatever the peer still sends.
    pub(super) fn close_early(&mut self) {
        self.closing = true;
        self.input_pending = true;
        self.drop_unheard();
    }

    /// Drops a request in place; false if it is not active.
    pub(super) fn remove(&mut self, key: RequestKey) -> bool {
        let Some(request) = self.requests.get(key) else { return false };
        self.unread -= request.unread();
        self.params_bytes -= request.params.received();
        self.requests.forget(key);
        true
    }
}
