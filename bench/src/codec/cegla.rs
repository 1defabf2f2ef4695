//! The codec of the `cegla-fcgi` crate: records, and name-value pairs from a reader.

use std::io::Cursor;

use anyhow::Result;
use bytes::BytesMut;
use cegla_fcgi::protocol::codec::{Decoder, Encoder};
use cegla_fcgi::protocol::name_value_pair::NameValuePair;
use cegla_fcgi::protocol::record::Record;
use tokio_util::codec::{Decoder as _, Encoder as _};

use super::subject::{Codec, Seen, Sent};
use crate::sample::Request;
use crate::wire;

/// Its decoder, with the one buffer that a framed reader or writer would keep.
#[derive(Default)]
pub(super) struct Cegla {
    decoder: Decoder,
    buffer: BytesMut,
}

impl Codec for Cegla {
    const NAME: &'static str = "cegla-fcgi";

    fn decode<S: Seen>(&mut self, wire: &[u8], seen: &mut S) -> Result<()> {
        self.buffer.clear();
        self.buffer.extend_from_slice(wire);
        // Like its own server, gathers the contents of PARAMS, then parses them as a whole.
        let mut pairs = Vec::new();
        while let Some(record) = self.decoder.decode(&mut self.buffer)? {
            match record.record_type {
                wire::PARAMS if record.content.is_empty() => {
                    let mut reader = Cursor::new(&pairs);
                    while let Some(pair) = NameValuePair::decode(&mut reader)? {
                        seen.param(&pair.name, &pair.value);
                    }
                }
                wire::PARAMS => pairs.extend_from_slice(&record.content),
                wire::STDIN => seen.body(&record.content),
                _ => {}
            }
        }
        Ok(())
    }

    fn encode<S: Sent>(&mut self, request: &Request, sent: &mut S) -> Result<()> {
        let mut pairs = Vec::new();
        for (name, value) in &request.params {
            pairs.extend_from_slice(&NameValuePair::from_slices(name, value).encode());
        }
        self.buffer.clear();
        let mut put =
            |kind, content| Encoder.encode(Record::new(kind, wire::ID, content), &mut self.buffer);
        put(wire::BEGIN_REQUEST, wire::BEGIN_BODY.to_vec())?;
        put(wire::PARAMS, pairs)?;
        put(wire::PARAMS, Vec::new())?;
        for chunk in request.body.chunks(wire::FULL_RECORD) {
            put(wire::STDIN, chunk.to_vec())?;
        }
        put(wire::STDIN, Vec::new())?;
        sent.bytes(&self.buffer);
        Ok(())
    }
}
