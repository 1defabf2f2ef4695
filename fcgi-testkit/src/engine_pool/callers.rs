//! The callers: they arrive, leave, begin requests and fail.

use std::{io, sync::Arc};

use fcgi_engine::{
    Error,
    client::Request,
    pool::{Lease, Place, Reached, Sending},
};
use fcgi_proto::{Rejection, Values};

use super::{
    Caller, FakeBody, Input, Model, Stage,
    adapter::{Connection, Own, Shared, Who},
    ms,
};

impl Model {
    pub(super) fn arrive(&mut self, input: &mut Input<'_>) {
        let lease = match Lease::acquire(&self.desk) {
            Ok(lease) => lease,
            Err(Error::PoolFull { waiting, .. }) => {
                assert!(waiting >= self.settings.limits.waiting, "there was room");
                return self.seen(|seen| seen.full += 1);
            }
            Err(Error::PoolClosed { .. }) => {
                assert!(self.closed);
                return self.seen(|seen| seen.refused += 1);
            }
            Err(error) => panic!("{error}"),
        };
        let (once, keep) = (input.below(3) == 0, input.below(4) > 0);
        let request = Request::responder().keep_conn(keep).stdin(FakeBody { once });
        let keep = keep && self.settings.keep_conn;
        let sending = Sending::new(request, &self.settings);
        let (stage, tries) = (Stage::Queued, 0);
        let caller = Caller { lease, sending, stage, once, keep, tries, fresh: false };
        self.callers.push(Some(caller));
        // It looks at once.
        self.fake.world().woken.insert(Who::Caller(self.callers.len() - 1));
    }

    /// One of the existing callers, if there are any.
    fn any(&self, input: &mut Input<'_>) -> Option<usize> {
        let there = |(at, caller): (usize, &Option<_>)| caller.is_some().then_some(at);
        let all: Vec<_> = self.callers.iter().enumerate().filter_map(there).collect();
        (!all.is_empty()).then(|| input.pick(&all))
    }

    pub(super) fn leave(&mut self, input: &mut Input<'_>) {
        let Some(at) = self.any(input) else { return };
        self.gone(at, false);
    }

    /// A caller drops what it has, in any state.
    pub(super) fn gone(&mut self, at: usize, reusable: bool) {
        let Some(Caller { lease, stage, .. }) = self.callers[at].take() else { return };
        self.unopened(&stage);
        if let Stage::Has(number) | Stage::Sent(number) = stage {
            let mut world = self.fake.world();
            let now = world.now;
            let connection = &mut world.connections[number];
            connection.leases -= 1;
            if reusable {
                connection.used = now;
            }
            if matches!(stage, Stage::Has(_)) {
                connection.carried -= 1;
            }
        }
        match stage {
            Stage::Sent(_) => lease.finish(reusable),
            _ => drop(lease),
        }
    }

    /// A connection that was not opened no longer counts.
    fn unopened(&self, stage: &Stage) {
        if matches!(stage, Stage::Waits | Stage::Asks(_) | Stage::Opens(_)) {
            self.fake.world().opening -= 1;
        }
    }

    pub(super) fn pass(&mut self, input: &mut Input<'_>) {
        let by = input.pick(&[0, 1, 1, 3, 7, 20, 60]);
        self.fake.world().now += ms(by);
    }

    pub(super) fn peer_closes(&mut self, input: &mut Input<'_>) {
        let connections = self.fake.world().connections.len();
        if connections == 0 {
            return;
        }
        let number = connections - 1 - input.below(connections.min(8));
        let shared = {
            let connection = &mut self.fake.world().connections[number];
            connection.dead = true;
            connection.shared
        };
        if let (true, Some(id)) = (shared, self.ids[number]) {
            self.desk.handle_closed(id);
        }
    }

    /// An event that a caller waits for, other than from the pool, happens.
    pub(super) fn go_on(&mut self, input: &mut Input<'_>) {
        let Some(at) = self.any(input) else { return };
        let Some(caller) = &mut self.callers[at] else { return };
        match &caller.stage {
            Stage::Queued | Stage::Waits => {}
            Stage::Asks(_) => {
                let values = Values {
                    max_conns: input.pick(&[None, None, Some(1), Some(2), Some(100)]),
                    max_reqs: input.pick(&[None, Some(1), Some(2), Some(100)]),
                    mpxs_conns: input.pick(&[None, Some(false), Some(true), Some(true)]),
                };
                let asked = std::mem::replace(&mut caller.stage, Stage::Waits);
                if let (Stage::Asks(asking), true) = (asked, input.below(4) > 0) {
                    asking.answer(Ok(values)).expect("an answer");
                    assert!(self.desk.values().is_some());
                    self.look(at);
                } else {
                    // It failed, and so does the caller; another one asks.
                    self.gone(at, false);
                }
            }
            Stage::Opens(_) if input.below(6) == 0 => self.gone(at, false),
            &Stage::Opens(shared) => self.open(at, shared),
            Stage::Has(_) => self.begin(at, input.below(8) == 0),
            Stage::Sent(_) => match input.below(4) {
                0 => self.fail(at, input),
                1 => self.gone(at, false),
                _ => self.gone(at, self.is_reusable(at)),
            },
        }
    }

    /// Whether the connection can carry another request, which the adapter knows.
    pub(super) fn is_reusable(&self, at: usize) -> bool {
        let Some(Caller { stage: Stage::Sent(number), keep, .. }) = &self.callers[at] else {
            return false;
        };
        let connection = &self.fake.world().connections[*number];
        !connection.dead && (*keep || connection.shared)
    }

    fn open(&mut self, at: usize, shared: bool) {
        let Some(caller) = &mut self.callers[at] else { return };
        let handle = Arc::new(());
        let number = {
            let mut world = self.fake.world();
            world.opening -= 1;
            let (opened, carried) = (world.now, 1);
            world.check_room();
            world.seen.opened += 1;
            world.connections.push(Connection {
                shared,
                open: true,
                dead: false,
                closing: false,
                leases: 1,
                requests: 0,
                carried,
                opened,
                used: opened,
                handles: Arc::downgrade(&handle),
            });
            world.connections.len() - 1
        };
        let place = if shared {
            Place::Shared(Shared { number, fake: self.fake.clone(), _handle: handle })
        } else {
            Place::Own(Own(number, self.fake.clone()))
        };
        caller.stage = Stage::Has(number);
        self.ids.push(caller.lease.connected(place));
        assert_eq!(self.ids.len() - 1, number);
    }

    fn begin(&mut self, at: usize, in_vain: bool) {
        let Some(caller) = &mut self.callers[at] else { return };
        let Stage::Has(number) = caller.stage else { return };
        let (shared, open) = {
            let connection = &self.fake.world().connections[number];
            (connection.shared, connection.open)
        };
        let (begin, bodies) = caller.lease.start(&mut caller.sending);
        assert_eq!(begin.keep_conn, caller.keep || shared, "FCGI_KEEP_CONN");
        caller.tries += 1;
        if !open || in_vain && shared {
            // It has just ended.
            return self.judge(at, |address| Error::Closed { address }, Reached::Nothing);
        }
        assert_eq!(bodies.take().unwrap()[0].once, caller.once, "a body that was read before");
        caller.lease.begun(self.key);
        caller.stage = Stage::Sent(number);
        self.fake.world().connections[number].requests += 1;
    }

    fn fail(&mut self, at: usize, input: &mut Input<'_>) {
        let reached = input.pick(&[Reached::Begun, Reached::Begun, Reached::Answered]);
        match input.below(4) {
            0 => self.judge(at, |address| Error::Truncated { address }, reached),
            1 => {
                let source = || io::ErrorKind::ConnectionReset.into();
                let io = |address| Error::Io { address, doing: "read from", source: source() };
                self.judge(at, io, reached);
            }
            2 => {
                let rejection = Rejection::CantMpxConn;
                self.judge(at, |address| Error::Rejected { address, rejection }, reached);
            }
            _ => {
                let rejection = Rejection::Overloaded;
                self.judge(at, |address| Error::Rejected { address, rejection }, reached);
            }
        }
    }

    fn judge(&mut self, at: usize, error: impl FnOnce(Arc<str>) -> Error, reached: Reached) {
        let Some(caller) = &mut self.callers[at] else { return };
        let (Stage::Has(number) | Stage::Sent(number)) = caller.stage else { return };
        let error = error(self.desk.name());
        let shared = self.fake.world().connections[number].shared;
        let again = match (&error, reached) {
            (Error::Closed { .. }, Reached::Nothing) => shared,
            (Error::Truncated { .. } | Error::Io { .. }, Reached::Begun) => !caller.fresh,
            (Error::Rejected { rejection: Rejection::CantMpxConn, .. }, _) => shared,
            _ => false,
        };
        let at_hand = !caller.once || reached == Reached::Nothing;
        let again = again && caller.tries < 3 && at_hand;
        let alone = matches!(error, Error::Rejected { .. });
        if again {
            self.fake.world().connections[number].leases -= 1;
        }
        match caller.lease.judge(&mut caller.sending, error, reached) {
            Ok(()) => {
                assert!(again, "sent again");
                caller.stage = Stage::Queued;
                if alone {
                    let mut world = self.fake.world();
                    let now = world.now;
                    world.connections[number].used = now;
                    drop(world);
                    assert_ne!(self.desk.values().and_then(|values| values.mpxs_conns), Some(true));
                    self.seen(|seen| seen.retried_alone += 1);
                } else {
                    self.seen(|seen| seen.retried += 1);
                }
                self.fake.world().woken.insert(Who::Caller(at));
            }
            Err(_) => {
                assert!(!again, "not sent again");
                self.seen(|seen| seen.failed += 1);
                self.gone(at, false);
            }
        }
    }
}
