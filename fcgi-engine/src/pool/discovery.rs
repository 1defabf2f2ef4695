//! What a pool knows of its application's capacity, and who asks for it.

use std::{collections::HashMap, task::Poll};

use fcgi_proto::{Values, pool::Ticket};

pub(super) enum Discovery<W> {
    Unknown,
    /// One caller asks; the others that are to open a connection wait.
    Asking(HashMap<Ticket, Option<W>>),
    Known(Values),
}

impl<W> Discovery<W> {
    pub(super) fn values(&self) -> Option<Values> {
        match self {
            Self::Known(values) => Some(*values),
            _ => None,
        }
    }

    /// Ready once there is nothing to wait for: true if the caller is to ask.
    pub(super) fn poll(&mut self, ticket: Ticket, wait: impl FnOnce(&mut Option<W>)) -> Poll<bool> {
        match self {
            Self::Known(_) => Poll::Ready(false),
            Self::Asking(waiting) => {
                wait(waiting.entry(ticket).or_default());
                Poll::Pending
            }
            Self::Unknown => {
                *self = Self::Asking(HashMap::new());
                Poll::Ready(true)
            }
        }
    }

    /// The question was answered, or with `None` it failed; gives those who have waited for that.
    pub(super) fn end(&mut self, values: Option<Values>) -> impl Iterator<Item = W> + use<W> {
        let next = values.or(self.values()).map_or(Self::Unknown, Self::Known);
        let waiting = match std::mem::replace(self, next) {
            Self::Asking(waiting) => waiting,
            _ => HashMap::new(),
        };
        waiting.into_values().flatten()
    }

    /// A caller waits no more.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        match self {
            Self::Asking(waiting) => waiting.remove(&ticket)?,
            _ => None,
        }
    }

    /// The application does not multiplex, whatever it said.
    pub(super) fn deny(&mut self) {
        if let Self::Known(values) = self {
            values.mpxs_conns = Some(false);
        }
    }
}
