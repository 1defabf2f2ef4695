//! The application, and what goes wrong with its connection.

use std::{io, task::Poll};

use bytes::{Buf, Bytes};
use fcgi_proto::{Connection, Input, Output, Rejection, RequestKey, server::Event};

use super::{DATA, STDIN, STDOUT, World, patterned};

const GARBAGE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

impl World<'_> {
    pub(super) fn app_reads(&mut self) {
        let most = self.input.pick(&[1, 20, 1000, 1 << 20]);
        let window = self.app.recv_buffer();
        let n = window.len().min(most).min(self.wire.to_app.len());
        for (to, byte) in window.iter_mut().zip(self.wire.to_app.drain(..n)) {
            *to = byte;
        }
        self.app.handle_recv(n).unwrap();
        self.app_events();
    }

    fn app_events(&mut self) {
        while let Some(event) = self.app.poll_event().expect("a client in order") {
            match event {
                Event::Request { key, params, .. } => {
                    let n: usize = params.get_str("N").unwrap().parse().unwrap();
                    self.requests[n].app = Some(key);
                    self.app_keys.insert(key.id(), n);
                    self.came_by_id.insert(key.id(), n);
                }
                Event::Readable { key, input } => {
                    let n = self.app_keys[&key.id()];
                    let mut request = self.app.request(key).unwrap();
                    while let Poll::Ready(Some(bytes)) = request.read(input, usize::MAX) {
                        let body = &mut self.requests[n].body[input as usize];
                        let stream = if input == Input::Stdin { STDIN } else { DATA };
                        assert!(bytes == patterned(stream, n, body.came, bytes.len()));
                        body.came += bytes.len();
                        assert!(body.came <= body.given);
                    }
                }
                Event::Writable { .. } | Event::Aborted { .. } => {}
            }
        }
    }

    /// A request that the application has and has not ended.
    fn at_app(&mut self) -> Option<(usize, RequestKey)> {
        let n = self.some(|req| req.app.is_some() && req.ended.is_none())?;
        Some((n, self.requests[n].app?))
    }

    pub(super) fn app_writes(&mut self) {
        let Some((n, key)) = self.at_app() else { return };
        let output = self.input.below(2);
        let len = self.input.pick(&[1, 10, 300, 3_000]);
        let mut bytes =
            Bytes::from(patterned(STDOUT + output, n, self.requests[n].wrote[output], len));
        let to = [Output::Stdout, Output::Stderr][output];
        let Some(mut request) = self.app.request(key) else { return };
        if let Ok(taken) = request.write(to, &mut bytes) {
            self.requests[n].wrote[output] += taken;
        }
    }

    pub(super) fn app_ends(&mut self) {
        let Some((n, key)) = self.at_app() else { return };
        let Some(request) = self.app.request(key) else { return };
        let req = &mut self.requests[n];
        if req.wrote == [0; 2] && self.input.below(8) == 0 {
            request.reject(Rejection::Overloaded).unwrap();
            // The page of a refusal.
            req.ended = Some(Err(Rejection::Overloaded));
            return;
        }
        let status = u32::from(self.input.byte());
        request.finish(status).unwrap();
        req.ended = Some(Ok(status));
    }

    pub(super) fn app_sends(&mut self) {
        let most = self.input.pick(&[1, 9, 100, 1 << 20]);
        if self.app_over {
            return;
        }
        while let Some(mut queued) = self.app.poll_transmit() {
            let n = queued.remaining().min(most);
            let bytes = queued.copy_to_bytes(n);
            for byte in &bytes {
                self.app_out.push(*byte);
            }
            self.wire.from_app.extend(&bytes);
            if n == most {
                break;
            }
        }
        self.app_events();
        self.something_came();
    }

    pub(super) fn something_came(&mut self) {
        self.task |= std::mem::take(&mut self.wire.reading);
    }

    pub(super) fn more_room(&mut self) {
        self.wire.room += self.input.pick(&[1, 50, 1000, 1 << 20]);
        self.task |= std::mem::take(&mut self.wire.writing);
    }

    pub(super) fn stray(&mut self) {
        if self.app_over || !self.app_out.is_at_boundary() {
            return;
        }
        let record: &[u8] = self.input.pick(&[
            &[1, 11, 0, 0, 0, 8, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0],
            &[1, 6, 0xEE, 0xEE, 0, 3, 0, 0, 1, 2, 3],
            &[1, 3, 0xEE, 0xEE, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 77, 0, 1, 0, 0, 0, 0],
            &[1, 10, 0, 0, 0, 0, 0, 0],
        ]);
        self.seen.stray += 1;
        self.wire.from_app.extend(record);
        self.something_came();
    }

    pub(super) fn fault(&mut self) {
        match self.input.below(16) {
            _ if self.app_over => return,
            0 | 1 => self.wire.eof = true,
            2 => self.wire.read_error = Some(io::ErrorKind::ConnectionReset),
            3 => self.wire.read_error = Some(io::ErrorKind::Other),
            4 if self.app_out.is_at_boundary() => {
                self.garbage = Some(self.given_bytes + self.wire.from_app.len());
                self.wire.from_app.extend(GARBAGE);
            }
            5..=7 if self.wire.write_error.is_none() => {
                let kinds = [io::ErrorKind::BrokenPipe, io::ErrorKind::WriteZero];
                self.wire.write_error = Some(self.input.pick(&kinds));
                self.wire.room = 0;
                self.task |= std::mem::take(&mut self.wire.writing);
                return;
            }
            // This is rare, or most runs would be short.
            _ => return,
        }
        self.app_over = true;
        self.something_came();
    }
}
