//! The driver: it moves bytes, as the async adapters do, and examines what crosses the wire.

use fcgi_proto::Input;

use super::{World, wire::Of};

impl World<'_> {
    pub(super) fn turn(&mut self) {
        if self.task && !self.task_over {
            self.task = false;
            self.task_over = self.move_bytes();
        }
    }

    /// Works like the async adapters; true at the end of the connection.
    pub(super) fn move_bytes(&mut self) -> bool {
        (self.wire.reading, self.wire.writing) = (false, false);
        let over = loop {
            let (now, requests) = (self.now, &mut self.requests);
            let wake = |n: usize| requests[n].woken = true;
            let more = self.session.turn(&mut self.wire, true, || now, wake);
            self.look_at_what_was_taken();
            self.look_at_what_was_given();
            if self.session.is_closed() || self.session.is_closing() && self.session.is_unused() {
                break true;
            }
            if !more {
                break false;
            }
        };
        if over {
            self.session.handle_lost();
            let requests = &mut self.requests;
            self.session.handle_events(|n| requests[n].woken = true);
        }
        self.seen.partial += std::mem::take(&mut self.wire.partial);
        over
    }

    fn look_at_what_was_taken(&mut self) {
        let taken = std::mem::take(&mut self.wire.taken);
        if taken.is_empty() {
            return;
        }
        let waiting: Vec<_> =
            (0..self.requests.len()).filter(|n| !self.requests[*n].flushed).collect();
        for byte in taken {
            // The first byte of its BEGIN_REQUEST is a request's first.
            if self.taken.is_at_boundary() {
                self.taken.header.clear();
            }
            match self.taken.push(byte) {
                Of::Header(1, id, _) => {
                    let n = self.begun.pop_front().unwrap();
                    assert_eq!(self.requests[n].exchange.key().id(), id);
                    self.sent_by_id.insert(id, n);
                    self.requests[n].sent = 8;
                }
                Of::Header(kind, id, 0) if id != 0 => {
                    let req = &mut self.requests[self.sent_by_id[&id]];
                    let last = match req.role.last_input() {
                        None => 4,
                        Some(Input::Stdin) => 5,
                        Some(Input::Data) => 8,
                    };
                    req.flushed |= kind == last;
                }
                _ => {}
            }
        }
        for n in waiting {
            let req = &mut self.requests[n];
            req.since = req.since.max(self.now);
        }
    }

    fn look_at_what_was_given(&mut self) {
        for byte in std::mem::take(&mut self.wire.given) {
            if self.garbage.is_some_and(|at| self.given_bytes >= at) {
                // It is not a record.
                continue;
            }
            self.given_bytes += 1;
            if let Of::Content(kind @ (6 | 7), id) = self.given.push(byte) {
                if let Some(n) = self.came_by_id.get(&id) {
                    self.requests[*n].read[usize::from(kind - 6)] += 1;
                }
            }
        }
    }
}
