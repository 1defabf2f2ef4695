//! The requests of a connection whose handlers have not returned.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    time::Instant,
};

use fcgi_proto::{Input, Params, Rejection, RequestKey, Role, server::AbortReason};

use super::tally::Count;
use crate::{Phase, observe::RequestLog};

/// What waits on one request: a waker for each event, or one condition variable for all of them.
pub trait Waiters: Default {
    /// Whether the adapter runs the handler of a request at once. Then what came behind a request
    /// whose input is complete is looked at when that handler has run, so that quick requests that
    /// came together are taken one after the other, and none of them needs a place beside others.
    /// It is not so for a connection that takes one request at a time.
    const AT_ONCE: bool = false;

    /// What is to be woken. That runs code of others, which may use this connection: an adapter
    /// does it once its lock is released.
    type Woken: Default + std::fmt::Debug;

    /// Notes what waits for this event, to be woken. Returns whether anything does, if the adapter
    /// runs handlers [at once](Self::AT_ONCE).
    fn wake(&mut self, what: Awaited, woken: &mut Self::Woken) -> bool;

    /// Notes everything that waits: the request has ended, or should.
    fn wake_all(&mut self, woken: &mut Self::Woken);
}

/// An event to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// Bytes of a stream, or its end.
    Input(Input),
    /// Room to write.
    Output,
    /// Everything handed to the socket.
    Flush,
}

/// One request, from its event to its handler's return.
#[derive(Debug)]
pub(super) struct Active<W> {
    pub(super) waiters: W,
    /// Why its handler should return.
    pub(super) stop: Option<Stop>,
    pub(super) rejection: Option<Rejection>,
    /// Its handler is running.
    pub(super) started: bool,
    /// It was ended before its handler returned.
    pub(super) ended: bool,
    /// Its handler must be dropped too.
    pub(super) over: bool,
    /// When `stop`, `ended` or `over` will next be set.
    pub(super) stop_at: Option<Instant>,
    /// What its handler awaits on STDIN and on DATA.
    pub(super) inputs: [InputWait; 2],
    /// Somebody waits for a flush.
    pub(super) flushing: bool,
    pub(super) role: Role,
    /// Its span, if anybody wants it and its adapter has opened it.
    pub(super) log: Option<Box<RequestLog>>,
    /// When it began, if anybody wants to know.
    pub(super) begun: Option<Instant>,
    /// Bytes of its streams.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// What its handler has left of them.
    pub(super) params: Params,
}

/// Whether a handler waits for more of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum InputWait {
    No,
    /// It waited when it last asked, until this time at most.
    Until(Instant),
    /// That wait is over. If the handler asks again, its request fails; it may be waiting for
    /// something else by now.
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
    #[inline]
    pub(super) fn new(role: Role, begun: Option<Instant>, stop_at: Option<Instant>) -> Self {
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
            role,
            log: None,
            begun,
            sent: 0,
            received: 0,
            params: Params::new(),
        }
    }

    pub(super) fn input(&mut self, input: Input) -> &mut InputWait {
        &mut self.inputs[usize::from(input == Input::Data)]
    }

    /// Makes its handler stop.
    pub(super) fn stop(&mut self, why: Stop, woken: &mut W::Woken) {
        self.stop.get_or_insert(why);
        self.waiters.wake_all(woken);
    }
}

/// The first request needs no allocation; others are in a map.
#[derive(Debug)]
pub(super) struct Requests<W> {
    first: Option<(RequestKey, Active<W>)>,
    /// `None` while there are none.
    #[expect(clippy::box_collection, reason = "most connections never have one")]
    rest: Option<Box<HashMap<RequestKey, Active<W>, Secret>>>,
    /// In the whole server's count.
    count: Count,
}

impl<W> Requests<W> {
    pub(super) fn new(count: Count) -> Self {
        Self { first: None, rest: None, count }
    }

    /// Counts a request that begins; false if the server has too many. It must be added.
    #[inline]
    pub(super) fn begin(&mut self) -> bool {
        self.count.begin()
    }

    /// Adds a request that was [counted](Self::begin).
    #[inline]
    pub(super) fn add(&mut self, key: RequestKey, active: impl FnOnce() -> Active<W>) {
        if self.first.is_none() {
            // This makes it in its place.
            self.first.get_or_insert_with(|| (key, active()));
        } else {
            self.rest.get_or_insert_default().insert(key, active());
        }
    }

    /// Whether this is the first request, whose handler an adapter runs by itself.
    #[inline]
    pub(super) fn is_first(&self, key: RequestKey) -> bool {
        self.first.as_ref().is_some_and(|(first, _)| *first == key)
    }

    #[inline]
    pub(super) fn get(&self, key: RequestKey) -> Option<&Active<W>> {
        match &self.first {
            Some((first, active)) if *first == key => Some(active),
            _ => self.rest.as_ref()?.get(&key),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: RequestKey) -> Option<&mut Active<W>> {
        match &mut self.first {
            Some((first, active)) if *first == key => Some(active),
            _ => self.rest.as_mut()?.get_mut(&key),
        }
    }

    /// Drops a request in place.
    #[inline]
    pub(super) fn forget(&mut self, key: RequestKey) {
        if self.first.as_ref().is_some_and(|(first, _)| *first == key) {
            self.first = None;
            self.count.end();
        } else if let Some(rest) = &mut self.rest {
            if rest.remove(&key).is_some() {
                self.count.end();
            }
            if rest.is_empty() {
                self.rest = None;
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (RequestKey, &Active<W>)> {
        let first = self.first.iter().map(|(key, active)| (*key, active));
        first.chain(
            self.rest.iter().flat_map(|rest| rest.iter()).map(|(key, active)| (*key, active)),
        )
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (RequestKey, &mut Active<W>)> {
        let first = self.first.iter_mut().map(|(key, active)| (*key, active));
        let rest = self.rest.iter_mut().flat_map(|rest| rest.iter_mut());
        first.chain(rest.map(|(key, active)| (*key, active)))
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    pub(super) fn keys(&self) -> Vec<RequestKey> {
        self.iter().map(|(key, _)| key).collect()
    }

    /// Whether any request was not ended.
    #[inline]
    pub(super) fn any_live(&self) -> bool {
        !self.is_empty() && self.iter().any(|(_, active)| !active.ended)
    }
}

/// Hashes the number that a key has on its connection. Numbers are counted up, but the peer chooses
/// which requests go on, so the hash has a secret. One multiplication is enough: the map is never
/// larger than the limit of requests.
#[derive(Clone, Debug)]
struct Secret(u64);

impl Default for Secret {
    fn default() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }
}

impl BuildHasher for Secret {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// Multiplies, and folds the upper half of the product over the lower.
#[derive(Debug)]
struct Folded(u64);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        let product = u128::from(self.0 ^ n) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
