//! Who looks at the pool: those who were woken, and those whose time has come.

use std::task::Poll;

use fcgi_engine::{
    Error,
    pool::{Open, Place},
};

use super::{
    Model, Stage,
    adapter::{Own, Shared, Who},
};

impl Model {
    /// Everybody who was woken, or whose time has come, looks, until nobody is left.
    pub(super) fn settle(&mut self) {
        for rounds in 0.. {
            assert!(rounds < 10_000, "somebody looks for ever");
            let now = self.fake.world().now;
            let woken = self.fake.world().woken.pop_first();
            match woken {
                Some(Who::Caller(at)) => self.look(at),
                Some(Who::Reaper) => self.reap(),
                Some(Who::Reentered) => {}
                None if self.reaper.is_some_and(|until| until <= now) => self.reap(),
                None => break,
            }
        }
        self.check();
    }

    fn reap(&mut self) {
        if !self.fake.world().spawned {
            return;
        }
        let start = self.fake.world().start;
        self.fake.world().spawned = false;
        self.reaper = self.desk.reap(Who::Reaper).map(|until| until - start);
        let mut world = self.fake.world();
        let now = world.now;
        world.spawned |= self.reaper.is_some();
        assert!(self.reaper.is_none_or(|until| until > now), "it would look for ever");
    }

    pub(super) fn look(&mut self, at: usize) {
        let Some(caller) = &mut self.callers[at] else { return };
        let wait = |who: &mut Option<Who>| *who = Some(Who::Caller(at));
        if matches!(caller.stage, Stage::Queued) {
            match caller.lease.poll_ready(false, wait) {
                Poll::Pending => return,
                Poll::Ready(Ok(true)) => {
                    (caller.stage, caller.fresh) = (Stage::Waits, true);
                    let mut world = self.fake.world();
                    world.check_room();
                    world.opening += 1;
                }
                Poll::Ready(Ok(false)) => return self.granted(at),
                Poll::Ready(Err(error)) => return self.turned_away(at, &error),
            }
        }
        let Some(caller) = &mut self.callers[at] else { return };
        if !matches!(caller.stage, Stage::Waits) {
            return;
        }
        match caller.lease.poll_open(wait) {
            Poll::Pending => self.seen(|seen| seen.waited_for_values += 1),
            Poll::Ready(Ok(Open::Ask(asking))) => caller.stage = Stage::Asks(asking),
            Poll::Ready(Ok(Open::Own)) => caller.stage = Stage::Opens(false),
            Poll::Ready(Ok(Open::Shared(requests))) => {
                assert!(requests > 1 && requests <= self.settings.multiplex);
                caller.stage = Stage::Opens(true);
            }
            Poll::Ready(Err(_)) => self.gone(at, false),
        }
    }

    /// A caller has an open connection.
    fn granted(&mut self, at: usize) {
        let Some(caller) = &mut self.callers[at] else { return };
        let Some(Place::Own(Own(number, _)) | Place::Shared(Shared { number, .. })) =
            caller.lease.place()
        else {
            panic!("ready without a connection");
        };
        let number = *number;
        (caller.stage, caller.fresh) = (Stage::Has(number), false);
        let mut world = self.fake.world();
        let connection = &mut world.connections[number];
        assert!(connection.open && !connection.dead, "a dead connection was handed on");
        connection.leases += 1;
        connection.carried += 1;
        let most = if connection.shared { self.settings.multiplex } else { 1 };
        assert!(connection.leases <= most, "more requests at once than there may be");
        let joined = connection.leases > 1;
        world.seen.joined += usize::from(joined);
        world.seen.reused += usize::from(!joined);
    }

    fn turned_away(&mut self, at: usize, error: &Error) {
        match error {
            Error::Timeout { limit, .. } => {
                assert_eq!(Some(*limit), self.settings.limits.wait_timeout);
                self.seen(|seen| seen.timed_out += 1);
            }
            Error::PoolClosed { .. } => {
                assert!(self.closed, "refused by an open pool");
                self.seen(|seen| seen.refused += 1);
            }
            error => panic!("{error}"),
        }
        self.gone(at, false);
    }
}
