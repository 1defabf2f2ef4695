//! How requests end: answered, aborted, or with their connection.

use alloc::vec::Vec;
use core::cmp::Reverse;

use super::{ClientConnection, Event, Outcome};
use crate::{
    FullRequest, RequestKey,
    record::RecordType,
    states::{ClientState, ClientTrigger},
};

impl ClientConnection {
    /// Under [`FullRequest::Abort`], aborts the request that pauses the connection.
    pub(super) fn abort_full(&mut self) -> bool {
        let limits = &self.config.limits;
        let Some(key) = self.record.stream() else { return false };
        let Some(request) = self.requests.get_mut(key) else { return false };
        let full =
            request.unread() >= limits.unread_request && limits.full_request == FullRequest::Abort;
        if full {
            request.overrun = true;
            self.abort(key);
        }
        full
    }

    pub(super) fn abort(&mut self, key: RequestKey) {
        let Some(request) = self.requests.get_mut(key) else { return };
        self.unread -= request.stdout.discard() + request.stderr.discard();
        if request.on(ClientTrigger::Abort).is_some() {
            self.send.empty_record(RecordType::AbortRequest, key.id);
        } else {
            self.forget_drained(key);
        }
    }

    /// Ends a request, because of END_REQUEST or the end of the connection. Returns the event.
    pub(super) fn finish(
        &mut self,
        key: RequestKey,
        trigger: ClientTrigger,
        outcome: Outcome,
    ) -> Option<Event> {
        let one_at_a_time = self.config.limits.requests <= 1;
        let request = self.requests.get_mut(key)?;
        let unfinished = !request.is_input_finished();
        let next = request.on(trigger)?;
        let outcome = if request.overrun { Outcome::Overrun } else { outcome };
        self.active -= 1;
        // The application may take input that it did not wait for as the next request's.
        if one_at_a_time && (unfinished || !self.send.is_empty()) {
            self.closing = true;
        }
        if next == ClientState::Tombstone {
            self.tombstones.insert(key.id);
        }
        request.stdout.end();
        request.stderr.end();
        self.forget_drained(key);
        Some(Event::Finished { key, outcome })
    }

    /// Forgets an ended request once its output was read or dropped.
    pub(super) fn forget_drained(&mut self, key: RequestKey) {
        let Some(request) = self.requests.get_mut(key) else { return };
        if request.unread() > 0 {
            return;
        }
        match request.state {
            ClientState::Ended => {
                request.on(ClientTrigger::Drained);
                self.free_ids.push(Reverse(key.id));
            }
            ClientState::Tombstone | ClientState::Idle => {}
            _ => return,
        }
        self.requests.forget(key);
    }

    /// The connection ended while these requests were active.
    pub(super) fn lose_all(&mut self) {
        let keys: Vec<_> = self
            .requests
            .iter_mut()
            .filter(|(_, request)| request.state.on(ClientTrigger::Lost).is_some())
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            let event = self.finish(key, ClientTrigger::Lost, Outcome::Truncated);
            self.events.extend(event);
        }
    }
}
