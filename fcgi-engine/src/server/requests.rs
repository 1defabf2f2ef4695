//! The requests of a connection whose handlers have not returned.

use std::{collections::HashMap, time::Instant};

use fcgi_proto::{Input, Params, Rejection, RequestKey, server::AbortReason};

use super::tally::Counted;
use crate::{Phase, observe::RequestLog};

/// Who waits for what of one request: wakers, a slot for each thing; or a condition variable for
/// all of them.
pub trait Waiters: Default {
    /// Has whoever waits for this look again.
    fn wake(&mut self, what: Awaited);

    /// Has everybody look again: the request has ended, or should.
    fn wake_all(&mut self);
}

/// What somebody may wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// Bytes of a stream, or its end.
    Input(Input),
    /// Room to write.
    Output,
    /// That everything was handed to the socket.
    Flush,
}

/// One request, from its event to its handler's return.
#[derive(Debug)]
pub(super) struct Active<W> {
    pub(super) waiters: W,
    /// Why its handler should return.
    pub(super) stop: Option<Stop>,
    pub(super) rejection: Option<Rejection>,
    /// Its handler runs.
    pub(super) started: bool,
    /// It was ended without waiting for the handler.
    pub(super) ended: bool,
    /// Nor may its handler run on.
    pub(super) over: bool,
    /// When the next of these comes about.
    pub(super) stop_at: Option<Instant>,
    /// What its handler waits for of STDIN and of DATA.
    pub(super) inputs: [InputWait; 2],
    /// Somebody waits for a flush.
    pub(super) flushing: bool,
    _counted: Counted,
    pub(super) log: Option<RequestLog>,
    /// What its handler has left of them.
    pub(super) params: Params,
}

/// Whether a handler waits for more of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum InputWait {
    No,
    /// It did when it last asked, for so long at most.
    Until(Instant),
    /// That is over: if it asks again, its request fails. It may wait for something else by now.
    Late,
}

/// Why a handler should return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    Aborted(AbortReason),
    TimedOut(Phase),
}

impl InputWait {
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Until(at) => Some(at),
            Self::No | Self::Late => None,
        }
    }

    pub(super) fn is_late(self, now: Instant) -> bool {
        self.until().is_some_and(|at| at <= now)
    }
}

impl<W: Waiters> Active<W> {
    pub(super) fn new(counted: Counted, log: RequestLog, stop_at: Option<Instant>) -> Self {
        Self {
            waiters: W::default(),
            stop: None,
            rejection: None,
            started: false,
            ended: false,
            over: false,
            stop_at,
            inputs: [InputWait::No; 2],
            flushing: false,
            _counted: counted,
            log: Some(log),
            params: Params::new(),
        }
    }

    pub(super) fn input(&mut self, input: Input) -> &mut InputWait {
        &mut self.inputs[usize::from(input == Input::Data)]
    }

    /// Tells its handler to stop.
    pub(super) fn stop(&mut self, why: Stop) {
        self.stop.get_or_insert(why);
        self.waiters.wake_all();
    }
}

/// The first request needs no allocation; those beside it are in a map.
#[derive(Debug)]
pub(super) struct Requests<W> {
    first: Option<(RequestKey, Active<W>)>,
    rest: HashMap<RequestKey, Active<W>>,
}

impl<W> Requests<W> {
    pub(super) fn new() -> Self {
        Self { first: None, rest: HashMap::new() }
    }

    pub(super) fn add(&mut self, key: RequestKey, active: Active<W>) {
        if self.first.is_none() {
            self.first = Some((key, active));
        } else {
            self.rest.insert(key, active);
        }
    }

    #[inline]
    pub(super) fn get(&self, key: RequestKey) -> Option<&Active<W>> {
        match &self.first {
            Some((first, active)) if *first == key => Some(active),
            _ => self.rest.get(&key),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: RequestKey) -> Option<&mut Active<W>> {
        match &mut self.first {
            Some((first, active)) if *first == key => Some(active),
            _ => self.rest.get_mut(&key),
        }
    }

    /// Drops a request where it is.
    pub(super) fn forget(&mut self, key: RequestKey) {
        if self.first.as_ref().is_some_and(|(first, _)| *first == key) {
            self.first = None;
            return;
        }
        self.rest.remove(&key);
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = HashMap::new();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RequestKey, &Active<W>)> {
        let first = self.first.iter().map(|(key, active)| (*key, active));
        first.chain(self.rest.iter().map(|(key, active)| (*key, active)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (RequestKey, &mut Active<W>)> {
        let first = self.first.iter_mut().map(|(key, active)| (*key, active));
        first.chain(self.rest.iter_mut().map(|(key, active)| (*key, active)))
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(super) fn keys(&self) -> Vec<RequestKey> {
        self.iter().map(|(key, _)| key).collect()
    }

    /// Whether any was not ended.
    pub(super) fn any_live(&self) -> bool {
        self.iter().any(|(_, active)| !active.ended)
    }
}
