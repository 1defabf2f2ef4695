//! What must hold after each step, and at the end.

use std::task::Poll;

use fcgi_proto::Connection;

use super::{STDIN, Stage, World};

impl World<'_> {
    pub(super) fn check_waits(&mut self) {
        if !self.task && !self.task_over {
            let (before, room) = (self.wire.from_app.len(), self.wire.room);
            let woken = |world: &Self| world.requests.iter().filter(|req| req.woken).count();
            let awake = woken(self);
            self.task_over = self.move_bytes();
            assert!(
                self.wire.from_app.len() == before
                    && self.wire.room == room
                    && woken(self) == awake
                    && !self.task_over,
                "there were bytes to move, and nobody was told"
            );
        }
        for n in 0..self.requests.len() {
            let req = &mut self.requests[n];
            if req.woken {
                continue;
            }
            match req.stage {
                Stage::Gone => {}
                Stage::Draining => {
                    let ended = self.session.ended(req.exchange.key());
                    assert_eq!(ended, None, "request {n} has ended, and nobody was told");
                }
                Stage::Running => {
                    // It is notified of room once half of the limit is free.
                    if self.session.is_writable() && !self.session.wants_write() {
                        let pushed = self.session.push(&mut req.exchange).unwrap();
                        assert!(!pushed, "request {n} has room, and nobody was told");
                    }
                    let now = self.now;
                    let polled = self.session.poll(&mut req.exchange, || now);
                    assert!(polled.is_pending(), "request {n} has something: {polled:?}");
                    let due = req.limit(&self.settings, self.now).map(|(at, _)| at);
                    assert!(due.is_none_or(|due| req.alarm.is_some_and(|alarm| alarm <= due)));
                }
            }
            let mismatch = req.content_length.is_some_and(|length| length != req.body[STDIN].len);
            if mismatch && req.flushed {
                assert!(!self.session.is_usable(), "Q-4");
            }
        }
    }

    /// Lets everything reach its end.
    pub(super) fn end(&mut self) {
        // Counts the rounds in which no caller got anything: with little room a long answer takes many.
        let mut turns = 0;
        let handed = |world: &Self| -> usize {
            world.requests.iter().map(|req| req.handed.iter().sum::<usize>()).sum()
        };
        while self.requests.iter().any(|req| req.stage != Stage::Gone) {
            let before = handed(self);
            turns += 1;
            assert!(turns < 20_000, "no end of it: {:?}", self.session);
            self.wire.room += if self.wire.write_error.is_some() { 0 } else { 1 << 20 };
            self.wire.chunk = 1 << 20;
            self.task |= std::mem::take(&mut self.wire.writing);
            self.turn();
            for n in 0..self.requests.len() {
                for body in &mut self.requests[n].body {
                    body.ready = body.len;
                }
                match self.requests[n].stage {
                    Stage::Gone => {}
                    Stage::Draining if turns > 10_000 => self.forget(n),
                    Stage::Draining => self.look_for_the_end(n),
                    Stage::Running => {
                        if let Poll::Ready(polled) = self.poll(n) {
                            let now = self.now;
                            let polled = self.requests[n].exchange.hand_out(polled, || now);
                            self.handed_out(n, polled);
                        }
                    }
                }
                if let (Some(key), None) = (self.requests[n].app, self.requests[n].ended) {
                    self.app.request(key).unwrap().finish(0).unwrap();
                    self.requests[n].ended = Some(Ok(0));
                }
            }
            while !self.wire.to_app.is_empty() && !self.app.recv_buffer().is_empty() {
                self.app_reads();
            }
            self.app_sends();
            if handed(self) > before {
                turns -= 1;
            }
            if turns == 5_000 && !self.app_over {
                // This application has not received all of a request, and never will.
                (self.wire.eof, self.app_over) = (true, true);
                self.something_came();
            }
        }
        assert!(self.session.is_unused(), "a request is left");
    }
}
