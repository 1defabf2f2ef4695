//! A test handler's actions as data, so that they are written once for all async adapters and once
//! for the blocking one.

use std::sync::{Arc, atomic::AtomicUsize};

use bytes::Bytes;
use fcgi_proto::{Input, Params, Rejection, Role, server::AbortReason};

use super::{Gate, signal::Shared};

/// One action of a handler. A stream's error ends the handler.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes to STDOUT.
    Stdout(Bytes),
    /// Writes to STDERR.
    Stderr(Bytes),
    /// Writes a parameter's value to STDOUT, or nothing if it is not set.
    Param(&'static str),
    /// Writes the role, `keep` or `close`, and every parameter as `NAME=VALUE`, separated by
    /// spaces.
    Describe,
    /// Waits until what was written has been sent.
    Flush,
    /// Copies STDIN to STDOUT, chunk by chunk.
    Stdin,
    /// Copies DATA to STDOUT, chunk by chunk.
    Data,
    /// Copies a stream to STDOUT, each piece through a new handle: by `read` into a buffer of the
    /// next size, or as a chunk if that is 0. After the last size the first follows.
    Handles(Input, &'static [usize]),
    /// Reads all of STDIN, of at most this many bytes. Its length becomes the app status, or 99 if
    /// there is more.
    Count(usize),
    /// Writes a chunk to STDOUT this many times, and adds each to the counter once it is taken.
    Flood(Bytes, usize, Arc<AtomicUsize>),
    /// Waits until the test opens the gate. It flushes first if nothing else would send what the
    /// handler wrote.
    Pass(Gate),
    /// Waits until it is stopped: a future waits for ever, a thread until it is cancelled.
    Stuck,
    /// Waits until the request is cancelled, and records that as an event.
    Cancelled,
    /// Reads STDIN and writes STDOUT; their errors become events and do not end the handler.
    TryStreams,
    /// Lets others run.
    Yield,
    /// Panics.
    Panic,
    /// Fails, like a handler whose own work went wrong.
    Fail,
    /// Refuses the request.
    Reject(Rejection),
    /// Sets the app status.
    Exit(u32),
}

impl Step {
    /// Writes text to STDOUT.
    pub(crate) const fn say(text: &'static str) -> Self {
        Self::Stdout(Bytes::from_static(text.as_bytes()))
    }
}

/// The actions of all handlers of a server.
#[derive(Clone, Debug)]
pub struct Script {
    default: Vec<Step>,
    cases: Vec<(&'static str, &'static str, Vec<Step>)>,
    probe: Probe,
}

impl Script {
    /// Uses these steps for every request.
    #[must_use]
    pub fn new(steps: impl Into<Vec<Step>>) -> Self {
        Self { default: steps.into(), cases: Vec::new(), probe: Probe::default() }
    }

    /// Uses other steps for a request with this parameter.
    #[must_use]
    pub fn when(
        mut self,
        name: &'static str,
        value: &'static str,
        steps: impl Into<Vec<Step>>,
    ) -> Self {
        self.cases.push((name, value, steps.into()));
        self
    }

    /// The steps for a request with these parameters.
    #[must_use]
    pub fn steps(&self, params: &Params) -> &[Step] {
        let case = self.cases.iter().find(|(name, value, _)| params.get_str(name) == Some(value));
        case.map_or(&self.default, |(_, _, steps)| steps)
    }

    /// The output of [`Step::Describe`].
    #[must_use]
    pub fn describe(role: Role, keep_conn: bool, params: &Params) -> Vec<u8> {
        let kept = if keep_conn { "keep" } else { "close" };
        let mut text = format!("{role:?} {kept}").into_bytes();
        for (name, value) in params {
            text.extend([b" ", name, b"=", value].concat());
        }
        text
    }

    /// A probe, which observes the handlers' events.
    #[must_use]
    pub fn probe(&self) -> Probe {
        self.probe.clone()
    }
}

/// An event in a handler that the peer can't see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It noticed its cancellation.
    Cancelled(AbortReason),
    /// A stream's error.
    Failed(String),
    /// It returned or was dropped.
    Ended,
}

/// The events of a server's handlers, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Probe(Arc<Shared<Vec<Event>>>);

/// Records that a handler has ended when it is dropped.
#[derive(Debug)]
pub struct EndsOnDrop(Probe);

impl Probe {
    /// A handler calls this when it starts, and keeps the result to its end.
    #[must_use]
    pub fn begin(&self) -> EndsOnDrop {
        EndsOnDrop(self.clone())
    }

    /// A handler calls this.
    pub fn note(&self, event: Event) {
        self.0.change(|events| events.push(event));
    }

    /// The number of handlers that have ended.
    pub(crate) fn ended(&self) -> usize {
        self.0.change(|events| events.iter().filter(|event| **event == Event::Ended).count())
    }

    /// Waits until this many handlers have ended.
    pub(crate) fn wait_ended(&self, n: usize) {
        let ended = self.0.wait(|events| {
            (events.iter().filter(|event| **event == Event::Ended).count() >= n).then_some(())
        });
        assert!(ended.is_some(), "the handler goes on");
    }

    /// Waits for an event.
    pub(crate) fn wait(&self, event: &Event) {
        let came = self.0.wait(|events| events.contains(event).then_some(()));
        assert!(came.is_some(), "no {event:?}, but {:?}", self.events());
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.change(|events| events.clone())
    }
}

impl Drop for EndsOnDrop {
    fn drop(&mut self) {
        self.0.note(Event::Ended);
    }
}
