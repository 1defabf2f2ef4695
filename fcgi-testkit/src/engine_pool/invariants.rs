//! What must hold after each step, and at the end.

use std::time::Duration;

use fcgi_engine::pool::Pooled;

use super::{Model, Seen, Stage, adapter::Who, ms};

impl Model {
    /// Nobody is left who was woken: nothing may be overdue.
    pub(super) fn check(&mut self) {
        let now = self.fake.now();
        let (mut active, mut waiting) = (0, 0);
        for at in 0..self.callers.len() {
            let Some(caller) = &mut self.callers[at] else { continue };
            let wait = |who: &mut Option<Who>| *who = Some(Who::Caller(at));
            match caller.stage {
                Stage::Queued => {
                    assert!(caller.lease.poll_ready(false, wait).is_pending(), "a lost wake-up");
                    let end = self.settings.limits.wait_timeout;
                    let end = end.and_then(|limit| caller.lease.since().checked_add(limit));
                    assert!(end.is_none_or(|end| end > now), "waits too long");
                    assert!(!self.closed, "waits at a closed pool");
                    waiting += 1;
                }
                Stage::Waits => {
                    assert!(caller.lease.poll_open(wait).is_pending(), "a lost wake-up");
                    active += 1;
                }
                _ => active += 1,
            }
        }
        let stats = self.desk.stats();
        assert_eq!((stats.active, stats.waiting), (active, waiting));
        self.check_connections(stats.idle);
    }

    fn check_connections(&self, idle: usize) {
        let world = self.fake.world();
        let limits = &self.settings.limits;
        let at_rest =
            world.connections.iter().filter(|connection| connection.open && connection.leases == 0);
        let at_rest: Vec<_> = at_rest.collect();
        assert_eq!(at_rest.len(), idle, "not all that are idle are open, or the other way round");
        assert!(idle <= limits.idle && (idle == 0 || !self.closed));
        for connection in at_rest {
            assert!(self.settings.keep_conn || connection.shared, "kept unasked");
            assert!(world.now - connection.used < limits.idle_timeout, "idle for too long");
            let age = world.now - connection.opened;
            assert!(limits.age.is_none_or(|most| age < most), "too old");
            let most = limits.requests_per_connection.unwrap_or(u64::MAX);
            assert!(connection.carried < most, "worn out");
        }
    }

    /// Everybody leaves, and time passes.
    pub(super) fn end(mut self) -> Seen {
        self.settle();
        for at in 0..self.callers.len() {
            self.gone(at, self.is_reusable(at));
        }
        self.settle();
        let idle = self.desk.stats().idle;
        self.fake.world().now += ms(1000);
        if self.settings.limits.idle_timeout == Duration::MAX {
            self.closed = true;
            self.desk.close();
        }
        self.settle();
        self.seen(|seen| seen.expired += idle);
        let stats = self.desk.stats();
        assert_eq!((stats.connections, stats.active, stats.waiting), (0, 0, 0));
        let world = self.fake.world();
        for connection in &world.connections {
            assert!(!connection.open, "left open");
            assert_eq!(connection.handles.strong_count(), 0, "a handle is left");
        }
        world.seen
    }
}
