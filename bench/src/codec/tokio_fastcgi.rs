//! The codec of the `tokio-fastcgi` crate, called through its server's request loop.

use std::io::{Cursor, Read as _};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use ::tokio_fastcgi::{RequestResult, Requests};
use anyhow::{Context as _, Result, bail};
use tokio::io::sink;

use super::subject::{Codec, Seen, Sent};
use crate::sample::Request;
use crate::wire::{self, put_record};

/// A scratch buffer to read a body with, the small request that an answer needs before it can
/// be written, and the bytes of that answer.
pub(super) struct TokioFastcgi {
    scratch: Box<[u8]>,
    asking: Vec<u8>,
    answer: Vec<u8>,
}

impl Default for TokioFastcgi {
    fn default() -> TokioFastcgi {
        let mut asking = Vec::new();
        put_record(&mut asking, wire::BEGIN_REQUEST, wire::ID, &wire::BEGIN_BODY);
        put_record(&mut asking, wire::PARAMS, wire::ID, &[]);
        put_record(&mut asking, wire::STDIN, wire::ID, &[]);
        TokioFastcgi { scratch: vec![0; 1 << 16].into(), asking, answer: Vec::new() }
    }
}

impl Codec for TokioFastcgi {
    const NAME: &'static str = "tokio-fastcgi";
    const SERVER_ONLY: bool = true;

    fn decode<S: Seen>(&mut self, wire: &[u8], seen: &mut S) -> Result<()> {
        let mut requests = Requests::new(Cursor::new(wire), sink(), 1, 1);
        let request = ready(requests.next())??.context("no request came out")?;
        for (name, value) in request.params_iter().context("no parameters")? {
            seen.param(name.as_bytes(), value);
        }
        let mut stdin = request.get_stdin();
        loop {
            match stdin.read(&mut self.scratch)? {
                0 => return Ok(()),
                n => seen.body(&self.scratch[..n]),
            }
        }
    }

    fn encode<S: Sent>(&mut self, request: &Request, sent: &mut S) -> Result<()> {
        self.answer.clear();
        let mut requests = Requests::new(Cursor::new(&self.asking), &mut self.answer, 1, 1);
        let asked = ready(requests.next())??.context("no request came out")?;
        let answering = asked.process(|asked| async move {
            match asked.get_stdout().write(&request.body).await {
                Ok(_) => RequestResult::Complete(0),
                Err(_) => RequestResult::Overloaded,
            }
        });
        ready(answering)??;
        drop(requests);
        sent.bytes(&self.answer);
        Ok(())
    }
}

/// The output of a future that never has to wait: all of its IO is in memory.
fn ready<F: Future>(future: F) -> Result<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => bail!("it waits, though all its input is there"),
    }
}
