//! What a pool knows of its application's capacity, and which caller asks for it.

use std::{collections::HashMap, task::Poll};

use fcgi_proto::{Values, pool::Ticket};

use crate::Error;

pub(super) struct Discovery<W> {
    stage: Stage<W>,
    /// Those who waited for a query that failed, until they have seen its error: none of them sends
    /// the same query again.
    failed: HashMap<Ticket, Error>,
}

enum Stage<W> {
    Unknown,
    /// One caller asks; the others that have a connection to open wait.
    Asking(HashMap<Ticket, Option<W>>),
    Known(Values),
}

impl<W> Discovery<W> {
    pub(super) fn new() -> Self {
        Self { stage: Stage::Unknown, failed: HashMap::new() }
    }

    pub(super) fn values(&self) -> Option<Values> {
        match self.stage {
            Stage::Known(values) => Some(values),
            _ => None,
        }
    }

    /// Ready once there is nothing to wait for: true if the caller must ask; an error if the query
    /// that it waited for failed.
    pub(super) fn poll(
        &mut self,
        ticket: Ticket,
        wait: impl FnOnce(&mut Option<W>),
    ) -> Poll<Result<bool, Error>> {
        if let Some(error) = self.failed.remove(&ticket) {
            return Poll::Ready(Err(error));
        }
        match &mut self.stage {
            Stage::Known(_) => Poll::Ready(Ok(false)),
            Stage::Asking(waiting) => {
                wait(waiting.entry(ticket).or_default());
                Poll::Pending
            }
            Stage::Unknown => {
                self.stage = Stage::Asking(HashMap::new());
                Poll::Ready(Ok(true))
            }
        }
    }

    /// The query was answered, or given up with `None`. Returns those who waited for it.
    pub(super) fn end(&mut self, values: Option<Values>) -> impl Iterator<Item = W> + use<W> {
        self.stop(values).into_values().flatten()
    }

    /// The query failed for all who waited. Returns them.
    pub(super) fn fail(&mut self, error: &Error) -> impl Iterator<Item = W> + use<W> {
        let waiting = self.stop(None);
        self.failed.extend(waiting.keys().map(|ticket| (*ticket, error.again())));
        waiting.into_values().flatten()
    }

    fn stop(&mut self, values: Option<Values>) -> HashMap<Ticket, Option<W>> {
        let next = values.or(self.values()).map_or(Stage::Unknown, Stage::Known);
        match std::mem::replace(&mut self.stage, next) {
            Stage::Asking(waiting) => waiting,
            _ => HashMap::new(),
        }
    }

    /// A caller stops waiting.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        self.failed.remove(&ticket);
        match &mut self.stage {
            Stage::Asking(waiting) => waiting.remove(&ticket)?,
            _ => None,
        }
    }

    /// The application does not multiplex, whatever it reported.
    pub(super) fn deny(&mut self) {
        if let Stage::Known(values) = &mut self.stage {
            values.mpxs_conns = Some(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fcgi_proto::pool::{PoolLimits, PoolPolicy};

    use super::*;
    use crate::Phase;

    #[test]
    fn a_question_that_failed_holds_for_all_who_waited_and_for_nobody_else() {
        let mut policy = PoolPolicy::new(PoolLimits::new());
        let tickets: Vec<_> = (0..5).map(|_| policy.acquire(Duration::ZERO).unwrap()).collect();
        let mut discovery = Discovery::<usize>::new();
        let poll = |discovery: &mut Discovery<usize>, n: usize| {
            discovery.poll(tickets[n], |who| *who = Some(n))
        };
        assert!(matches!(poll(&mut discovery, 0), Poll::Ready(Ok(true))), "the first one asks");
        for n in 1..4 {
            assert!(poll(&mut discovery, n).is_pending());
        }
        // One of them leaves meanwhile.
        assert_eq!(discovery.leave(tickets[3]), Some(3));
        let (phase, limit) = (Phase::Connect, Duration::from_secs(10));
        let error = Error::Timeout { address: "unix:/app".into(), phase, limit };
        let mut woken: Vec<_> = discovery.fail(&error).collect();
        woken.sort_unstable();
        assert_eq!(woken, [1, 2]);
        for n in 1..3 {
            let Poll::Ready(Err(told)) = poll(&mut discovery, n) else { panic!("it asks again") };
            assert!(told.is_connect() && told.is_timeout(), "{told}");
        }
        assert!(matches!(poll(&mut discovery, 4), Poll::Ready(Ok(true))), "who comes later asks");
        // When a query is given up without an error, the next caller asks.
        assert!(poll(&mut discovery, 3).is_pending());
        assert_eq!(discovery.end(None).collect::<Vec<_>>(), [3]);
        assert!(matches!(poll(&mut discovery, 3), Poll::Ready(Ok(true))));
    }
}
