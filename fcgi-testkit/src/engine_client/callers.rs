//! The callers: they begin requests, look, bring bodies, and give up.

use std::{io, task::Poll, time::Instant};

use fcgi_engine::{
    Error, Phase,
    client::{Chunk, Settings},
};
use fcgi_proto::{BeginRequest, Input, Params, Role};

use super::{Body, Req, STDIN, STDOUT, Stage, World, ms, patterned};

impl World<'_> {
    pub(super) fn begin(&mut self) {
        let role = self.input.pick(&[Role::Responder, Role::Authorizer, Role::Filter]);
        let number = self.requests.len();
        let mut body = [Body::default(); 2];
        for (body, input) in body.iter_mut().zip([Input::Stdin, Input::Data]) {
            if role.has_input(input) {
                body.len = self.input.pick(&[0, 1, 10, 500, 3_000]);
                body.ready = if self.input.below(2) == 0 { body.len } else { 0 };
            }
        }
        let mut params = Params::from_iter([("N", number.to_string())]);
        let mut content_length = None;
        if role.has_input(Input::Stdin) && self.input.below(8) == 0 {
            let length = body[STDIN].len + self.input.below(2);
            params.push("CONTENT_LENGTH", length.to_string());
            content_length = Some(length);
        }
        let keep_conn = self.settings.limits.requests > 1 || self.input.below(8) != 0;
        let begin = BeginRequest { role, keep_conn, params };
        let usable = self.session.is_usable();
        let without_body = body.iter().all(|body| body.len == 0) && number % 2 == 0;
        let mut exchange = match self.session.begin(&begin, !without_body, self.now, self.now) {
            Ok(exchange) => exchange,
            Err(error) => {
                assert!(!usable && matches!(error, Error::Closed { .. } | Error::Usage(_)));
                self.seen.refused += 1;
                return;
            }
        };
        assert!(usable);
        exchange.begin_log(&begin, self.session.span(), || self.now);
        self.begun.push_back(number);
        // Its caller looks at once, and wakes the driver.
        self.task = true;
        self.requests.push(Req {
            exchange,
            role,
            stage: Stage::Running,
            woken: true,
            alarm: None,
            body,
            wrote: [0; 2],
            read: [0; 2],
            handed: [0; 2],
            started: self.now,
            since: self.now,
            waiting: false,
            sent: 0,
            flushed: false,
            app: None,
            ended: None,
            content_length,
        });
    }

    /// A caller looks at its request, whether it was woken or not.
    pub(super) fn look(&mut self) {
        let Some(n) = self.some(|req| req.stage != Stage::Gone) else { return };
        if self.requests[n].stage == Stage::Draining {
            return self.look_for_the_end(n);
        }
        self.requests[n].woken = false;
        match self.poll(n) {
            Poll::Pending => {}
            Poll::Ready(polled) => {
                let now = self.now;
                let polled = self.requests[n].exchange.hand_out(polled, || now);
                self.handed_out(n, polled);
            }
        }
    }

    pub(super) fn poll(&mut self, n: usize) -> Poll<Result<Option<Chunk>, Error>> {
        loop {
            let paused = !self.session.wants_read();
            self.seen.paused += usize::from(paused);
            let req = &mut self.requests[n];
            let now = self.now;
            let polled = self.session.poll(&mut req.exchange, || now);
            if polled.is_ready() {
                self.task |= paused;
                return polled;
            }
            self.session.wait(req.exchange.key(), |who| *who = Some(n));
            self.task |= self.session.wants_write();
            let Some(input) = req.exchange.wants_body() else { break };
            let body = &mut req.body[input as usize];
            let at_hand = body.ready - body.given;
            if at_hand > 0 {
                let piece = patterned(input as usize, n, body.given, at_hand);
                body.given = body.ready;
                req.exchange.handle_body(Ok(Some(piece.into())))?;
            } else if body.given == body.len {
                req.exchange.handle_body(Ok(None))?;
            } else if self.input.below(32) == 31 {
                req.exchange.handle_body(Err(io::Error::other("no more")))?;
            } else {
                break;
            }
        }
        let req = &mut self.requests[n];
        let expected = req.limit(&self.settings, self.now);
        let limit = self.session.limit(&mut req.exchange, self.now);
        assert_eq!(limit.map(|limit| (limit.at, limit.phase)), expected, "request {n}");
        req.alarm = limit.map(|limit| limit.at);
        match limit {
            Some(limit) if limit.at <= self.now => Poll::Ready(Err(req.exchange.passed(limit))),
            _ => Poll::Pending,
        }
    }

    pub(super) fn handed_out(&mut self, n: usize, polled: Result<Option<Chunk>, Error>) {
        let (now, settings) = (self.now, self.settings);
        let req = &mut self.requests[n];
        let all_handed = req.handed == req.read;
        match polled {
            Ok(Some(chunk)) => {
                let (output, bytes) = match &chunk {
                    Chunk::Stdout(bytes) => (0, bytes),
                    Chunk::Stderr(bytes) => (1, bytes),
                };
                let from = req.handed[output];
                assert!(*bytes == patterned(STDOUT + output, n, from, bytes.len()));
                req.handed[output] += bytes.len();
                assert!(req.handed[output] <= req.read[output]);
                (req.waiting, req.woken) = (false, true);
                return;
            }
            Ok(None) => {
                assert!(all_handed && req.handed == req.wrote);
                assert_eq!(req.ended, Some(Ok(req.exchange.app_status().unwrap())));
                self.seen.complete += 1;
            }
            Err(Error::Rejected { rejection, .. }) => {
                assert!(all_handed);
                assert_eq!(req.ended, Some(Err(rejection)));
                self.seen.rejected += 1;
            }
            Err(Error::Truncated { .. }) => {
                assert!(all_handed && (self.wire.eof || self.wire.read_error.is_some()));
                self.seen.truncated += 1;
            }
            Err(Error::Protocol { .. }) => {
                assert!(all_handed && self.garbage.is_some());
                self.seen.protocol += 1;
            }
            Err(Error::Io { doing: "read from", source, .. }) => {
                assert!(all_handed);
                assert_eq!(Some(source.kind()), self.wire.read_error);
                self.seen.read_failed += 1;
            }
            Err(Error::Io { source, .. }) => {
                assert_eq!(Some(source.kind()), self.wire.write_error);
                assert_eq!(req.sent, 0, "some of it was sent");
                assert!(!req.exchange.is_touched());
                self.seen.unsent += 1;
            }
            Err(Error::Timeout { phase, limit, .. }) => {
                let (seen, expected) = match phase {
                    Phase::FirstByte => (&mut self.seen.first_byte, settings.first_byte),
                    Phase::NextByte => (&mut self.seen.next_byte, settings.next_byte),
                    Phase::Response => (&mut self.seen.total, settings.total),
                    other => panic!("{other:?}"),
                };
                *seen += 1;
                assert_eq!(Some(limit), expected);
                let from = if phase == Phase::Response { req.started } else { req.since };
                assert!(now >= from + limit, "too early");
            }
            Err(Error::Body { .. }) => self.seen.body_failed += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(req.exchange.is_over());
        self.release(n);
    }

    /// The caller is done with the request, and waits for its end or not.
    fn release(&mut self, n: usize) {
        self.task |= self.session.leave(&mut self.requests[n].exchange);
        let drain = self.input.below(2) == 0;
        self.requests[n].stage = if drain { Stage::Draining } else { Stage::Gone };
        (self.requests[n].woken, self.requests[n].alarm) = (true, None);
        if !drain {
            self.forget(n);
        }
    }

    pub(super) fn forget(&mut self, n: usize) {
        self.requests[n].stage = Stage::Gone;
        self.session.forget(self.requests[n].exchange.key());
        self.task |= self.session.is_closing() && self.session.is_unused();
    }

    pub(super) fn look_for_the_end(&mut self, n: usize) {
        let key = self.requests[n].exchange.key();
        self.requests[n].woken = false;
        match self.session.ended(key) {
            Some(_) => self.forget(n),
            None => self.session.wait(key, |who| *who = Some(n)),
        }
    }

    pub(super) fn give_up(&mut self) {
        let Some(n) = self.some(|req| req.stage == Stage::Running) else { return };
        let now = self.now;
        self.requests[n].exchange.give_up(|| now);
        self.seen.aborted += 1;
        self.release(n);
    }

    pub(super) fn body_comes(&mut self) {
        let Some(n) = self.some(|req| req.stage == Stage::Running) else { return };
        let more = self.input.pick(&[1, 100, 3_000]);
        let req = &mut self.requests[n];
        for body in &mut req.body {
            body.ready = (body.ready + more).min(body.len);
        }
        req.woken = true;
    }

    pub(super) fn time_passes(&mut self) {
        let next = self.requests.iter().filter_map(|req| req.alarm).min();
        self.now = match next {
            Some(next) if self.input.below(2) == 0 => self.now.max(next),
            _ => self.now + ms(1 + self.input.below(60) as u64),
        };
        for req in &mut self.requests {
            req.woken |= req.alarm.is_some_and(|at| at <= self.now);
        }
    }
}

impl Req {
    /// The next limit to pass, by the second calculation.
    pub(super) fn limit(&mut self, settings: &Settings, now: Instant) -> Option<(Instant, Phase)> {
        let answered = self.handed != [0; 2];
        if answered && !self.waiting {
            (self.waiting, self.since) = (true, now);
        }
        let pause = if answered {
            settings.next_byte.map(|limit| (self.since + limit, Phase::NextByte))
        } else {
            settings.first_byte.map(|limit| (self.since + limit, Phase::FirstByte))
        };
        let total = settings.total.map(|limit| (self.started + limit, Phase::Response));
        pause.into_iter().chain(total).min_by_key(|(at, _)| *at)
    }
}
