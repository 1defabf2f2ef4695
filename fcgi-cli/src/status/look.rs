//! One query of a pool: php-fpm's status page, and the kernel's queue.

use std::time::{Duration, Instant};

use fcgi_engine::text::{chain, escape};
use fcgi_tokio::{Address, Target, http::php_fpm::Status};

use crate::{
    ask::{self, Failed},
    budget::Budget,
    causes::{self, Cause},
    exit::Exit,
    sock_diag::{self, NoQueue, Queue},
};

/// The largest status page, in bytes: some 500 for each worker.
const MOST: usize = 16 << 20;

/// A pool, and where to request its status.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    /// Where its callers connect.
    pub(crate) address: Address,
    /// `pm.status_listen`, if that is used instead.
    pub(crate) status_address: Option<Address>,
    pub(crate) path: String,
}

impl Pool {
    fn asked(&self) -> &Address {
        self.status_address.as_ref().unwrap_or(&self.address)
    }

    /// The address in php-fpm-exporter's form.
    pub(crate) fn scrape_uri(&self) -> String {
        match self.asked().target() {
            Target::Unix(path) => format!("unix://{};{}", path.display(), self.path),
            Target::Tcp(host_port) => format!("tcp://{host_port}{}", self.path),
            _ => self.asked().to_string(),
        }
    }
}

/// The result of a query.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) pool: Pool,
    pub(crate) status: Result<Status, Trouble>,
    pub(crate) queue: Result<Queue, NoQueue>,
    pub(crate) at: Instant,
    pub(crate) took: Duration,
}

/// Why there is no status page.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) exit: Exit,
    /// What happened, and at which address.
    pub(crate) message: String,
    why: Why,
}

#[derive(Debug)]
enum Why {
    NoAnswer(Failed),
    Known(Option<Cause>),
}

impl Look {
    /// Why there is no status page, if that can be found out. It connects again to find out whose
    /// socket it is, so don't call it for repeated queries.
    pub(crate) fn cause(&self) -> Option<Cause> {
        match &self.status.as_ref().err()?.why {
            Why::NoAnswer(failed) => failed.cause(self.pool.asked()),
            Why::Known(cause) => cause.clone(),
        }
    }
}

impl Look {
    /// Queries the pool, within the budget.
    pub(crate) async fn take(pool: Pool, full: bool, budget: Budget) -> Self {
        let at = Instant::now();
        // Read it before our own request waits there too.
        let queue = sock_diag::accept_queue(&pool.address);
        let left = budget.left().unwrap_or(Duration::MAX);
        let queue = tokio::time::timeout(left, queue).await;
        let queue = queue.unwrap_or_else(|_| Err(NoQueue::NoAddress(slow_lookup())));
        let status = ask_status(&pool, full, &budget).await;
        Self { pool, status, queue, at, took: at.elapsed() }
    }

    /// How many callers wait, and how many may, from the kernel; otherwise from php-fpm, except for
    /// unix sockets, where it always says 0.
    pub(crate) fn waiting(&self) -> Option<(u64, u64)> {
        match (&self.queue, &self.status) {
            (Ok(queue), _) => Some((queue.waiting.into(), queue.limit.into())),
            (Err(_), Ok(status)) if !self.is_unix() => {
                Some((status.listen_queue, status.listen_queue_len))
            }
            _ => None,
        }
    }

    fn is_unix(&self) -> bool {
        matches!(self.pool.address.target(), Target::Unix(_))
    }

    /// `queue 5/4096 (kernel; php-fpm says 0)`.
    pub(crate) fn queue_line(&self) -> String {
        let says = self.status.as_ref().ok().map(|status| status.listen_queue);
        match (&self.queue, &self.status) {
            (Ok(queue), status) => {
                let Queue { waiting, limit } = queue;
                let says = match (status, says) {
                    (Ok(_), Some(says)) => format!("; php-fpm says {says}"),
                    _ => String::new(),
                };
                format!("queue {waiting}/{limit} (kernel{says})")
            }
            (Err(why), Ok(status)) => {
                let Status { listen_queue, listen_queue_len, .. } = status;
                let worth = if self.is_unix() { ", as always on unix sockets" } else { "" };
                format!(
                    "queue {listen_queue}/{listen_queue_len} (php-fpm says so{worth}; the kernel \
                     can't tell: {why})"
                )
            }
            (Err(why), Err(_)) => format!("queue not known (the kernel can't tell: {why})"),
        }
    }

    /// The pool's name, if php-fpm reported it.
    pub(crate) fn name(&self) -> Option<String> {
        self.status.as_ref().ok().map(|status| escape(status.pool.as_bytes(), b""))
    }
}

fn slow_lookup() -> std::io::Error {
    std::io::ErrorKind::TimedOut.into()
}

async fn ask_status(pool: &Pool, full: bool, budget: &Budget) -> Result<Status, Trouble> {
    let (address, path) = (pool.asked(), &pool.path);
    let query = if full { "json&full" } else { "json" };
    let request = ask::get(&format!("{path}?{query}"));
    let answer = ask::ask(address, request, budget, MOST).await.map_err(|failed| {
        let (exit, message) = (failed.exit(), chain(&failed).to_string());
        Trouble { exit, message, why: Why::NoAnswer(failed) }
    })?;
    if answer.head.parts.status != http::StatusCode::OK {
        let is_missing = matches!(answer.head.parts.status.as_u16(), 403 | 404);
        return Err(Trouble {
            exit: Exit::Unwanted,
            message: format!("{address}: {path} was answered with {}", answer.status_line()),
            why: Why::Known(match is_missing {
                true => Some(no_page(path)),
                false => causes::of_answer(&answer, path),
            }),
        });
    }
    // The requests that workers had may hold any byte.
    serde_json::from_str(&String::from_utf8_lossy(&answer.body)).map_err(|error| Trouble {
        exit: Exit::Unwanted,
        message: format!("{address}: {path} is not php-fpm's status page: {error}"),
        why: Why::Known(Some(Cause::new(
            "status-path",
            format!("something else answers there, or pm.status_path of the pool is not {path}"),
            "name the right path with --path; other applications than php-fpm have no such page",
        ))),
    })
}

fn no_page(path: &str) -> Cause {
    Cause::new(
        "status-path",
        format!("pm.status_path of the pool is not set, or is not {path}"),
        format!(
            "set `pm.status_path = {path}` in the pool's configuration and reload php-fpm, or name \
             the right one with --path"
        ),
    )
}
