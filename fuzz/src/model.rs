//! A simple model of what each request of a conversation was sent so far.

use std::collections::BTreeMap;

use fcgi_proto::{Input, Params, Role};

use crate::wire::{self, Part, Piece, Side, kind};

/// See the module.
pub struct Model {
    sender: Side,
    /// The types of its two streams.
    streams: [u8; 2],
    requests: BTreeMap<u16, Expected>,
}

#[derive(Default)]
struct Expected {
    params: Vec<u8>,
    params_ended: bool,
    streams: [Vec<u8>; 2],
    ended: [bool; 2],
    /// The streams that its role does not have: what comes on them is skipped.
    skipped: [bool; 2],
}

impl Model {
    /// Of what `sender` sends.
    pub fn new(sender: Side) -> Self {
        let streams = match sender {
            Side::Client => [kind::STDIN, kind::DATA],
            Side::Server => [kind::STDOUT, kind::STDERR],
        };
        Self { sender, streams, requests: BTreeMap::new() }
    }

    /// A request begins, under an id that no other request has now.
    pub fn begin(&mut self, id: u16) {
        self.requests.insert(id, Expected::default());
    }

    /// Takes bytes of a piece, and whether they end it.
    pub fn take(&mut self, piece: &Piece, bytes: &[u8], whole: bool) {
        match piece.part {
            Part::Content { whole: true } if piece.kind == kind::BEGIN && whole => {
                if self.sender == Side::Client {
                    self.begin(piece.id);
                }
            }
            Part::Content { .. } => {
                let Some(request) = self.requests.get_mut(&piece.id) else { return };
                if piece.kind == kind::PARAMS {
                    request.params.extend_from_slice(bytes);
                } else if let Some(i) = self.streams.iter().position(|kind| *kind == piece.kind)
                    && !request.skipped[i]
                {
                    request.streams[i].extend_from_slice(bytes);
                }
            }
            Part::Header { empty: true } if whole => {
                let Some(request) = self.requests.get_mut(&piece.id) else { return };
                if piece.kind == kind::PARAMS {
                    request.params_ended = true;
                } else if let Some(i) = self.streams.iter().position(|kind| *kind == piece.kind)
                    && !request.skipped[i]
                {
                    request.ended[i] = true;
                }
            }
            _ => {}
        }
    }

    /// A client's request has this role, which decides which streams it has.
    pub fn has_role(&mut self, id: u16, role: Role) {
        let request = self.requests.get_mut(&id).expect("a request of the model");
        for (i, input) in [Input::Stdin, Input::Data].into_iter().enumerate() {
            if !role.has_input(input) {
                request.skipped[i] = true;
                request.streams[i].clear();
                request.ended[i] = false;
            }
        }
    }

    /// These are the parameters that were sent.
    pub fn check_params(&self, id: u16, params: &Params) {
        let expected = &self.requests[&id];
        assert!(expected.params_ended);
        let pairs = wire::pairs(&expected.params).expect("whole pairs");
        assert!(
            params.iter().eq(pairs.iter().map(|(name, value)| (&name[..], &value[..]))),
            "parameters"
        );
    }

    /// These bytes of a stream come next.
    pub fn check_read(&mut self, id: u16, stream: usize, bytes: &[u8]) {
        let expected = self.requests.get_mut(&id).expect("a request of the model");
        let queue = &mut expected.streams[stream];
        assert!(queue.starts_with(bytes), "other bytes than came, or more");
        queue.drain(..bytes.len());
    }

    /// Checks that everything was read, and no end is missing.
    pub fn check_all_read(&self, id: u16, ended: [bool; 2]) {
        let expected = &self.requests[&id];
        assert!(expected.streams.iter().all(Vec::is_empty), "bytes are missing");
        for (ended, end) in ended.iter().zip(expected.ended) {
            assert!(*ended || !end, "the end of a stream is missing");
        }
    }
}
